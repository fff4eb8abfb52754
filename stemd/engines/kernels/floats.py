"""Vectors of single-precision numbers as LLVM code."""

from __future__ import annotations

from typing import Any

from stemd.compilation import later

ir = later("llvmlite.ir")


class Floats:
    """Instructions on vectors of float32."""

    def __init__(self, builder: Any) -> None:
        self.b = builder
        self.float, self.long = ir.FloatType(), ir.IntType(64)

    def number(self, value: int) -> Any:
        """A 64-bit constant."""
        return ir.Constant(self.long, value)

    def vector(self, pointer: Any, lanes: int) -> Any:
        """So many numbers from a pointer to the first, at any address."""
        kind = ir.VectorType(self.float, lanes)
        loaded = self.b.load(self.b.bitcast(pointer, kind.as_pointer()))
        loaded.align = 4
        return loaded

    def store(self, value: Any, pointer: Any) -> None:
        """A vector to a pointer to its first number, at any address."""
        self.b.store(value, self.b.bitcast(pointer, value.type.as_pointer())).align = 4

    def everywhere(self, value: Any, lanes: int) -> Any:
        """A vector of the same number."""
        nothing = ir.Constant(ir.VectorType(self.float, lanes), ir.Undefined)
        one = self.b.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
        first = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        return self.b.shuffle_vector(one, nothing, first)

    def part(self, vector: Any, first: int, lanes: int) -> Any:
        """Some of the lanes."""
        kind = ir.VectorType(ir.IntType(32), lanes)
        chosen = ir.Constant(kind, list(range(first, first + lanes)))
        return self.b.shuffle_vector(vector, vector, chosen)

    def add_product(self, variable: Any, one: Any, other: Any, *, minus: bool = False) -> None:
        """Add to a variable what two vectors give, or take it off."""
        product = self.b.fmul(one, other, flags=["contract"])
        combine = self.b.fsub if minus else self.b.fadd
        self.b.store(combine(self.b.load(variable), product, flags=["contract"]), variable)


def data_of(context: Any, b: Any, signature: Any, arguments: Any, index: int) -> Any:
    """The address of the first number of an array that is an argument."""
    return context.make_array(signature.args[index])(context, b, arguments[index]).data
