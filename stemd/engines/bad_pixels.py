"""Hot, dead and saturated pixels, found in the first patterns of a scan.

What a camera adds stands alone: real electrons are spread by the camera over at least two pixels,
and a diffraction disc is many pixels wide. So a pixel is judged by its neighbours. Where that does
not decide, a pixel that never changes, as no beam of electrons does, is the camera's own.
A whole row or column is judged by the two beside it: its pixels are neighbours of each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.engines.bad_clusters import LEAST_COUNTS as CLUSTER_COUNTS
from stemd.engines.bad_clusters import bright_runs, dead_clusters, hot_bands, hot_clusters
from stemd.engines.bad_lines import WIDEST, dead_bands, lines_of, stand_out
from stemd.pixels import Mask, alone_or_together, listed, places_in

TIMES_NEIGHBOURS = 4
"""A hot pixel has more than so many times the second largest of its eight neighbours, at the edge
the largest of those that there are, ..."""
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
LEAST_QUAD = 64
"""Pixels of the smallest detector that may have a gap amidst its chips, to whose lines what is seen
on the other side may reach."""
CALM = 0.25
"""A pixel whose variance is below this part of its mean is not hit by electrons."""


@dataclass(frozen=True, slots=True)
class BadPixels:
    """Masks (y, x) of pixels by what is wrong with them.

    `doubtful`: alone as hot ones are, but they may be the direct beam, and are not masked.
    `beam`: saturated in every pattern, but so many together that they are the beam. `too_many`: so
    many stand out of their neighbours that they are what was seen, and none of them is masked.
    `dead_lines`: those of `dead` that are rows and columns.
    """

    hot: Mask
    dead: Mask
    saturated: Mask
    doubtful: Mask
    beam: Mask
    dead_lines: Mask
    too_many: int = 0

    @property
    def mask(self) -> Mask:
        """All that are not to count."""
        return self.hot | self.dead | self.saturated

    def but(self, known: Mask) -> BadPixels:
        """Without the pixels that are known already."""
        kinds = ("hot", "dead", "saturated", "doubtful", "beam", "dead_lines")
        return replace(self, **{kind: getattr(self, kind) & ~known for kind in kinds})

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
    saturated, beam = alone_or_together(full) if full.any() else (nothing, nothing)
    hot_lines, dead_lines = lines_of(total, saturated)
    dead_lines |= dead_bands(total, saturated | hot_lines | dead_lines)
    hot_lines |= hot_bands(np.where(saturated | hot_lines, 0, total), patterns)
    counts = np.where(saturated | hot_lines, 0, total)
    hot = _hot(counts) & ~_next_to(dead_lines)
    lonely = hot & _lonely(counts, hot) & ~_calm(hot, patterns)
    dead = _dead(counts, hot | saturated | hot_lines)
    many = int(np.count_nonzero((hot | dead) & ~dead_lines))
    if many > max(MOST_PIXELS, MOST_PART * total.size):
        return BadPixels(
            hot_lines, dead_lines, saturated, nothing, beam & ~hot_lines, dead_lines, many
        )
    clustered, doubtful, of_beam = hot_clusters(counts, patterns, hot & ~lonely)
    hot |= clustered
    dead |= dead_clusters(counts, hot | saturated | hot_lines | dead_lines)
    return BadPixels(
        hot & ~lonely | hot_lines,
        dead | dead_lines,
        saturated,
        lonely | doubtful,
        (beam | of_beam) & ~clustered & ~hot_lines,
        dead_lines,
    )


def may_be_hot(total: NDArray[np.int64], patterns: int, largest: int) -> Mask:
    """Pixels (y, x) beyond which `find_bad_pixels` calls none hot or saturated.

    `total`: the sum of so many patterns. A tenth of the time.
    """
    everything = np.ones(total.shape, np.bool_)
    if total.max(initial=0) >= largest * patterns:
        return everything
    for axis in (0, 1):
        sums = total.sum(axis=axis)
        if stand_out(sums, total.shape[axis])[0].any() or bright_runs(sums):
            return everything
    return np.asarray(total >= min(LEAST_COUNTS, CLUSTER_COUNTS))


def _next_to(lines: Mask) -> Mask:
    """Pixels beside these, whose neighbours are too few to say that they stand out."""
    around = np.pad(lines, 1)
    sides = around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]
    return np.asarray(np.logical_or.reduce(sides) & ~lines)


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


def _around(
    image: NDArray[np.int64], y: NDArray[np.intp], x: NDArray[np.intp]
) -> NDArray[np.int64]:
    """The eight neighbours of some pixels (n,), in ascending order, (8, n); 0 beyond the edges."""
    padded = np.pad(image, 1)
    steps = [(dy, dx) for dy in (0, 1, 2) for dx in (0, 1, 2) if (dy, dx) != (1, 1)]
    return np.sort([padded[y + dy, x + dx] for dy, dx in steps], axis=0)


def _beside(image: NDArray[np.int64], choose: Any) -> NDArray[np.int64]:
    """np.minimum or np.maximum of the neighbours to the left and right, (y, x); 0 beyond.

    No more than the second largest of all eight, and no less than the second smallest: pixels that
    do not stand out of these two, nearly all, need not be held against the others.
    """
    found = np.zeros_like(image)
    if image.shape[1] > 2:
        choose(image[:, :-2], image[:, 2:], out=found[:, 1:-1])
    if choose is np.maximum and image.shape[1] > 1:
        found[:, 0], found[:, -1] = image[:, 1], image[:, -2]
    return found


def _hot(counts: NDArray[np.int64]) -> Mask:
    found = np.zeros(counts.shape, np.bool_)
    if counts.max(initial=0) < LEAST_COUNTS:
        return found
    here = counts >= LEAST_COUNTS
    here &= counts > TIMES_NEIGHBOURS * _beside(counts, np.minimum)
    ys, xs = places_in(here)
    height, width = counts.shape
    for y, x, second, largest in zip(ys, xs, *_around(counts, ys, xs)[-2:], strict=True):
        # beyond the edge nobody knows: another hot pixel may stand beside one in the middle only
        inside = 0 < y < height - 1 and 0 < x < width - 1
        brightest, excused = (second, largest) if inside else (largest, 0)
        excess = counts[y, x] - brightest
        if counts[y, x] <= TIMES_NEIGHBOURS * brightest or excess < LEAST_COUNTS:
            continue
        if excess <= SIGMAS * np.sqrt(counts[y, x] + brightest):
            continue
        near = counts[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
        wide = counts[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
        next_to = near.sum() - counts[y, x] - excused
        rest = wide.size - near.size
        level = (wide.sum() - near.sum()) / rest if rest else 0.0
        spread = next_to - level * (near.size - 2)
        found[y, x] = spread < SPREAD * excess
    return found & ~_goes_on(counts, found)


def _goes_on(counts: NDArray[np.int64], hot: Mask) -> Mask:
    """Which of these are the end of what is seen beyond the gap between the chips of a quad."""
    ends = np.zeros(hot.shape, np.bool_)
    places = list(zip(*(axis.tolist() for axis in places_in(hot)), strict=True))
    for axis in (0, 1) if places else ():
        sums, middle = counts.sum(axis=1 - axis), (counts.shape[axis] - 1) / 2
        if 2 * middle < LEAST_QUAD:
            continue
        for place in places:
            here, at = int(counts[place]), place[axis]
            for step, side in ((-1, sums[:at][::-1]), (1, sums[at + 1 :])):
                lit = np.flatnonzero(side[: WIDEST + 1] > DEAD_PART * here)
                if not lit.size or lit[0] == 0:
                    continue
                line = at + step * (1 + int(lit[0]))
                if not min(at, line) < middle < max(at, line):
                    continue
                beyond = counts[line] if axis == 0 else counts[:, line]
                along = place[1 - axis]
                near = int(beyond[max(0, along - 1) : along + 2].max())
                ends[place] |= TIMES_NEIGHBOURS * near >= here
    return ends


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
    good = np.where(bad, 0, counts)
    beside = _beside(good, np.maximum)
    here = (beside >= DEAD_EXPECTED) & (counts < DEAD_PART * beside) & ~bad
    ys, xs = places_in(here)
    second = _around(good, ys, xs)[1]
    here[ys, xs] = (second >= DEAD_EXPECTED) & (counts[ys, xs] < DEAD_PART * second)
    return np.asarray(here)
