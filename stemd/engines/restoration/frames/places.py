"""Where the positions of many frames belong: each to one place of one grid, whole.

A position is not shared among places: counts stay whole numbers, noise stays that of counting
and white, and whole patterns can be added up like sums of them. It costs at most half a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Index = NDArray[np.int32]

COVERED = 0.5
"""A place belongs to the sum where this part of the frames show it and its neighbours."""
NEIGHBOURS = 2
"""Lines on either side: displaced ones leave some lines to few frames."""


@dataclass(frozen=True, slots=True)
class Places:
    """For each recorded position (n ny nx,) the place (flat, of ny nx) it is added to, -1: none.

    `again` (m, 2): positions, in their order, that are nearest to a place that none came to, and
    this place. `counts` (ny nx,): positions added at each place; 0 where too few of all `frames`
    show it.
    """

    first: Index
    again: Index
    counts: NDArray[np.int32]
    frames: int

    def of(self, start: int, stop: int) -> Iterator[Index]:
        """Places of positions start..stop-1, -1 where there is none: first, then those again."""
        yield self.first[start:stop]
        low, high = np.searchsorted(self.again[:, 0], (start, stop))
        if high > low:
            second = np.full(stop - start, -1, np.int32)
            second[self.again[low:high, 0] - start] = self.again[low:high, 1]
            yield second

    def runs(self, complete: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Runs (first, stop) of places to which these runs of positions belong."""
        places = [part for first, stop in complete for part in self.of(first, stop)]
        if not places:
            return []
        found = np.unique(np.concatenate(places))
        found = found[found >= 0]
        ends = np.flatnonzero(np.diff(found, prepend=-2, append=found[-1:] + 2) > 1)
        return [(int(found[a]), int(found[b - 1]) + 1) for a, b in pairwise(ends)]

    def add_to(self, total: NDArray[Any], values: NDArray[Any], frame: int) -> None:
        """Add what was recorded at the positions (ny nx,) of a frame to a sum (ny nx,)."""
        for places in self.of(frame * total.size, (frame + 1) * total.size):
            _add(values, places, total)


def places_of(
    lines: F64, used: NDArray[np.bool_], nx: int, there: NDArray[np.bool_] | None = None
) -> Places:
    """Places of the positions of n frames, of whose `lines` (n, ny, 2) the shifts are known.

    Line j of frame n shows the place (j + y, i + x), see `aligned.Aligned`. `used` (n,): frames
    that count; `there` (n ny nx,): positions that were recorded, None: all.
    """
    n, ny = lines.shape[:2]
    if there is None:
        there = np.ones(n * ny * nx, np.bool_)
    first = np.full(n * ny * nx, -1, np.int32)
    counts = np.zeros(ny * nx, np.int32)
    _place(lines, used, there, nx, first, counts)
    frames = int(used.sum())
    inside = _around(counts.reshape(ny, nx)).ravel() >= COVERED * frames
    holes = np.flatnonzero(inside & (counts == 0)).astype(np.int32)
    again = np.full((holes.size, 2), -1, np.int32)
    _fill(lines, used, there, nx, holes, again)
    again = again[again[:, 0] >= 0]
    # a position has one second place: of several the first
    again = again[np.unique(again[:, 0], return_index=True)[1]]
    counts[again[:, 1]] = 1
    counts[~inside] = 0
    first[(first >= 0) & ~inside[first]] = -1
    return Places(first, again, counts, frames)


def _around(counts: NDArray[np.int32]) -> F64:
    """Mean (ny, nx) over the lines around each place."""
    width = 2 * NEIGHBOURS + 1
    sums = np.cumsum(np.pad(counts, ((NEIGHBOURS + 1, NEIGHBOURS), (0, 0)), "edge"), axis=0)
    sums -= sums[:1]
    mean: F64 = (sums[width:] - sums[:-width]) / width
    return mean


@njit(nogil=True, cache=True)
def add_frame(frame: F32, lines: F64, total: F64, counts: NDArray[np.int32]) -> None:
    """Add a frame (ny, nx), of whose `lines` (ny, 2) the shifts are known, to a sum (ny, nx)."""
    ny, nx = frame.shape
    for j in range(ny):
        row = int(np.rint(j + lines[j, 0]))
        if row < 0 or row >= ny:
            continue
        step = int(np.rint(lines[j, 1]))
        for i in range(max(0, -step), min(nx, nx - step)):
            total[row, i + step] += frame[j, i]
            counts[row, i + step] += 1


@njit(nogil=True, cache=True)
def _place(
    lines: F64,
    used: NDArray[np.bool_],
    there: NDArray[np.bool_],
    nx: int,
    first: Index,
    counts: NDArray[np.int32],
) -> None:
    ny = lines.shape[1]
    for n in range(lines.shape[0]):
        if not used[n]:
            continue
        for j in range(ny):
            row = int(np.rint(j + lines[n, j, 0]))
            if row < 0 or row >= ny:
                continue
            step = int(np.rint(lines[n, j, 1]))
            source = (n * ny + j) * nx
            for i in range(max(0, -step), min(nx, nx - step)):
                if there[source + i]:
                    first[source + i] = row * nx + i + step
                    counts[row * nx + i + step] += 1


@njit(nogil=True, cache=True)
def _fill(
    lines: F64,
    used: NDArray[np.bool_],
    there: NDArray[np.bool_],
    nx: int,
    holes: Index,
    again: Index,
) -> None:
    """For places that displaced lines have passed by the nearest position, at most 1 off."""
    ny = lines.shape[1]
    for k in range(holes.size):
        row, column = holes[k] // nx, holes[k] % nx
        nearest = 1.0
        for n in range(lines.shape[0]):
            if not used[n]:
                continue
            middle = row - int(np.rint(lines[n, row, 0]))
            for j in range(max(0, middle - 3), min(ny, middle + 4)):
                i = column - int(np.rint(lines[n, j, 1]))
                if i < 0 or i >= nx or not there[(n * ny + j) * nx + i]:
                    continue
                apart = abs(j + lines[n, j, 0] - row)
                if apart <= nearest:
                    nearest = apart
                    again[k, 0], again[k, 1] = (n * ny + j) * nx + i, holes[k]


@njit(nogil=True, cache=True)
def _add(values: NDArray[Any], places: Index, out: NDArray[Any]) -> None:
    for p in range(values.size):
        if places[p] >= 0:
            out[places[p]] += values[p]
