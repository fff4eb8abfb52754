"""Kernels over electron hits: integer maps without any frame, and hits into patterns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit
from stemd.engines.kernels.hit_sums import (
    REACH,
    SUMS,
    TOGETHER,
    add_sums,
    field_bits,
    pack,
    reach_of,
)

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


@njit(nogil=True, cache=True)
def _add_singly(
    probe: NDArray[np.int32],
    yx: NDArray[np.uint32],
    dwell_ns: NDArray[np.float32],
    first: int,
    stop: int,
    acceptance_ns: float,
    lookup: NDArray[np.unsignedinteger],
    total: NDArray[np.int64],
    moment_y: NDArray[np.int64],
    moment_x: NDArray[np.int64],
    detectors: NDArray[np.int64],
) -> int:
    """Add hits to the maps one by one, wherever they lie; returns those that count."""
    counted = 0
    for i in range(first, stop):
        p = np.int64(probe[i])
        if p < 0 or (acceptance_ns > 0.0 and dwell_ns[i] >= acceptance_ns):
            continue
        y, x = yx[i] >> np.uint32(16), yx[i] & np.uint32(0xFFFF)
        total[p] += 1
        moment_y[p] += np.int64(y)
        moment_x[p] += np.int64(x)
        counted += 1
        if detectors.shape[0]:
            bits = lookup[y, x]
            for d in range(detectors.shape[0]):
                detectors[d, p] += (bits >> d) & 1
    return counted


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
    and blocks do not matter. Returns the hits counted. TOGETHER hits are summed by position in
    the nearest cache, without a branch, before the maps are touched. The caller guarantees
    probe < positions and (y, x) within `lookup`.
    """
    height, width = lookup.shape
    field = field_bits(height, width)
    sums, look = np.zeros(SUMS, np.uint64), lookup.reshape(-1)
    cells, pixels = np.empty(TOGETHER, np.int32), np.empty(TOGETHER, np.int32)
    moments = np.empty(TOGETHER, np.uint64)
    counted = 0
    for first in range(0, count, TOGETHER):
        some = min(TOGETHER, count - first)
        low, high = reach_of(probe, first, some)
        reach = high - low + 1
        if high < 0:
            continue
        if reach > REACH:
            counted += _add_singly(
                probe, yx, dwell_ns, first, first + some, acceptance_ns, lookup,
                total, moment_y, moment_x, detectors,
            )  # fmt: skip
            continue
        counted += pack(
            probe, yx, dwell_ns, first, some, low, acceptance_ns, width, field,
            cells, moments, pixels,
        )  # fmt: skip
        add_sums(
            cells, moments, pixels, some, look, field, sums, low, reach,
            total, moment_y, moment_x, detectors,
        )  # fmt: skip
    return counted


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
