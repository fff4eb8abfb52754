"""Rows and columns of a detector that are hot or dead as a whole.

Their pixels do not stand alone, so that no comparison of pixels with all of their neighbours finds
them. But nothing that electrons draw is one pixel wide and goes from one edge to the other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stemd.pixels import Mask

LEAST_LINE, PART = 16, 0.9
"""A row or column of at least so many pixels is broken where this part of them is."""
TIMES, LEAST_COUNTS, SIGMAS = 4.0, 48, 8.0
"""All of a hot line has so many times the counts of the line beside it that has more, and so many
counts more; each of its pixels has more than the two beside it have, and all have it together more
than chance gives."""
SPREAD = 0.08
"""Part of its counts that a real streak has at least in the lines beside it."""
DEAD_PART, DEAD_EXPECTED = 0.05, 100
"""A dead line has less than this part of the lines beside it, where these have so many a pixel."""
WIDEST, LEAST_LIT, EVEN = 8, 8, 0.5
"""So many dead lines side by side are a gap at most. At least so many pixels beside it are lit, and
they have so much of what is lit one line farther out: a disc fades there, or begins to shrink."""


def lines_of(total: NDArray[np.int64], known: Mask) -> tuple[Mask, Mask]:
    """Hot and dead rows and columns of `total` (y, x), as masks; `known` pixels say nothing.

    A row or column at the edge is held against the next two.
    """
    hot = _broken(total, known, _hot_line)
    return hot, _broken(total, known | hot, _dead_line)


def _broken(
    total: NDArray[np.int64],
    known: Mask,
    is_broken: Callable[[NDArray[np.int64], int, Mask], bool],
) -> Mask:
    found = np.zeros(total.shape, np.bool_)
    for counts, left_out, its in ((total, known, found), (total.T, known.T, found.T)):
        for number in _candidates(counts):
            judged: Mask = np.asarray(~left_out[:, _three(counts, number)].any(axis=1))
            if np.count_nonzero(judged) >= LEAST_LINE:
                its[:, number] |= is_broken(counts, number, judged)
    return found


def _three(counts: NDArray[np.int64], number: int) -> list[int]:
    """A column and those beside it; at an edge the next two."""
    first = min(max(number - 1, 0), counts.shape[1] - 3)
    return [number, *(k for k in range(first, first + 3) if k != number)]


def _candidates(counts: NDArray[np.int64]) -> list[int]:
    """Columns that as a whole stand out of the two beside them, nearly always none."""
    bright, dark = stand_out(counts.sum(axis=0), len(counts))
    return [int(number) for number in np.flatnonzero(bright | dark)]


def stand_out(sums: NDArray[np.int64], length: int) -> tuple[Mask, Mask]:
    """Which lines of so many pixels have far more, and which far less, than those beside them."""
    if length < LEAST_LINE or len(sums) < 3:
        return np.zeros(sums.shape, np.bool_), np.zeros(sums.shape, np.bool_)
    lower = np.concatenate([sums[2:3], sums[:-1]])
    upper = np.concatenate([sums[1:], sums[-3:-2]])
    return (
        np.asarray(sums > TIMES * np.maximum(lower, upper)),
        np.asarray(sums < DEAD_PART * np.minimum(lower, upper)),
    )


def _hot_line(counts: NDArray[np.int64], number: int, judged: Mask) -> bool:
    here, lower, upper = counts[judged][:, _three(counts, number)].T
    beside = np.maximum(lower, upper)
    more, sums = here - beside, float(here.sum() + beside.sum())
    enough = max(LEAST_COUNTS, SIGMAS * np.sqrt(sums))
    most = np.count_nonzero(more > 0) >= PART * more.size
    return bool(most and more.sum() > enough and not _spreads(counts, number))


def _spreads(counts: NDArray[np.int64], number: int) -> bool:
    """Whether the lines beside one have what electrons leave there, above those behind them.

    By the median of its pixels, so that a lone hot pixel beside it does not decide.
    """
    near, behind = (
        np.mean(
            [counts[:, k] for k in ks if 0 <= k < counts.shape[1]] or [0 * counts[:, 0]], axis=0
        )
        for ks in ((number - 1, number + 1), (number - 2, number + 2))
    )
    left = 2.0 * float(np.median(near - behind))
    return left > SPREAD * float(np.median(counts[:, number] - near))


def _dead_line(counts: NDArray[np.int64], number: int, judged: Mask) -> bool:
    here, lower, upper = counts[judged][:, _three(counts, number)].T
    beside = np.minimum(lower, upper)
    lit = beside >= DEAD_EXPECTED
    dark = here[lit] < DEAD_PART * beside[lit]
    return bool(dark.size >= LEAST_LINE and np.count_nonzero(dark) >= PART * dark.size)


def dead_bands(total: NDArray[np.int64], known: Mask) -> Mask:
    """Several dead rows or columns side by side, as the gap between two chips or a lost readout.

    `known` pixels say nothing. Bands at the edge of the detector are not looked for: what the beam
    leaves dark is there, too.
    """
    found = np.zeros(total.shape, np.bool_)
    for counts, left_out, its in ((total, known, found), (total.T, known.T, found.T)):
        for first, stop in _dark_runs(np.where(left_out, 0, counts).sum(axis=0)):
            if _is_band(counts, left_out, first, stop):
                its[:, first:stop] = True
    return found


def _dark_runs(sums: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Runs of 2 to `WIDEST` lines with far less counts than the line on either side."""
    found = []
    for first in (np.flatnonzero(sums[2:-3] < DEAD_PART * sums[1:-4]) + 2).tolist():
        most = DEAD_PART * sums[first - 1]
        stop = first
        while stop < len(sums) - 2 and sums[stop] < most:
            stop += 1
        bright = sums[first:stop].max() < DEAD_PART * sums[stop]
        if 2 <= stop - first <= WIDEST and bright:
            found.append((first, stop))
    return found


def _is_band(counts: NDArray[np.int64], left_out: Mask, first: int, stop: int) -> bool:
    sides = ((first - 1, first - 2), (stop, stop + 1))
    judged = ~left_out[:, first - 2 : stop + 2].any(axis=1)
    lit = judged.copy()
    for near, far in sides:
        there = judged & (counts[:, far] >= DEAD_EXPECTED)
        whole = counts[there, near] >= EVEN * counts[there, far]
        if 2 * whole.size < LEAST_LIT or np.count_nonzero(whole) < PART * whole.size:
            return False
        lit &= counts[:, near] >= DEAD_EXPECTED
    beside = np.minimum(counts[lit, first - 1], counts[lit, stop])
    dark = counts[lit, first:stop].max(axis=1) < DEAD_PART * beside
    return bool(dark.size >= LEAST_LIT and np.count_nonzero(dark) >= PART * dark.size)
