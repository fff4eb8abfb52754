"""A half, a quadrant or a module of the detector that counts nothing, though its neighbours do.

Darkness alone says nothing: beside the bright disc few electrons come. But what the optics make
fades; counts that stop from one row of pixels to the next, along a straight line, are cut off by
the detector, or by whoever wrote the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.blocks import Notice
from stemd.engines.base import Gathered
from stemd.pixels import Mask, Rectangle

PARTS = 8
"""Parts are looked for on a grid of so many cells a side, and then grown to their real border."""
LEAST_PART = 1 / 16
"""Of the detector: single rows and columns are the mask's."""
LEAST_SIDE = 32
"""Pixels of a detector on which an edge can be told from a small disc."""
LINES = 8
"""Rows beside a border that are compared."""
LEAST_COUNTS = 100
"""In the row beside the border: less might be a chance."""
ABRUPT, STEADY = 0.7, 0.4
"""The row beside the border has so much of the brightest one near it, and none has less of it. The
last row of a disc has 0.45 of the third, however the pixels lie."""
HOT_ACROSS = 5
"""So many pixels of each row, the brightest, say nothing: they may be hot."""
REMEDY = (
    "is a chip or module off, does something shade it, or was the array padded with zeros? If it "
    "is dead list it in optics.mask: centres of mass and virtual detectors are wrong by it"
)


class DarkParts:
    """Adds patterns of one scan up; one thread at a time.

    `detector`: its shape; `rows`: every how many of its rows are given.
    """

    def __init__(self, detector: tuple[int, int], rows: int, dtype: str) -> None:
        shape = (-(-detector[0] // rows), detector[1])
        # 32 bits hold many thousand patterns of 16, and take a quarter of the time
        narrow = np.dtype(dtype).itemsize <= 2
        self._total = np.zeros(shape, np.int32 if narrow else np.int64)
        self._masked = np.zeros(shape, np.bool_)
        self._rows, self._of = rows, detector[0]
        self._seen = np.zeros(1, np.int64)

    def add(self, pattern: NDArray[np.integer[Any]], masked: Mask | None) -> None:
        """One more pattern (y, x), of which these pixels do not count."""
        self._seen += 1
        counts = np.abs(pattern) if pattern.dtype.kind == "i" else pattern
        np.add(self._total, counts, out=self._total, casting="unsafe")
        if masked is not None:
            self._masked |= masked

    def total(self) -> NDArray[np.integer[Any]] | None:
        """The sum of the patterns, a copy; None without a count."""
        return self._total.copy() if self._total.any() else None

    def masked(self) -> Mask:
        """Pixels that do not count, a copy."""
        return self._masked.copy()

    def gathered(self) -> Gathered:
        """All of it, for `merge`."""
        return {"lit": self._total, "lit_masked": self._masked, "lit_seen": self._seen}

    def merge(self, gathered: Gathered) -> None:
        """Add what was seen of another part of the same scan."""
        self._total += gathered["lit"]
        self._masked |= gathered["lit_masked"].astype(np.bool_)
        self._seen += gathered["lit_seen"]

    def notices(self) -> list[Notice]:
        """What is to be said of the scan, in one notice."""
        if not self._total.any():
            return []  # nothing is lit, or there are no patterns, as of hits: nothing to look for
        seen = f"all {int(self._seen[0]):,} patterns that were looked at"
        return told_of(self._total.astype(np.int64), self._masked, seen, self._rows, self._of)


def told_of(
    total: NDArray[np.int64], masked: Mask, seen: str, rows: int = 1, of: int | None = None
) -> list[Notice]:
    """What is to be said of a total (y, x), in one notice. `seen`: what it is of, in words.

    `rows`: every how many rows of a detector of `of` rows it has.
    """
    found = dark_parts(total, masked)
    if not found:
        return []
    last = total.shape[0] if of is None else of
    dark = np.zeros(total.shape, np.bool_)
    for y, x, y_stop, x_stop in found:
        dark[y:y_stop, x:x_stop] = True
    where = "; ".join(
        f"rows {rows * y} to {min(rows * y_stop, last) - 1}, columns {x} to {x_stop - 1}"
        for y, x, y_stop, x_stop in found
    )
    text = (
        f"a part of the detector counts nothing ({where}: {dark.mean():.0%} of it) in {seen}, "
        "though the pixels beside it do"
    )
    return [Notice("dark_part", text, remedy=REMEDY)]


def dark_parts(total: NDArray[np.int64], masked: Mask) -> list[Rectangle]:
    """Rectangles without a count that end at a line beside which there are many, the largest first.

    `total` (y, x): counts; `masked` pixels say nothing.
    """
    if min(total.shape) < LEAST_SIDE:
        return []
    lit = (total > 0) & ~masked
    zero = (total == 0) & ~masked
    found: list[Rectangle] = []
    for part in sorted(set(_dark_cells(lit)), key=_area, reverse=True):
        grown = _grown(lit, part)
        y, x, y_stop, x_stop = grown
        if np.count_nonzero(zero[y:y_stop, x:x_stop]) < LEAST_PART * total.size:
            continue
        if any(_within(grown, larger) for larger in found):
            continue
        if any(_is_cut(*side) for side in _sides(total, masked, grown)):
            found.append(grown)
    return found


def _dark_cells(lit: Mask) -> Iterator[Rectangle]:
    """Rectangles of whole cells of a grid in which nothing is lit."""
    lines = [[side * n // PARTS for n in range(PARTS + 1)] for side in lit.shape]
    sums = np.zeros((lit.shape[0] + 1, lit.shape[1] + 1), np.int64)
    sums[1:, 1:] = lit.cumsum(0, dtype=np.int64).cumsum(1)
    at = sums[np.ix_(*lines)]
    first, stop = np.triu_indices(PARTS + 1, 1)
    in_rows = at[stop] - at[first]
    size = stop - first
    large = np.outer(size, size) >= LEAST_PART * PARTS**2
    for down, right in np.argwhere((in_rows[:, stop] == in_rows[:, first]) & large):
        yield (
            lines[0][first[down]], lines[1][first[right]],
            lines[0][stop[down]], lines[1][stop[right]],
        )  # fmt: skip


def _grown(lit: Mask, part: Rectangle) -> Rectangle:
    """The same as far as nothing is lit beside it, first up and down, then to the sides."""
    y, x, y_stop, x_stop = part
    y, y_stop = _reach(np.logical_or.reduce(lit[:, x:x_stop], axis=1), y, y_stop)
    x, x_stop = _reach(np.logical_or.reduce(lit[y:y_stop], axis=0), x, x_stop)
    return y, x, y_stop, x_stop


def _reach(lit: Mask, first: int, stop: int) -> tuple[int, int]:
    before, behind = np.flatnonzero(lit[:first]), np.flatnonzero(lit[stop:])
    return (
        int(before[-1]) + 1 if before.size else 0,
        stop + int(behind[0]) if behind.size else lit.size,
    )


def _sides(
    total: NDArray[np.int64], masked: Mask, part: Rectangle
) -> Iterator[tuple[NDArray[np.int64], Mask]]:
    """Of each side that is not the detector's: counts and mask of what lies beyond, the nearest
    row first, (rows away, pixels along the side).
    """
    y, x, y_stop, x_stop = part
    for data, (first, stop, along) in (
        ((total, masked), (y, y_stop, slice(x, x_stop))),
        ((total.T, masked.T), (x, x_stop, slice(y, y_stop))),
    ):
        counts, left_out = data
        if first > 0:
            yield counts[first - 1 :: -1, along], left_out[first - 1 :: -1, along]
        if stop < len(counts):
            yield counts[stop:, along], left_out[stop:, along]


def _is_cut(counts: NDArray[np.int64], masked: Mask) -> bool:
    """Whether counts begin at once, as nothing that fades does."""
    seen = ~masked
    there = np.flatnonzero(2 * np.count_nonzero(seen, axis=1) > seen.shape[1])
    there = there[: max(3, min(LINES, min(counts.shape) // PARTS))]
    if there.size < 3:
        return False
    rows = np.where(seen[there], counts[there], 0)
    few = min(HOT_ACROSS, rows.shape[1] // 8)
    if few:  # hot pixels side by side are no light that is cut off
        rows = np.partition(rows, -few, axis=1)[:, :-few]
    near = rows.sum(axis=1) / seen[there].mean(axis=1)
    return bool(
        near[0] >= LEAST_COUNTS and near[0] >= ABRUPT * near.max() <= near.min() * ABRUPT / STEADY
    )


def _area(part: Rectangle) -> int:
    return (part[2] - part[0]) * (part[3] - part[1])


def _within(inner: Rectangle, outer: Rectangle) -> bool:
    return (outer[0] <= inner[0] and outer[1] <= inner[1] and inner[2] <= outer[2]) and inner[
        3
    ] <= outer[3]
