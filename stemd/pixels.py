"""Sets of detector pixels: as a mask, as a list, as rectangles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
ALWAYS_FULL = 4
"""So many saturated pixels side by side may be the camera's own; more are a beam too strong."""
LEAST_LINE = 8
"""A row or column of so many saturated pixels, one pixel wide, is the camera's own, too."""
MANY = 10_000
"""Saturated pixels that are not the camera's own, however they lie."""
Group = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Rows and columns of some pixels."""
Rectangle = tuple[int, int, int, int]
"""Pixels of rows y_first..y_stop-1 and columns x_first..x_stop-1."""


def mask_of(entries: Iterable[Sequence[int]], shape: tuple[int, int]) -> Mask:
    """Mask (y, x) of pixels [y, x] and rectangles [y_first, x_first, y_stop, x_stop].

    Raises ValueError for an entry that does not lie on a detector of this `shape`.
    """
    mask = np.zeros(shape, np.bool_)
    for entry in entries:
        y, x, y_stop, x_stop = entry if len(entry) == 4 else (*entry, entry[0] + 1, entry[1] + 1)
        if not (0 <= y < y_stop <= shape[0] and 0 <= x < x_stop <= shape[1]):
            raise ValueError(
                f"{list(entry)} is not on a detector of {shape[0]} x {shape[1]} pixels"
            )
        mask[y:y_stop, x:x_stop] = True
    return mask


def full_scale(patterns: NDArray[np.integer]) -> Mask:
    """Pixels (y, x) at their type's largest value in every one of the patterns (n, y, x).

    Cameras and programs write it where there is no value.
    """
    return np.asarray(np.equal(patterns, np.iinfo(patterns.dtype).max).all(axis=0))


def alone_or_together(full: Mask) -> tuple[Mask, Mask]:
    """Saturated pixels that stand together with few others, or in a line, and the rest."""
    few, many = np.zeros_like(full), np.zeros_like(full)
    if np.count_nonzero(full) > MANY:
        return few, full
    for group in groups_of(full):
        is_line = min(np.ptp(axis) for axis in group) == 0 and len(group[0]) >= LEAST_LINE
        target = few if len(group[0]) <= ALWAYS_FULL or is_line else many
        target[group] = True
    return few, many


def places_in(mask: Mask) -> Group:
    """Rows and columns of the pixels in reading order, as `np.nonzero` at a tenth of its time."""
    flat = np.flatnonzero(mask)
    return flat // mask.shape[1], flat % mask.shape[1]


def groups_of(mask: Mask) -> Iterator[Group]:
    """Pixels that touch one another, at corners too, group by group; in reading order within."""
    open_pixels = set(zip(*(axis.tolist() for axis in places_in(mask)), strict=True))
    while open_pixels:
        group, edge = set(), [open_pixels.pop()]
        while edge:
            y, x = edge.pop()
            group.add((y, x))
            for place in ((y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)):
                if place in open_pixels:
                    open_pixels.remove(place)
                    edge.append(place)
        places = np.array(sorted(group))
        yield places[:, 0], places[:, 1]


def runs_of(mask: Mask) -> NDArray[np.int64]:
    """Runs of masked pixels within a row: y, x_first, x_stop, int64 (n, 3), in reading order."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    first, stop = np.argwhere(edges == 1), np.argwhere(edges == -1)
    return np.column_stack([first, stop[:, 1]]).astype(np.int64).reshape(-1, 3)


def rectangles_of(mask: Mask) -> list[Rectangle]:
    """The same pixels as disjoint rectangles: equal runs in rows below one another are joined."""
    open_runs: dict[tuple[int, int], int] = {}
    found: list[Rectangle] = []
    by_row: dict[int, set[tuple[int, int]]] = {}
    for y, first, stop in runs_of(mask).tolist():
        by_row.setdefault(y, set()).add((first, stop))
    for y in range(mask.shape[0] + 1):
        here = by_row.get(y, set())
        over = [run for run in open_runs if run not in here]
        found += [(open_runs.pop(run), run[0], y, run[1]) for run in over]
        for run in here - open_runs.keys():
            open_runs[run] = y
    return sorted(found)


def listed(mask: Mask, most: int = 10) -> str:
    """The first masked pixels in words: [2, 30], [7, 1], ..."""
    pixels = np.argwhere(mask)
    text = ", ".join(f"[{y}, {x}]" for y, x in pixels[:most].tolist())
    return text + (", ..." if len(pixels) > most else "")
