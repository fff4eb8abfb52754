"""Kernels over electron hits: integer maps without any frame, and hits into patterns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit

MAX_DETECTORS = 32
LANES = 8


def membership(masks: Sequence[NDArray[np.bool_]], shape: tuple[int, int]) -> NDArray[Any]:
    """Bit d of pixel [y, x] set where pixel (y, x) belongs to virtual detector d.

    `masks`: up to 32 boolean images (y, x) of `shape`. The look-up of `accumulate`; uint8 for up
    to 8 detectors, which stays in cache, else uint32.
    """
    if len(masks) > MAX_DETECTORS:
        raise ValueError(f"{len(masks)} virtual detectors; at most {MAX_DETECTORS} on events")
    lookup = np.zeros(shape, np.uint32)
    for index, mask in enumerate(masks):
        lookup |= np.where(mask, np.uint32(1 << index), np.uint32(0))
    return lookup.astype(np.uint8) if len(masks) <= LANES else lookup


_SPREAD = np.array(
    [sum((byte >> bit & 1) << (8 * bit) for bit in range(LANES)) for byte in range(256)], np.uint64
)
"""Eight bits to the lowest bits of eight bytes: one addition counts for eight detectors."""
_LANE_FULL = 255


@njit(nogil=True, cache=True)
def _add_lanes(detectors: NDArray[np.int64], first: int, position: Any, lanes: Any) -> None:
    """Add eight counts of one byte each to the maps of detectors first..first+7."""
    for d in range(first, min(first + LANES, detectors.shape[0])):
        detectors[d, position] += np.int64((lanes >> np.uint64(8 * (d - first))) & np.uint64(255))


@njit(nogil=True, cache=True)
def accumulate(
    probe: NDArray[np.int32],
    yx: NDArray[np.uint32],
    dwell_ns: NDArray[np.float32],
    count: int,
    acceptance_ns: float,
    lookup: NDArray[np.unsignedinteger],
    total: NDArray[np.int64],
    moment_y: NDArray[np.int64],
    moment_x: NDArray[np.int64],
    detectors: NDArray[np.int64],
) -> int:
    """Add hits to the maps: total[p] += 1, moment_y[p] += y, moment_x[p] += x, detectors[d, p].

    Event form of the sums in the COM (Friedrich, PhD thesis, Antwerp 2023, equation 3.1); a hit
    counts one. Hit i < count: `probe[i]` flat position (negative: skipped), `yx[i]` =
    y << 16 | x in detector pixels, `dwell_ns[i]` < acceptance_ns or it is skipped
    (acceptance_ns 0 or less: all count and `dwell_ns` is not read). `lookup` (height, width)
    from `membership`, `detectors` (detectors, positions). All sums are exact int64, so order
    and blocks do not matter. Returns the hits counted. Hits of one position that follow one
    another are summed in registers: 1 to 3 ns a hit from cache, 1 to 2 more with up to eight
    detectors. The caller guarantees probe < positions and (y, x) within `lookup`.
    """
    numbers = detectors.shape[0]
    counted: Any = 0
    position = np.int64(-1)
    n: Any = np.int64(0)
    sum_y: Any = np.int64(0)
    sum_x: Any = np.int64(0)
    lanes: Any = np.uint64(0)
    for i in range(count):
        p = np.int64(probe[i])
        if p < 0 or (acceptance_ns > 0.0 and dwell_ns[i] >= acceptance_ns):
            continue
        if p != position or n == _LANE_FULL:
            if n:
                total[position] += n
                moment_y[position] += sum_y
                moment_x[position] += sum_x
                if numbers:
                    _add_lanes(detectors, 0, position, lanes)
                counted += n
            position = p
            n = sum_y = sum_x = np.int64(0)
            lanes = np.uint64(0)
        place = yx[i]
        y = place >> np.uint32(16)
        x = place & np.uint32(0xFFFF)
        n += 1
        sum_y += np.int64(y)
        sum_x += np.int64(x)
        if numbers:
            bits = lookup[y, x]
            lanes += _SPREAD[bits & 255]
            for d in range(LANES, numbers):
                detectors[d, p] += (bits >> d) & 1
    if n:
        total[position] += n
        moment_y[position] += sum_y
        moment_x[position] += sum_x
        if numbers:
            _add_lanes(detectors, 0, position, lanes)
        counted += n
    return int(counted)


@njit(nogil=True, cache=True)
def add_to_pattern(
    probe: NDArray[np.int32],
    yx: NDArray[np.uint32],
    dwell_ns: NDArray[np.float32],
    count: int,
    acceptance_ns: float,
    pattern: NDArray[np.int64],
) -> int:
    """Add hits that have a position to one pattern (y, x), exact: PACBED straight from events.

    Arguments as in `accumulate`; `pattern` (height, width) int64. Returns the hits counted.
    """
    counted = 0
    for i in range(count):
        if probe[i] < 0 or (acceptance_ns > 0.0 and dwell_ns[i] >= acceptance_ns):
            continue
        pattern[yx[i] >> 16, yx[i] & 0xFFFF] += 1
        counted += 1
    return counted
