"""Pixels, rows and columns that are dead at the end of a scan, or at its beginning, only."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.blocks import Notice
from stemd.engines.bad_pixels import DEAD_EXPECTED, DEAD_PART, find_bad_pixels
from stemd.pixels import Mask, listed

PARTS = 8
"""A pixel that is dead for one of so many parts of a scan is found."""
LEAST = 16
"""Counts that a pixel has while it is alive, and that a dead one has not."""
ALIVE = 0.3
"""A pixel that is alive has at least this part of the mean of its eight neighbours."""
LEAST_OF_LINE = 500
"""Counts beside a dead row or column that are needed to say so."""
REMEDY = (
    "sums and centres of mass are wrong there: process the record again with these pixels in "
    "optics.mask"
)


def dead_in_part(
    patterns: Sequence[NDArray[np.unsignedinteger[Any]]], positions: Sequence[int], largest: int
) -> list[Notice]:
    """What is to be said of patterns (y, x) all over a scan, in the order of their positions.

    `largest`: that the counter can show. 6 ms for 64 patterns of 256 x 256 in which all is well.
    """
    if len(patterns) < 2 * PARTS:
        return []
    ends = [len(patterns) * part // PARTS for part in range(PARTS + 1)]
    sums = [sum_of(patterns[a:b]) for a, b in itertools.pairwise(ends)]
    back, at_end, at_begin = patterns[::-1], "became dead during", "were dead at the beginning of"
    return [
        *_told(patterns, positions, sums, largest, at_end, "from about position {} on"),
        *_told(back, positions[::-1], sums[::-1], largest, at_begin, "until about position {}"),
    ]


def _told(
    patterns: Sequence[NDArray[np.unsignedinteger[Any]]],
    positions: Sequence[int],
    sums: Sequence[NDArray[np.int64]],
    largest: int,
    what: str,
    where: str,
) -> list[Notice]:
    dead = _dying(patterns, sums, largest)
    if not dead.any():
        return []
    there = np.array([pattern[dead].sum(dtype=np.int64) for pattern in patterns])
    alive = there > 0.5 * float(there[: len(there) // 4].mean())
    turn = min(int(np.flatnonzero(alive)[-1]) + 1, len(there) - 1)
    count = int(np.count_nonzero(dead))
    place = where.format(f"{positions[turn]:,}")
    text = f"{count} pixels {what} the scan: {listed(dead)}, {place}"
    return [Notice("dead_in_part", text, count=count, remedy=REMEDY)]


def _dying(
    patterns: Sequence[NDArray[np.unsignedinteger[Any]]],
    sums: Sequence[NDArray[np.int64]],
    largest: int,
) -> Mask:
    """Pixels that are dead in the last part, quarter or half, and alive in the first quarter."""
    before = sums[0] + sums[1]
    enough = before >= LEAST
    found = np.zeros(before.shape, np.bool_)
    after = np.zeros_like(before)
    for parts in range(1, PARTS // 2 + 1):
        after = after + sums[-parts]
        if parts not in (1, 2, 4):
            continue
        few = enough & (after < DEAD_PART * before * parts / 2) & (_beside(after) >= DEAD_EXPECTED)
        if few.any() and (alive := few & _is_alive(before)).any():
            some = [pattern[None] for pattern in patterns[-(len(patterns) * parts // PARTS) :]]
            total = sum_of([each[0] for each in some])
            found |= find_bad_pixels(total, some, largest).dead & alive
        found |= _dying_columns(before, after)
        found |= _dying_columns(before.T, after.T).T
    return found


def _is_alive(before: NDArray[np.int64]) -> Mask:
    around = np.pad(before, 1, mode="edge").astype(np.float64)
    height, width = before.shape
    steps = [(y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    mean = np.mean([around[y : y + height, x : x + width] for y, x in steps], axis=0)
    return np.asarray(before > ALIVE * mean)


def _beside(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The larger one of the pixels to the left and right."""
    padded = np.pad(counts, ((0, 0), (1, 1)))
    return np.maximum(padded[:, :-2], padded[:, 2:])


def _dying_columns(before: NDArray[np.int64], after: NDArray[np.int64]) -> Mask:
    """Columns that had counts before and have none after, where those beside them still have."""
    found = np.zeros(before.shape, np.bool_)
    if before.shape[1] < 3:
        return found
    first, last = before.sum(axis=0), after.sum(axis=0)
    beside_first = np.minimum(first[:-2], first[2:])
    beside_last = np.minimum(last[:-2], last[2:])
    dead = (last[1:-1] < DEAD_PART * beside_last) & (beside_last >= LEAST_OF_LINE)
    found[:, 1:-1] = dead & (first[1:-1] > ALIVE * beside_first)
    return found & (after < LEAST) & (before > 0)


def sum_of(patterns: Sequence[NDArray[np.unsignedinteger[Any]]]) -> NDArray[np.int64]:
    """The sum of some patterns."""
    # 32 bits hold all that are kept of 16, and take half of the time
    narrow = patterns[0].dtype.itemsize <= 2
    total = np.zeros(patterns[0].shape, np.uint32 if narrow else np.int64)
    for pattern in patterns:
        np.add(total, pattern, out=total, casting="unsafe")
    return total.astype(np.int64)
