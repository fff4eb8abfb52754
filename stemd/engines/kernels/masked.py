"""Hits on masked detector pixels are left out before anything is made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit


def bits_of(mask: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """One bit a pixel (y, x), bit i % 64 of word i // 64 for i = y*width + x.

    So the mask of a whole camera stays in the nearest cache.
    """
    flat = np.zeros(-(-mask.size // 64) * 64, np.bool_)
    flat[: mask.size] = mask.ravel()
    return np.packbits(flat, bitorder="little").view("<u8").astype(np.uint64)


@njit(nogil=True, cache=True)
def leave_out_hits(
    probe: NDArray[np.int32],
    yx: NDArray[np.uint32],
    count: int,
    width: int,
    bits: NDArray[np.uint64],
) -> None:
    """Hits on masked pixels get no position: probe[i] = -1 for i < count.

    yx: y << 16 | x; width: of the detector; bits: from `bits_of`. Below 1 ns a hit. The caller
    guarantees that hits are on the detector.
    """
    for i in range(count):
        place = yx[i]
        pixel: Any = np.int64(place >> np.uint32(16)) * width + np.int64(place & np.uint32(0xFFFF))
        if (bits[pixel >> 6] >> np.uint64(pixel & 63)) & np.uint64(1):
            probe[i] = -1
