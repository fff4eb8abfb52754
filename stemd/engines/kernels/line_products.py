"""The innermost loops of a phase image that grows line by line, as LLVM vector code.

Sums stay in registers, which compilers do not find where arrays might overlap.
"""

from __future__ import annotations

from typing import Any

from stemd.compilation import intrinsic, later
from stemd.engines.kernels.floats import Floats, data_of

types = later("numba.core.types")
cgutils = later("numba.core.cgutils")

EIGHT, HALF = 8, 4
ROWS = 32
"""Rows of a kernel that are added at once; kernels are padded to a multiple of it."""


def _mix_eight(
    typing_context: Any,
    counts: Any,
    first: Any,
    last: Any,
    kept: Any,
    columns: Any,
    weights: Any,
    components: Any,
    at: Any,
    offset: Any,
    there: Any,
    real: Any,
    imag: Any,
    lanes: Any,
    to: Any,
) -> Any:
    """Components at..at+7 of the positions first..first+7 of a line, as far as `last`.

    counts: float32, flat, `kept` cells a position; columns: int64 (cells,); weights: float32,
    flat, `components` a cell; offset: float32 (components,); there: float32 (positions,), 1 or 0,
    by which the sum is multiplied; real, imag: float32, flat, `lanes` a position, written from
    lane `to` on.
    """

    def codegen(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        f = Floats(b)
        counts, columns, weights, offset, there, real, imag = (
            data_of(context, b, signature, arguments, index) for index in (0, 4, 5, 8, 9, 10, 11)
        )
        first, last, kept, components, at, lanes, to = (
            arguments[index] for index in (1, 2, 3, 6, 7, 12, 13)
        )
        cells = context.make_array(signature.args[4])(context, b, arguments[4]).nitems
        places = []
        for number in range(EIGHT):
            place = b.add(first, f.number(number))
            places.append(b.select(b.icmp_signed("<", place, last), place, last))
        rows = [b.gep(counts, [b.mul(place, kept)]) for place in places]
        start = f.vector(b.gep(offset, [at]), EIGHT)
        sums = [cgutils.alloca_once_value(b, start) for _ in places]
        for each in sums:
            b.store(start, each)
        mixing = b.gep(weights, [at])
        with cgutils.for_range(b, cells) as loop:
            weight = f.vector(b.gep(mixing, [b.mul(loop.index, components)]), EIGHT)
            column = b.load(b.gep(columns, [loop.index]))
            for row, each in zip(rows, sums, strict=True):
                count = f.everywhere(b.load(b.gep(row, [column])), EIGHT)
                f.add_product(each, count, weight)
        for place, each in zip(places, sums, strict=True):
            value = b.fmul(b.load(each), f.everywhere(b.load(b.gep(there, [place])), EIGHT))
            here = b.add(b.mul(place, lanes), to)
            for goal, part in ((real, 0), (imag, HALF)):
                f.store(f.part(value, part, HALF), b.gep(goal, [here]))
        return context.get_dummy_value()

    n = types.int64
    result = types.void(
        counts, n, n, n, columns, weights, n, n, offset, there, real, imag, n, n
    )  # fmt: skip
    return result, codegen


def _add_rows(
    typing_context: Any,
    kernel_real: Any,
    kernel_imag: Any,
    kernel: Any,
    rows: Any,
    real: Any,
    imag: Any,
    first: Any,
    components: Any,
    image_real: Any,
    image_imag: Any,
    to: Any,
) -> Any:
    """image[to + d] += sum_j kernel[kernel + j*rows + d] value[first + j], complex, d < ROWS.

    All arrays float32, flat; j < components.
    """

    def codegen(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        f = Floats(b)
        kernel_real, kernel_imag, real, imag, image_real, image_imag = (
            data_of(context, b, signature, arguments, index) for index in (0, 1, 4, 5, 8, 9)
        )
        kernel, rows, first, components, to = (arguments[index] for index in (2, 3, 6, 7, 10))
        goals = [b.gep(image, [to]) for image in (image_real, image_imag)]
        sums = []
        for goal in goals:
            value = f.vector(goal, ROWS)
            sums.append(cgutils.alloca_once_value(b, value))
            b.store(value, sums[-1])
        re, im = sums
        with cgutils.for_range(b, components) as loop:
            place = b.add(kernel, b.mul(loop.index, rows))
            k_re, k_im = (
                f.vector(b.gep(part, [place]), ROWS) for part in (kernel_real, kernel_imag)
            )
            here = b.add(first, loop.index)
            v_re, v_im = (f.everywhere(b.load(b.gep(part, [here])), ROWS) for part in (real, imag))
            f.add_product(re, k_re, v_re)
            f.add_product(im, k_re, v_im)
            f.add_product(re, k_im, v_im, minus=True)
            f.add_product(im, k_im, v_re)
        for each, goal in zip(sums, goals, strict=True):
            f.store(b.load(each), goal)
        return context.get_dummy_value()

    n = types.int64
    result = types.void(
        kernel_real, kernel_imag, n, n, real, imag, n, n, image_real, image_imag, n
    )  # fmt: skip
    return result, codegen


mix_eight: Any = intrinsic(_mix_eight)
add_rows: Any = intrinsic(_add_rows)
