"""Images that no scan has made as they are: a few levels without noise, or repeated pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.engines.restoration.blank import blank_parts, mirrored_into
from stemd.engines.restoration.neighbours import are_counts

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

LEVELS = 16
"""Different values of a drawing, a mask or a map of phases, at most."""
ALIKE, TWO_ALIKE = 0.5, 0.8
"""Variance between neighbours, over that in their surroundings, below which there is no noise; of
two levels, which noise that was cut off has, too."""
AROUND_PX = 5
LEAST_CHANGES = 24
"""Lines that differ from the one before, all a multiple apart, that are no chance."""
SMALLEST_PX = 16
"""Of an image, and of what is left of one whose pixels are taken once."""


def drawn_levels(image: F32) -> int:
    """How many levels a finite image (ny, nx) of a few has that is none of counts; else 0.

    1 of one that has the same value everywhere.
    Counts are few where electrons are few, but next to each other they are as unlike as chance
    makes them.
    """
    if image.min() == image.max():
        return 1
    if min(image.shape) < SMALLEST_PX:
        return 0
    values = np.unique(image[:: max(1, len(image) // 64)])
    if values.size > LEVELS:
        return 0  # sooner than all values are put in order
    values = np.unique(image)
    if not 2 <= values.size <= LEVELS or not _even(image, values):
        return 0
    # counts beside a label are no drawing
    blank = blank_parts(image)
    even = not blank.any() or _even(mirrored_into(image, blank), values)
    return int(values.size) if even else 0


def _even(image: F32, values: F32) -> bool:
    alike = _unlike(image)
    if values.size == 2:
        return alike < TWO_ALIKE
    return alike < ALIKE and not are_counts(image, float(np.diff(values).min()))


def _unlike(image: F32) -> float:
    """Variance of neighbours over that of squares of `AROUND_PX`: 1 of noise, 0 of a slope."""
    values = image.astype(np.float64)
    values -= values.mean()
    squares = [np.square(np.diff(values, axis=axis)).mean() / 4.0 for axis in (0, 1)]
    sums, sums2 = (_boxes(each) for each in (values, np.square(values)))
    number = AROUND_PX**2
    around = float(((sums2 - np.square(sums) / number) / (number - 1)).mean())
    return float(sum(squares)) / around if around > 0.0 else 1.0


def _boxes(values: NDArray[np.float64]) -> NDArray[np.float64]:
    total = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    total[1:, 1:] = values.cumsum(axis=0).cumsum(axis=1)
    k = AROUND_PX
    boxes: NDArray[np.float64] = total[k:, k:] - total[:-k, k:] - total[k:, :-k] + total[:-k, :-k]
    return boxes


@dataclass(frozen=True, slots=True)
class Repeated:
    """Which recorded line (ny,) and column (nx,) each of an image's is, and how often each came."""

    lines: I64
    columns: I64
    times: tuple[int, int]

    def once(self, image: F32) -> F32:
        """The image with each line and column once."""
        (_, y), (_, x) = (np.unique(each, return_index=True) for each in (self.lines, self.columns))
        return np.ascontiguousarray(image[np.ix_(y, x)])

    def again(self, image: F32) -> F32:
        """An image of each line and column, with each as often as before."""
        return np.ascontiguousarray(image[np.ix_(self.lines, self.columns)])


def repeated(image: F32) -> Repeated | None:
    """How often each line and each column of a finite image (ny, nx) was repeated, if one was.

    All that differ from the one before must be a multiple of that apart.
    """
    (lines, down), (columns, across) = (_groups(each) for each in (image, image.T))
    if (down, across) == (1, 1):
        return None
    if min(lines[-1], columns[-1]) + 1 < SMALLEST_PX:
        return None
    return Repeated(lines, columns, (down, across))


def _groups(image: F32) -> tuple[I64, int]:
    size = len(image)
    once = np.arange(size)
    # of most images the first lines say it
    if (image[1:8] != image[: min(7, size - 1)]).any(axis=1).all():
        return once, 1
    changes = 1 + np.flatnonzero((image[1:] != image[:-1]).any(axis=1))
    if changes.size < LEAST_CHANGES:
        return once, 1
    times = int(np.gcd.reduce(np.diff(changes)))
    if times < 2:
        return once, 1
    group = (once - changes[0]) // times
    return group - group[0], times
