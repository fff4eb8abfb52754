"""Compiled binning of patterns into squares of whole detector pixels."""

from __future__ import annotations

import numpy as np

from stemd.compilation import njit
from stemd.engines.kernels.intrinsics import byte_swap, prefetch


@njit(nogil=True, cache=True)
def bin_squares(pixels, swap, offset, stride, width, count, wide, left, first, number, out):
    """Sum squares of wide x wide pixels of patterns 0..count-1, of which the used ones of each row
    of squares lie side by side.

    pixels: uint8 or uint16 (n,), a pattern's pixel (0, 0) of the first row of squares at `offset`,
    the next pattern's `stride` further on, bytes reversed if `swap`; width: of the detector; left,
    number: int64 (rows,), first column and number of squares of each row; first: int64 (rows,),
    where they go; out: int32 (count, squares). The caller guarantees that all lie on the detector
    and that sums fit. 0.2 ns a pixel.
    """
    across = 0
    for row in range(left.size):
        across = max(across, number[row] * wide)
    line = np.zeros(across, np.int32)
    for i in range(count):
        begin, sums = offset + i * stride, out[i]
        for row in range(left.size):
            span = number[row] * wide
            line[:span] = 0
            for y in range(wide):
                start = begin + (row * wide + y) * width + left[row]
                values = pixels[start : start + span]
                # rows jump about: no processor foresees those of the next pattern
                prefetch(pixels, start + stride)
                prefetch(pixels, start + stride + span)
                if swap:
                    for x in range(span):
                        line[x] += np.int32(byte_swap(values[x]))
                else:
                    for x in range(span):
                        line[x] += np.int32(values[x])
            part = sums[first[row] : first[row] + number[row]]
            if wide == 1:
                for k in range(part.size):
                    part[k] = line[k]
            elif wide == 2:
                for k in range(part.size):
                    part[k] = line[2 * k] + line[2 * k + 1]
            else:
                for k in range(part.size):
                    total = np.int32(0)
                    for x in range(k * wide, (k + 1) * wide):
                        total += line[x]
                    part[k] = total
