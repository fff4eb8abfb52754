"""Moves of 16 and 32 bytes at any address: what LZ4 is made of, and what NumPy has no name for."""

from __future__ import annotations

from typing import Any

from stemd.compilation import intrinsic, later

ir, types = later("llvmlite.ir"), later("numba.core.types")


SLACK_BYTES = 32
"""Moves may touch so many bytes behind what they are asked for: whoever calls has them there."""


def address(builder: Any, data: Any, index: Any, kind: Any) -> Any:
    """Where a value of this kind stands, `index` bytes behind `data`."""
    return builder.bitcast(builder.gep(data, [index]), kind.as_pointer())


def _data(context: Any, builder: Any, signature: Any, arguments: Any, which: int) -> Any:
    return context.make_array(signature.args[which])(context, builder, arguments[which]).data


def _mover(bits: int) -> Any:
    def typed(typing_context: Any, target: Any, to: Any, source: Any, at: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            into, out_of = (_data(context, builder, signature, arguments, i) for i in (0, 2))
            kind = ir.IntType(bits)
            value = builder.load(address(builder, out_of, arguments[3], kind))
            value.align = 1
            builder.store(value, address(builder, into, arguments[1], kind)).align = 1
            return context.get_dummy_value()

        return types.void(target, to, source, at), codegen

    return intrinsic(typed)


move_16: Any = _mover(128)
"""move_16(target, to, source, at): copy source[at:at+16] to target[to:to+16], uint8, unchecked."""
move_32: Any = _mover(256)
"""The same for 32 bytes."""
