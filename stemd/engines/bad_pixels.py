"""Hot, dead and saturated pixels, found in the first patterns of a scan.

What a camera adds stands alone: real electrons are spread by the camera over at least two pixels,
and a diffraction disc is many pixels wide. So a pixel is judged by its neighbours. Where that does
not decide, a pixel that never changes, as no beam of electrons does, is the camera's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.pixels import Mask, alone_or_together, listed

TIMES_NEIGHBOURS = 4.0
"""A hot pixel has more than so many times the second largest of its eight neighbours, ..."""
LEAST_COUNTS = 48
"""... at least so many counts more than it, ..."""
SIGMAS = 8.0
"""... and more than chance gives."""
SPREAD = 0.08
"""Part of its counts that a real spot of electrons has at least in its eight neighbours."""
DEAD_PART, DEAD_EXPECTED = 0.05, 100
"""A dead pixel has less than this part of its second smallest neighbour, which has so many."""
LONELY_SHARE = 0.5
"""A lone pixel of more than this part of the counts may be the direct beam."""
BEAM_REACH = 0.15
"""The direct beam is not farther from the median of what it has scattered, in detector sides."""
MOST_PIXELS, MOST_PART = 20, 0.002
"""More than so many pixels, or more than this part of all, are no broken ones but a pattern."""
CALM = 0.25
"""A pixel whose variance is below this part of its mean is not hit by electrons."""


@dataclass(frozen=True, slots=True)
class BadPixels:
    """Masks (y, x) of pixels by what is wrong with them.

    `doubtful`: alone as hot ones are, but they may be the direct beam, and are not masked.
    `beam`: saturated in every pattern, but so many together that they are the beam. `too_many`: so
    many stand out of their neighbours that they are what was seen, and none of them is masked.
    """

    hot: Mask
    dead: Mask
    saturated: Mask
    doubtful: Mask
    beam: Mask
    too_many: int = 0

    @property
    def mask(self) -> Mask:
        """All that are not to count."""
        return self.hot | self.dead | self.saturated

    def in_words(self) -> str:
        """How many of each kind, and where; empty where there is none."""
        kinds = (("hot", self.hot), ("dead", self.dead), ("saturated", self.saturated))
        return "; ".join(
            f"{np.count_nonzero(mask)} {kind}: {listed(mask)}" for kind, mask in kinds if mask.any()
        )


def find_bad_pixels(
    total: NDArray[np.int64],
    patterns: Sequence[NDArray[np.unsignedinteger]],
    largest: int | None = None,
) -> BadPixels:
    """Find them in `total` (y, x), the sum of the first patterns or hits.

    `patterns`: arrays (n, y, x) that sum up to it, none of an event camera; `largest`: the
    counter's largest value, where patterns can saturate. Deterministic; 10 ms for 64 patterns
    of 256 x 256.
    """
    nothing = np.zeros(total.shape, np.bool_)
    full = _always(total, patterns, largest) if largest is not None else nothing
    saturated, beam = alone_or_together(full)
    counts = np.where(saturated, 0, total)
    hot = _hot(counts)
    lonely = hot & _lonely(counts, hot) & ~_calm(hot, patterns)
    dead = _dead(counts, hot | saturated)
    many = int(np.count_nonzero(hot | dead))
    if many > max(MOST_PIXELS, MOST_PART * total.size):
        return BadPixels(nothing, nothing, saturated, nothing, beam, many)
    return BadPixels(hot & ~lonely, dead, saturated, lonely, beam)


def _always(
    total: NDArray[np.int64], patterns: Sequence[NDArray[np.unsignedinteger]], largest: int
) -> Mask:
    """Pixels at the counter's largest value in every pattern."""
    full = np.asarray(total >= largest * sum(len(several) for several in patterns))
    if full.any():
        full[full] = np.logical_and.reduce(
            [(several[:, full] >= largest).all(axis=0) for several in patterns]
        )
    return full


def _neighbours(image: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """The eight neighbours of every pixel, each (y, x), one direction after the other; 0 beyond."""
    padded = np.pad(image, 1)
    height, width = image.shape
    for y in range(3):
        for x in range(3):
            if (y, x) != (1, 1):
                yield padded[y : y + height, x : x + width]


def _two_largest(image: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of the eight neighbours of every pixel the largest and the second largest, (y, x)."""
    first, second = np.zeros_like(image), np.zeros_like(image)
    for each in _neighbours(image):
        np.maximum(second, np.minimum(first, each), out=second)
        np.maximum(first, each, out=first)
    return first, second


def _second_smallest(image: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of the eight neighbours of every pixel, (y, x)."""
    first = np.full_like(image, np.iinfo(np.int64).max)
    second = first.copy()
    for each in _neighbours(image):
        np.minimum(second, np.maximum(first, each), out=second)
        np.minimum(first, each, out=first)
    return second


def _hot(counts: NDArray[np.int64]) -> Mask:
    found = np.zeros(counts.shape, np.bool_)
    if counts.max(initial=0) < LEAST_COUNTS:
        return found
    largest, second = _two_largest(counts)
    excess = counts - second
    alone = (counts > TIMES_NEIGHBOURS * second) & (excess >= LEAST_COUNTS)
    for y, x in np.argwhere(alone):
        if excess[y, x] <= SIGMAS * np.sqrt(counts[y, x] + second[y, x]):
            continue
        near = counts[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
        wide = counts[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
        # another hot pixel beside it is none of its electrons
        next_to = near.sum() - counts[y, x] - largest[y, x]
        rest = wide.size - near.size
        level = (wide.sum() - near.sum()) / rest if rest else 0.0
        spread = next_to - level * (near.size - 2)
        found[y, x] = spread < SPREAD * excess[y, x]
    return found


def _lonely(counts: NDArray[np.int64], hot: Mask) -> Mask:
    """Single pixels without which hardly anything would be left, where the direct beam may be.

    That is amidst what it has scattered: near the median of all other counts.
    """
    rest = np.where(hot, 0, counts)
    total = int(rest.sum())
    lonely = np.asarray(hot & (counts * (1 - LONELY_SHARE) > LONELY_SHARE * total))
    if not lonely.any():
        return lonely
    for axis, size in enumerate(counts.shape):
        along = rest.sum(axis=1 - axis).cumsum()
        middle = int(np.searchsorted(along, total / 2)) if total >= LEAST_COUNTS else size // 2
        far = np.abs(np.arange(size) - middle) > BEAM_REACH * size
        lonely &= ~(far[:, None] if axis == 0 else far[None, :])
    return lonely


def _calm(hot: Mask, patterns: Sequence[NDArray[np.unsignedinteger]]) -> Mask:
    """Which hot pixels change less from pattern to pattern than electrons let them."""
    calm = np.zeros(hot.shape, np.bool_)
    if patterns and hot.any():
        values = np.concatenate([several[:, hot].astype(np.float64) for several in patterns])
        if len(values) >= 4:
            calm[hot] = values.var(axis=0) < CALM * values.mean(axis=0)
    return calm


def _dead(counts: NDArray[np.int64], bad: Mask) -> Mask:
    if counts.max(initial=0) < DEAD_EXPECTED:
        return np.zeros(counts.shape, np.bool_)
    second = _second_smallest(np.where(bad, 0, counts))
    return np.asarray((second >= DEAD_EXPECTED) & (counts < DEAD_PART * second) & ~bad)
