"""Whole patterns added up, pixel by pixel."""

from __future__ import annotations

import numpy as np

from stemd.compilation import njit
from stemd.engines.kernels.intrinsics import byte_swap


@njit(nogil=True, cache=True)
def add_patterns(wire, like, swap, offset, stride, count, probe, mean):
    """Add every pattern that belongs to a position to `mean`; returns how many.

    wire, like, swap, offset, stride, count, probe: as for `reduce_frames`. mean: int64
    (height * width,), added to. Reads each pixel once; takes patterns in pairs to halve the
    traffic of the accumulator.
    """
    n = mean.size
    used = np.empty(count, np.int64)
    found = 0
    for frame in range(count):
        if probe[frame] >= 0:
            used[found] = offset + frame * stride
            found += 1
    zero = np.int64(0)
    size = n * like.itemsize
    pair = 0
    while pair + 1 < found:
        a = wire[used[pair] : used[pair] + size].view(like.dtype)
        b = wire[used[pair + 1] : used[pair + 1] + size].view(like.dtype)
        if swap:
            for i in range(n):
                mean[i] += (zero + byte_swap(a[i])) + (zero + byte_swap(b[i]))
        else:
            for i in range(n):
                mean[i] += (zero + a[i]) + (zero + b[i])
        pair += 2
    if pair < found:
        a = wire[used[pair] : used[pair] + size].view(like.dtype)
        if swap:
            for i in range(n):
                mean[i] += zero + byte_swap(a[i])
        else:
            for i in range(n):
                mean[i] += zero + a[i]
    return found
