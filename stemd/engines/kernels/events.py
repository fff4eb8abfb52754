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


TOGETHER = 1024
"""Hits that are summed before the maps are touched: sums of each field below still fit."""
REACH = 2048
"""Positions over which they may lie, else they are added to the maps one by one."""
_FIELD = 26
"""Bits of a sum of 1024 coordinates. One number holds three sums: hits, of y and of x."""
_LOW = np.uint64((1 << _FIELD) - 1)
_GROUP, _LANE = 4, 16
"""Detectors that another number counts for, and the bits of each."""
_FULL = np.uint64((1 << _LANE) - 1)
_CELL = 4
"""Numbers that a position has while hits are summed; those behind REACH take what is nowhere."""
_SPREAD = np.array(
    [sum((bits >> d & 1) << (_LANE * d) for d in range(_GROUP)) for bits in range(1 << _GROUP)],
    np.uint64,
)


@njit(nogil=True, cache=True)
def _reach(probe: NDArray[np.int32], first: int, count: int) -> Any:
    """The first and the last position of hits first..first+count-1; (2^31 - 1, -1): none."""
    low, high = np.int32(0x7FFFFFFF), np.int32(-1)
    at = np.uintp(first)
    for k in range(np.uintp(count)):
        p = probe[at + k]
        if p > high:
            high = p
        p = np.int32(0x7FFFFFFF) if p < 0 else p
        if p < low:
            low = p
    return low, high


@njit(nogil=True, cache=True)
def _pack(
    probe: NDArray[np.int32],
    yx: NDArray[np.uint32],
    dwell_ns: NDArray[np.float32],
    first: int,
    count: int,
    low: int,
    acceptance_ns: float,
    width: int,
    cells: NDArray[np.int32],
    moments: NDArray[np.uint64],
    pixels: NDArray[np.int32],
) -> int:
    """The cell of each hit's position from `low` on, its sums, its pixel; returns hits that count.

    Those that do not have a cell of their own.
    """
    at = np.uintp(first)
    counted: Any = 0
    for k in range(np.uintp(count)):
        place = yx[at + k]
        y, x = np.int64(place >> np.uint32(16)), np.int64(place & np.uint32(0xFFFF))
        position = np.int64(probe[at + k])
        counted += position >= 0
        cells[k] = np.int32(_CELL * (position - low if position >= 0 else REACH))
        moments[k] = np.uint64(np.int64(1) << (2 * _FIELD) | y << _FIELD | x)
        pixels[k] = np.int32(y * width + x)
    if acceptance_ns > 0.0:
        nowhere = np.int32(_CELL * REACH)
        for k in range(np.uintp(count)):
            late = dwell_ns[at + k] >= acceptance_ns
            counted -= late and cells[k] != nowhere
            cells[k] = nowhere if late else cells[k]
    return int(counted)


@njit(nogil=True, cache=True)
def _sum_by_position(
    cells: NDArray[np.int32],
    moments: NDArray[np.uint64],
    pixels: NDArray[np.int32],
    count: int,
    lookup: NDArray[np.unsignedinteger],
    detecting: bool,
    sums: NDArray[np.uint64],
) -> None:
    """Sum hits by position: two sums of moments a cell, two of detectors 0 to 3.

    Hits that follow one another are mostly of one position, so one sum would wait for itself.
    """
    half = np.uintp(count >> 1)
    for k in range(half):
        here, there = np.uintp(cells[k]), np.uintp(cells[half + k] + 1)
        sums[here] += moments[k]
        sums[there] += moments[half + k]
        if detecting:
            sums[here + np.uintp(2)] += _SPREAD[np.uintp(lookup[np.uintp(pixels[k])] & 15)]
            sums[there + np.uintp(2)] += _SPREAD[np.uintp(lookup[np.uintp(pixels[half + k])] & 15)]
    if count & 1:
        last = np.uintp(count - 1)
        here = np.uintp(cells[last])
        sums[here] += moments[last]
        if detecting:
            sums[here + np.uintp(2)] += _SPREAD[np.uintp(lookup[np.uintp(pixels[last])] & 15)]


@njit(nogil=True, cache=True)
def _to_maps(
    sums: NDArray[np.uint64],
    low: int,
    reach: int,
    total: NDArray[np.int64],
    moment_y: NDArray[np.int64],
    moment_x: NDArray[np.int64],
    detectors: NDArray[np.int64],
) -> None:
    """Add the sums of positions low..low+reach-1 to the maps, and make them zeros again."""
    stop = min(_GROUP, detectors.shape[0])
    for cell in range(np.uintp(reach)):
        at = np.uintp(_CELL) * cell
        found = sums[at] + sums[at + np.uintp(1)]
        if found:
            to = np.uintp(low) + cell
            total[to] += np.int64(found >> np.uint64(2 * _FIELD))
            moment_y[to] += np.int64((found >> np.uint64(_FIELD)) & _LOW)
            moment_x[to] += np.int64(found & _LOW)
            if stop:
                found = sums[at + np.uintp(2)] + sums[at + np.uintp(3)]
                for d in range(stop):
                    detectors[d, to] += np.int64((found >> np.uint64(_LANE * d)) & _FULL)
            for k in range(np.uintp(_CELL)):
                sums[at + k] = np.uint64(0)


@njit(nogil=True, cache=True)
def _add_group(
    cells: NDArray[np.int32],
    pixels: NDArray[np.int32],
    count: int,
    lookup: NDArray[np.unsignedinteger],
    sums: NDArray[np.uint64],
    low: int,
    reach: int,
    first: int,
    detectors: NDArray[np.int64],
) -> None:
    """Detectors first..first+3 of the same hits to the maps, by the same sums."""
    for k in range(np.uintp(count)):
        bits = np.int64(lookup[np.uintp(pixels[k])]) >> first & 15
        sums[np.uintp(cells[k])] += _SPREAD[np.uintp(bits)]
    stop = min(first + _GROUP, detectors.shape[0])
    for cell in range(np.uintp(reach)):
        at = np.uintp(_CELL) * cell
        found = sums[at]
        sums[at] = np.uint64(0)
        for d in range(first, stop if found else first):
            part = (found >> np.uint64(_LANE * (d - first))) & _FULL
            detectors[d, np.uintp(low) + cell] += np.int64(part)


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
    numbers, width = detectors.shape[0], lookup.shape[1]
    sums, look = np.zeros(_CELL * (REACH + 1), np.uint64), lookup.reshape(-1)
    cells, pixels = np.empty(TOGETHER, np.int32), np.empty(TOGETHER, np.int32)
    moments = np.empty(TOGETHER, np.uint64)
    counted = 0
    for first in range(0, count, TOGETHER):
        some = min(TOGETHER, count - first)
        low, high = _reach(probe, first, some)
        reach = high - low + 1
        if high < 0:
            continue
        if reach > REACH:
            counted += _add_singly(
                probe, yx, dwell_ns, first, first + some, acceptance_ns, lookup,
                total, moment_y, moment_x, detectors,
            )  # fmt: skip
            continue
        counted += _pack(
            probe, yx, dwell_ns, first, some, low, acceptance_ns, width, cells, moments, pixels
        )
        _sum_by_position(cells, moments, pixels, some, look, numbers > 0, sums)
        _to_maps(sums, low, reach, total, moment_y, moment_x, detectors)
        for group in range(_GROUP, numbers, _GROUP):
            _add_group(cells, pixels, some, look, sums, low, reach, group, detectors)
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
