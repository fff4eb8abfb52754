"""Planes of bits turned into values, 64 at a time: vector code that NumPy has no name for.

LLVM is told what moves where; on processors with AVX-512 each step is an instruction or two, on
others some more.
"""

from __future__ import annotations

from typing import Any

from stemd.adapters.dectris.kernels.memory import address
from stemd.compilation import intrinsic, later

ir, types = later("llvmlite.ir"), later("numba.core.types")

VALUES = 64
"""Values that one call makes: 8 bytes of each plane."""

_STEPS = ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0))
"""Of Warren, Hacker's Delight, 7-3: a matrix of 8 x 8 bits, rows as bytes, is transposed."""


def _same(vector: Any, value: int) -> Any:
    return ir.Constant(vector, [value] * vector.count)


def _shuffled(builder: Any, one: Any, other: Any, places: list[int]) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
    return builder.shuffle_vector(one, other, mask)


def _interleaved(builder: Any, one: Any, other: Any) -> Any:
    """The elements of two vectors in turn."""
    count = one.type.count
    return _shuffled(builder, one, other, [i + j * count for i in range(count) for j in (0, 1)])


def _byte_of_values(builder: Any, planes: Any, at: Any, step: Any, first: int) -> Any:
    """One byte of each of 64 values, <64 x i8>, from the eight planes from `first` on."""
    words = ir.Constant(ir.VectorType(ir.IntType(64), 8), ir.Undefined)
    for k in range(8):
        place = builder.add(at, builder.mul(step, ir.Constant(ir.IntType(64), first + k)))
        word = builder.load(address(builder, planes, place, ir.IntType(64)))
        word.align = 1
        words = builder.insert_element(words, word, ir.Constant(ir.IntType(32), k))
    rows = builder.bitcast(words, ir.VectorType(ir.IntType(8), 64))
    turned = _shuffled(builder, rows, rows, [8 * k + g for g in range(8) for k in range(8)])
    x = builder.bitcast(turned, words.type)
    for shift, mask in _STEPS:
        distance = _same(x.type, shift)
        t = builder.and_(builder.xor(x, builder.lshr(x, distance)), _same(x.type, mask))
        x = builder.xor(builder.xor(x, t), builder.shl(t, distance))
    return builder.bitcast(x, rows.type)


def _values(builder: Any, parts: list[Any]) -> Any:
    """Values of as many bytes as there are parts, the lowest byte first."""
    while len(parts) > 1:
        pairs = [_interleaved(builder, *parts[i : i + 2]) for i in range(0, len(parts), 2)]
        wide = ir.IntType(2 * parts[0].type.element.width)
        parts = [builder.bitcast(pair, ir.VectorType(wide, VALUES)) for pair in pairs]
    return parts[0]


def _turner(size: int) -> Any:
    def typed(
        typing_context: Any, planes: Any, at: Any, step: Any, out: Any, to: Any, clean: Any
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            source, target = (
                context.make_array(signature.args[i])(context, builder, arguments[i]).data
                for i in (0, 3)
            )
            _, begin, width, _, end, cleans = arguments
            parts = [_byte_of_values(builder, source, begin, width, 8 * b) for b in range(size)]
            values = _values(builder, parts)
            none = _same(values.type, 0)
            most = builder.icmp_unsigned("==", values, _same(values.type, -1))
            cleaned = builder.select(most, none, values)
            values = builder.select(cleans, cleaned, values)
            builder.store(values, address(builder, target, end, values.type)).align = 1
            return context.get_dummy_value()

        return types.void(planes, at, step, out, to, clean), codegen

    return intrinsic(typed)


turn_1: Any = _turner(1)
"""turn_1(planes, at, step, out, to, clean): 64 values of one byte to out[to:], from 8 bytes of each
of the planes that begin at `at`, `at + step`, ...; `clean`: the type's maximum becomes 0. All of
uint8, unchecked."""
turn_2: Any = _turner(2)
"""The same for values of two bytes."""
turn_4: Any = _turner(4)
"""The same for values of four bytes."""
