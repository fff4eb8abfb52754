"""Marks of frames: two frames with the same bytes have the same, of 65,536 others one.

Of each frame of a scan one is kept, of two bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit

_HEAD = 128
_PIECES, _PIECE = 8, 16
"""Bytes that are looked at: the first ones, which hold the time in many headers, and pieces of a
frame all over it. A quarter of a microsecond a frame."""


@njit(nogil=True, cache=True)
def mark_frames(
    data: NDArray[np.uint8],
    bounds: NDArray[np.int64],
    first: int,
    stop: int,
    marks: NDArray[np.uint16],
) -> None:
    """Write the marks, never 0, of frames first..stop-1 into `marks`.

    Frame i is the bytes bounds[i]..bounds[i+1]-1.
    """
    mix = np.uint64(0x9E3779B97F4A7C15)
    for i in range(first, stop):
        begin = bounds[i]
        size = bounds[i + 1] - begin
        head = min(size, _HEAD)
        step = (size - head) // _PIECES
        piece = min(step, _PIECE)
        total = np.uint64(0)
        weight = mix
        for k in range(head):
            weight += mix
            total += (np.uint64(data[begin + k]) + np.uint64(1)) * (weight ^ (weight >> 29))
        for p in range(_PIECES):
            at = begin + head + p * step
            for k in range(piece):
                weight += mix
                total += (np.uint64(data[at + k]) + np.uint64(1)) * (weight ^ (weight >> 29))
        total = (total ^ (total >> 32)) * mix
        total = (total ^ (total >> 29)) * mix
        marks[i] = max(np.uint64(1), total >> 48)
