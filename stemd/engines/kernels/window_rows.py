"""The innermost loop of riCOM's growing image, as LLVM vector code."""

from __future__ import annotations

from typing import Any

from stemd.compilation import intrinsic, later
from stemd.engines.kernels.floats import Floats, data_of

ir, types = later("llvmlite.ir"), later("numba.core.types")
cgutils = later("numba.core.cgutils")

TOGETHER = 4
"""Neighbouring positions of a line that are added in one go over the image."""
BLOCK = 16
"""Pixels of a row that are added at once."""


def _two_rows(
    fresh: bool,
    typing_context: Any,
    kernel_y: Any,
    kernel_x: Any,
    kernel: Any,
    vectors: Any,
    blocks: Any,
    below: Any,
    below_at: Any,
    above: Any,
    above_at: Any,
) -> Any:
    """What TOGETHER positions add to the rows d below and d above them, d >= 0.

    With Y = sum_p K_y(d, i - p) y_p, X = sum_p K_x(d, i - p) x_p: below[below_at + i] += X + Y,
    above[above_at + i] += X - Y for i < BLOCK * blocks, since K_y is odd in d and K_x even.
    kernel_y, kernel_x: float32, flat, the row from number `kernel` on, which belongs to pixel 0 of
    the last position; vectors: float32 (2, TOGETHER) of y and x, flat; below, above: float32, flat.
    """

    def codegen(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        f = Floats(b)
        k_y, k_x, vectors, below, above = (
            data_of(context, b, signature, arguments, index) for index in (0, 1, 3, 5, 7)
        )
        kernel, blocks, below_at, above_at = (arguments[index] for index in (2, 4, 6, 8))
        parts = [
            f.everywhere(b.load(b.gep(vectors, [f.number(index)])), BLOCK)
            for index in range(2 * TOGETHER)
        ]
        goals = b.gep(below, [below_at]), b.gep(above, [above_at])
        nothing = ir.Constant(ir.VectorType(f.float, BLOCK), None)
        with cgutils.for_range(b, blocks) as loop:
            pixel = b.mul(loop.index, f.number(BLOCK))
            here = b.add(kernel, pixel)
            sums = []
            for number, rows in enumerate((k_y, k_x)):
                total = nothing
                for p in range(TOGETHER):
                    place = b.add(here, f.number(TOGETHER - 1 - p))
                    row = f.vector(b.gep(rows, [place]), BLOCK)
                    product = b.fmul(row, parts[number * TOGETHER + p], flags=["contract"])
                    total = b.fadd(total, product, flags=["contract"]) if p else product
                sums.append(total)
            y, x = sums
            for goal, change in zip(goals, (b.fadd(x, y), b.fsub(x, y)), strict=True):
                place = b.gep(goal, [pixel])
                f.store(change if fresh else b.fadd(f.vector(place, BLOCK), change), place)
        return context.get_dummy_value()

    n = types.int64
    result = types.void(kernel_y, kernel_x, n, vectors, n, below, n, above, n)
    return result, codegen


def _add_two_rows(
    typing_context: Any, k_y: Any, k_x: Any, k: Any, v: Any, n: Any, b: Any, i: Any, a: Any, j: Any
) -> Any:
    """As `_two_rows`."""
    return _two_rows(False, typing_context, k_y, k_x, k, v, n, b, i, a, j)


def _make_two_rows(
    typing_context: Any, k_y: Any, k_x: Any, k: Any, v: Any, n: Any, b: Any, i: Any, a: Any, j: Any
) -> Any:
    """As `_two_rows`, but that the rows are written and not added to."""
    return _two_rows(True, typing_context, k_y, k_x, k, v, n, b, i, a, j)


add_two_rows: Any = intrinsic(_add_two_rows)
make_two_rows: Any = intrinsic(_make_two_rows)
