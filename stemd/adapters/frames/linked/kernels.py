"""Which frames of several links are new, and frames copied into order: whole blocks in one call."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit


@njit(nogil=True, cache=True)
def claim(
    sequence: NDArray[np.int64], probe: NDArray[np.int64], came: NDArray[np.uint8]
) -> tuple[int, int]:
    """Mark the frames of a block in `came`; returns how many are new, and how many positions.

    `sequence` are frame numbers within the scan, `came` (frames,) is 1 where a frame is here. A
    frame that has come before, or that is none of the scan, loses its position: `probe` becomes
    -1. Some nanoseconds a frame; one caller at a time.
    """
    frames, positions = 0, 0
    for i in range(sequence.size):
        m = sequence[i]
        if m < 0 or m >= came.size or came[m] != 0:
            probe[i] = -1
            continue
        came[m] = 1
        frames += 1
        if probe[i] >= 0:
            positions += 1
    return frames, positions


@njit(nogil=True, cache=True)
def copy_frames(
    source: NDArray[np.uint8],
    size: int,
    frames: NDArray[np.int64],
    out: NDArray[np.uint8],
    slots: NDArray[np.int64],
) -> None:
    """Copy frame frames[k] of `source`, frames of `size` bytes, to slot slots[k] of `out`."""
    length = np.uint64(size)
    for k in range(frames.size):
        # unsigned: an index that may be negative keeps the compiler from copying many bytes at once
        begin, to = np.uint64(frames[k]) * length, np.uint64(slots[k]) * length
        for i in range(length):
            out[to + i] = source[begin + i]


def warm_up() -> None:
    """Compile both."""
    numbers, data = np.zeros(1, np.int64), np.zeros(1, np.uint8)
    claim(numbers, numbers.copy(), data.copy())
    copy_frames(data, 1, numbers, data.copy(), numbers)
