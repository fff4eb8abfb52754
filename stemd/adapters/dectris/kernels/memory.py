"""Moves of 16 and 32 bytes at any address: what LZ4 is made of, and what NumPy has no name for."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

SLACK_BYTES = 32
"""Moves may touch so many bytes behind what they are asked for: whoever calls has them there."""


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any, bits: int) -> Any:
    view = context.make_array(kind)(context, builder, array)
    return builder.bitcast(builder.gep(view.data, [index]), ir.IntType(bits).as_pointer())


def _mover(bits: int) -> Any:
    def typed(typing_context: Any, target: Any, to: Any, source: Any, at: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kinds = signature.args
            into = _pointer(context, builder, kinds[0], arguments[0], arguments[1], bits)
            out_of = _pointer(context, builder, kinds[2], arguments[2], arguments[3], bits)
            value = builder.load(out_of)
            value.align = 1
            builder.store(value, into).align = 1
            return context.get_dummy_value()

        return types.void(target, to, source, at), codegen

    return intrinsic(typed)


move_16: Any = _mover(128)
"""move_16(target, to, source, at): copy source[at:at+16] to target[to:to+16], uint8, unchecked."""
move_32: Any = _mover(256)
"""The same for 32 bytes."""
