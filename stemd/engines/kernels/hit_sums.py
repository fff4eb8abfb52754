"""Sums of some electron hits by position, in the nearest cache, before the maps are touched."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit

TOGETHER = 1024
"""Hits that are summed before the maps are touched: sums of each field below still fit."""
REACH = 2048
"""Positions over which they may lie, else they are added to the maps one by one."""
_CELL = 8
"""Numbers that a position has while hits are summed, a line of the caches. Hits that follow one
another are mostly of one position, and would wait for each other's sum: each of eight has a number
of its own, or each of four has two. The position behind REACH takes what is nowhere."""
SUMS = _CELL * (REACH + 1)

# A number holds sums of x, of y (above it) and of hits (above both); where coordinates are small
# enough there is room for the hits on one virtual detector above these.
_NARROW, _WIDE = 20, 26
"""Bits of a sum of 1024 coordinates: of detectors of up to 1024 pixels, and of larger ones."""
_COUNT = 11
"""Bits of a count of up to 1024 hits."""
_BESIDE = 2 * _NARROW + _COUNT
"""The first bit of those on one virtual detector."""
GROUP, _LANE = 5, 12
"""Virtual detectors that another number counts for, and the bits of each."""


_MOST = (1 << GROUP) - 1
_SPREAD = np.array(
    [sum((bits >> d & 1) << (_LANE * d) for d in range(GROUP)) for bits in range(1 << GROUP)],
    np.uint64,
)


@njit(nogil=True, cache=True)
def field_bits(height: int, width: int) -> int:
    """Bits of a sum of coordinates on a detector of this size."""
    return _NARROW if max(height, width) <= 1 << (_NARROW - 10) else _WIDE


@njit(nogil=True, cache=True)
def reach_of(probe: NDArray[np.int32], first: int, count: int) -> Any:
    """The first and the last position of hits first..first+count-1; last -1: none."""
    low, high = np.uint32(0xFFFFFFFF), np.int32(-1)
    at = np.uintp(first)
    for k in range(np.uintp(count)):  # without a branch, or it is no vector loop
        high = max(high, probe[at + k])
        low = min(low, np.uint32(probe[at + k]))  # what is nowhere is above all positions
    return np.int64(low), np.int64(high)


@njit(nogil=True, cache=True)
def pack(
    probe: NDArray[np.int32],
    yx: NDArray[np.uint32],
    dwell_ns: NDArray[np.float32],
    first: int,
    count: int,
    low: int,
    acceptance_ns: float,
    width: int,
    field: int,
    cells: NDArray[np.int32],
    moments: NDArray[np.uint64],
    pixels: NDArray[np.int32],
) -> int:
    """The cell of each hit's position from `low` on, its sums, its pixel; returns hits that count.

    Those that do not have a cell of their own.
    """
    at, bits = np.uintp(first), np.uint64(field)
    one, nowhere = np.uint64(1) << (np.uint64(2) * bits), np.int32(_CELL * REACH)
    base, wide = np.int32(low), np.uint32(width)
    counted: Any = 0
    for k in range(np.uintp(count)):
        place = yx[at + k]
        y, x = place >> np.uint32(16), place & np.uint32(0xFFFF)
        position = probe[at + k]
        counted += position >= 0
        cells[k] = np.int32(_CELL) * (position - base) if position >= 0 else nowhere
        moments[k] = one | np.uint64(y) << bits | np.uint64(x)
        pixels[k] = np.int32(np.uint32(y) * wide + np.uint32(x))
    if acceptance_ns > 0.0:
        for k in range(np.uintp(count)):
            late = dwell_ns[at + k] >= acceptance_ns
            counted -= late and cells[k] != nowhere
            cells[k] = nowhere if late else cells[k]
    return int(counted)


@njit(nogil=True, cache=True)
def _add_moments(
    cells: NDArray[np.int32], moments: NDArray[np.uint64], count: int, sums: NDArray[np.uint64]
) -> None:
    """Add each hit's moments to its position."""
    whole = np.uintp(count & -_CELL)
    for k in range(np.uintp(0), whole, np.uintp(_CELL)):
        for j in range(np.uintp(_CELL)):
            sums[np.uintp(cells[k + j]) + j] += moments[k + j]
    for k in range(whole, np.uintp(count)):
        sums[np.uintp(cells[k])] += moments[k]


@njit(nogil=True, cache=True)
def _add_with_one(
    cells: NDArray[np.int32],
    moments: NDArray[np.uint64],
    pixels: NDArray[np.int32],
    count: int,
    lookup: NDArray[np.unsignedinteger],
    sums: NDArray[np.uint64],
) -> None:
    """The same, with a count of those on detector 0 above the moments."""
    whole, up = np.uintp(count & -_CELL), np.uint64(_BESIDE)
    for k in range(np.uintp(0), whole, np.uintp(_CELL)):
        for j in range(np.uintp(_CELL)):
            of = np.uint64(lookup[np.uintp(pixels[k + j])]) & np.uint64(1)
            sums[np.uintp(cells[k + j]) + j] += moments[k + j] + (of << up)
    for k in range(whole, np.uintp(count)):
        of = np.uint64(lookup[np.uintp(pixels[k])]) & np.uint64(1)
        sums[np.uintp(cells[k])] += moments[k] + (of << up)


@njit(nogil=True, cache=True)
def _add_with_group(
    cells: NDArray[np.int32],
    moments: NDArray[np.uint64],
    pixels: NDArray[np.int32],
    count: int,
    lookup: NDArray[np.unsignedinteger],
    sums: NDArray[np.uint64],
) -> None:
    """The same, with the counts of those on the first GROUP detectors in a number of their own."""
    half = np.uintp(_CELL // 2)
    whole = np.uintp(count & -(_CELL // 2))
    for k in range(np.uintp(0), whole, half):
        for j in range(half):
            at = np.uintp(cells[k + j]) + j + j
            of = np.uintp(lookup[np.uintp(pixels[k + j])] & _MOST)
            sums[at] += moments[k + j]
            sums[at + np.uintp(1)] += _SPREAD[of]
    for k in range(whole, np.uintp(count)):
        at = np.uintp(cells[k])
        sums[at] += moments[k]
        sums[at + np.uintp(1)] += _SPREAD[np.uintp(lookup[np.uintp(pixels[k])] & _MOST)]


@njit(nogil=True, cache=True)
def _add_group(
    cells: NDArray[np.int32],
    pixels: NDArray[np.int32],
    count: int,
    lookup: NDArray[np.unsignedinteger],
    first: int,
    sums: NDArray[np.uint64],
) -> None:
    """Add the counts of those on detectors first..first+GROUP-1 alone."""
    whole, down = np.uintp(count & -_CELL), np.uint64(first)
    for k in range(np.uintp(0), whole, np.uintp(_CELL)):
        for j in range(np.uintp(_CELL)):
            of = np.uint64(lookup[np.uintp(pixels[k + j])]) >> down & np.uint64(_MOST)
            sums[np.uintp(cells[k + j]) + j] += _SPREAD[np.uintp(of)]
    for k in range(whole, np.uintp(count)):
        of = np.uint64(lookup[np.uintp(pixels[k])]) >> down & np.uint64(_MOST)
        sums[np.uintp(cells[k])] += _SPREAD[np.uintp(of)]


@njit(nogil=True, cache=True)
def _taken(sums: NDArray[np.uint64], cell: Any) -> Any:
    """What a position's numbers of even and of odd place add up to; they are zeros again."""
    at = np.uintp(_CELL) * cell
    even = odd = np.uint64(0)
    for k in range(np.uintp(0), np.uintp(_CELL), np.uintp(2)):
        even += sums[at + k]
        odd += sums[at + k + np.uintp(1)]
    for k in range(np.uintp(_CELL)):
        sums[at + k] = np.uint64(0)
    return even, odd


@njit(nogil=True, cache=True)
def _count_group(
    found: Any, to: Any, first: int, stop: int, detectors: NDArray[np.signedinteger]
) -> None:
    """Add the counts of a position to detectors first..stop-1."""
    for d in range(first, stop):
        detectors[d, to] += np.int64(found & np.uint64((1 << _LANE) - 1))
        found >>= np.uint64(_LANE)


@njit(nogil=True, cache=True)
def add_sums(
    cells: NDArray[np.int32],
    moments: NDArray[np.uint64],
    pixels: NDArray[np.int32],
    count: int,
    lookup: NDArray[np.unsignedinteger],
    field: int,
    sums: NDArray[np.uint64],
    low: int,
    reach: int,
    total: NDArray[np.signedinteger],
    moment_y: NDArray[np.signedinteger],
    moment_x: NDArray[np.signedinteger],
    detectors: NDArray[np.signedinteger],
) -> None:
    """Add `count` packed hits to the maps of positions low..low+reach-1.

    `sums` (SUMS,) is zeros but for what is nowhere, and is left so; `lookup` by pixel.
    """
    numbers = detectors.shape[0]
    one, apart = numbers == 1 and field == _NARROW, 0
    if one:
        _add_with_one(cells, moments, pixels, count, lookup, sums)
    elif numbers == 0:
        _add_moments(cells, moments, count, sums)
    else:
        apart = min(numbers, GROUP)
        _add_with_group(cells, moments, pixels, count, lookup, sums)
    bits = np.uint64(field)
    of_coordinate = (np.uint64(1) << bits) - np.uint64(1)
    of_count = np.uint64((1 << _COUNT) - 1)
    for cell in range(np.uintp(reach)):
        found, counts = _taken(sums, cell)
        if apart == 0:
            found += counts
        if found:
            to = np.uintp(low) + cell
            moment_x[to] += np.int64(found & of_coordinate)
            moment_y[to] += np.int64(found >> bits & of_coordinate)
            total[to] += np.int64(found >> (bits + bits) & of_count)
            if one:
                detectors[0, to] += np.int64(found >> np.uint64(_BESIDE))
            else:
                _count_group(counts, to, 0, apart, detectors)
    for first in range(GROUP, numbers, GROUP):
        _add_group(cells, pixels, count, lookup, first, sums)
        for cell in range(np.uintp(reach)):
            even, odd = _taken(sums, cell)
            if even + odd:
                stop = min(first + GROUP, numbers)
                _count_group(even + odd, np.uintp(low) + cell, first, stop, detectors)
