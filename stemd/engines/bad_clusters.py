"""Several broken pixels side by side, none of which stands alone among its neighbours.

Hot ones are told from a spot of electrons by their sharp border and because they do not change as
electrons do; dead ones by light that ends sharply all around them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.pixels import ALWAYS_FULL, Group, Mask, groups_of, places_in

WIDEST, MOST = 5, 25
"""Pixels across, and pixels in all, of the largest cluster that is looked for."""
TIMES, LEAST_COUNTS = 4, 48
"""Each pixel of a hot cluster has so many times the second brightest beside the cluster, and so
many counts more."""
SPREAD = 0.08
"""Part of its counts that a real spot has at least beside it."""
CALM, CHANGES = 0.25, 0.5
"""Variance over mean below which pixels are not hit by electrons, where all others have more than
the second."""
CHANCE_SIGMAS = 4.26
"""Of few patterns the variance over the mean must be lower: so low is that of electrons once in a
hundred thousand times."""
OTHERS, LEAST_OTHERS = 4096, 200
"""So many other pixels are looked at, and so many counts are the least that they have."""
REACH = 0.15
"""A beam is not farther from the median of what it has scattered, in detector sides."""
MOST_LINES, MOST_OF_LINE = 8, 0.9
"""Hot lines side by side at most, and the part of their pixels that are hot."""
MOST_FULL = 2
"""More clusters that stand at the largest value of a counter are the pattern."""
MOST_CANDIDATES = 2000
"""More pixels that stand out are spots of a pattern."""
LARGE_SHARE = 0.5
"""A sharp cluster with more than this part of the counts, far from the beam, is told."""
DEAD_PART, DEAD_EXPECTED = 0.05, 100
"""A dead cluster has less than this part of the second darkest pixel beside it, which has so
many."""
EVEN = 0.5
"""Beside a dead cluster the second darkest pixel has so much of the median: the light ends there
at once."""


def hot_clusters(
    counts: NDArray[np.int64], patterns: Sequence[NDArray[np.unsignedinteger]], known: Mask
) -> tuple[Mask, Mask, Mask]:
    """Clusters of hot pixels in `counts` (y, x), the sum of `patterns` (n, y, x) each.

    `known` are hot, too, and may be part of them. Returns masks of what is hot, of what may be hot
    (sharp and bright, but it changes as electrons do), and of what stands at the largest value of
    a counter where the beam may be.
    """
    hot, doubtful, full = (np.zeros(counts.shape, np.bool_) for _ in range(3))
    if counts.max(initial=0) < LEAST_COUNTS or min(counts.shape) < 3:
        return hot, doubtful, full
    here = _brighter(counts) | known
    if not (here & ~known).any() or np.count_nonzero(here) > MOST_CANDIDATES:
        return hot, doubtful, full
    groups = [group for group in groups_of(here) if 1 < len(group[0]) <= MOST]
    groups = [group for group in groups if _is_sharp(counts, group)]
    if not groups:
        return hot, doubtful, full
    rest = np.where(here, 0, counts)
    can_tell = _changes(rest, patterns)
    at_limit: list[Group] = []
    for group in groups:
        if not _is_calm(group, patterns) or not can_tell:
            share = float(counts[group].sum()) / max(1.0, float(counts.sum()))
            if share > LARGE_SHARE and _is_far(group, rest) and int(rest.sum()) >= LEAST_OTHERS:
                doubtful[group] = True
        elif len(group[0]) > ALWAYS_FULL and _is_at_limit(group, patterns):
            at_limit.append(group)
        else:
            hot[group] = True
    far = len(at_limit) <= MOST_FULL and all(_is_far(group, rest) for group in at_limit)
    for group in at_limit:
        (hot if far else full)[group] = True
    return hot, doubtful & ~known, full


def hot_bands(counts: NDArray[np.int64], patterns: Sequence[NDArray[np.unsignedinteger]]) -> Mask:
    """Hot rows or columns side by side in `counts` (y, x), the sum of `patterns` (n, y, x) each.

    They are told from a streak of electrons because they do not change from pattern to pattern.
    """
    hot = np.zeros(counts.shape, np.bool_)
    for here, its in ((counts, hot), (counts.T, hot.T)):
        sums = here.sum(axis=0)
        for first, stop in bright_runs(sums):
            beside = np.maximum(here[:, first - 1], here[:, stop])
            excess = here[:, first:stop].min(axis=1) - beside
            if np.count_nonzero(excess >= LEAST_COUNTS) >= MOST_OF_LINE * excess.size:
                its[:, first:stop] = True
    if hot.any():
        calm = _is_calm(_group(hot), patterns)
        hot &= calm and _changes(np.where(hot, 0, counts), patterns)
    return hot


def bright_runs(sums: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Runs of 2 to `MOST_LINES` lines that have far more counts than the line on either side."""
    found = []
    for first in (np.flatnonzero(sums[1:-1] > TIMES * sums[:-2]) + 1).tolist():
        less = np.flatnonzero(TIMES * sums[first:] <= sums[first])
        stop = first + int(less[0]) if less.size else len(sums)
        some = 2 <= stop - first <= MOST_LINES and stop < len(sums)
        if some and sums[first:stop].min() > TIMES * max(sums[first - 1], sums[stop]):
            found.append((first, stop))
    return found


def dead_clusters(counts: NDArray[np.int64], bad: Mask) -> Mask:
    """Clusters without counts amidst many, in `counts` (y, x); `bad` pixels say nothing."""
    dead = np.zeros(counts.shape, np.bool_)
    if counts.max(initial=0) < DEAD_EXPECTED or min(counts.shape) < 3:
        return dead
    here = _darker(counts, bad)
    if np.count_nonzero(here) > MOST_CANDIDATES:
        return dead
    for group in groups_of(here):
        if 1 < len(group[0]) <= MOST:
            beside = np.sort(counts[_beside(group, counts.shape) & ~bad])
            even = beside.size > 1 and beside[1] >= EVEN * float(np.median(beside))
            if even and beside[1] >= DEAD_EXPECTED:
                dead[group] = counts[group].max() < DEAD_PART * beside[1]
    return dead


def _brighter(counts: NDArray[np.int64]) -> Mask:
    """Pixels far brighter than the darkest of the next ones in any of the four directions."""
    least = counts >= LEAST_COUNTS
    # of these two directions first, which leaves few pixels
    here = least & (counts > TIMES * _along(counts, np.minimum, np.maximum))
    y, x = places_in(here)
    here[y, x] = counts[y, x] > TIMES * _nearby(counts, y, x, np.minimum, np.maximum)
    return here


def _darker(counts: NDArray[np.int64], bad: Mask) -> Mask:
    """Pixels far darker than the brightest of the next ones in all of the four directions."""
    good = np.where(bad, 0, counts)
    lit = _along(good, np.maximum, np.minimum)
    here = (lit >= DEAD_EXPECTED) & (counts < DEAD_PART * lit) & ~bad
    y, x = places_in(here)
    lit = _nearby(good, y, x, np.maximum, np.minimum)
    here[y, x] = (lit >= DEAD_EXPECTED) & (counts[y, x] < DEAD_PART * lit)
    return here


def _along(counts: NDArray[np.int64], inner: Any, outer: Any) -> NDArray[np.int64]:
    """`outer` of both directions along a row of `inner` of the next pixels; 0 beyond the edges.

    Both are np.minimum or np.maximum.
    """
    width = counts.shape[1]
    padded = np.pad(counts, ((0, 0), (WIDEST, WIDEST)))
    side = padded[:, : width + WIDEST + 1].copy()  # of pixel x that of x - WIDEST to x - 1
    for step in range(1, WIDEST):
        inner(side, padded[:, step : step + side.shape[1]], out=side)
    return np.asarray(outer(side[:, :width], side[:, -width:]))


def _nearby(
    counts: NDArray[np.int64], y: NDArray[np.intp], x: NDArray[np.intp], inner: Any, outer: Any
) -> NDArray[np.int64]:
    """`outer` of the four directions of `inner` of the next pixels there; 0 beyond the edges.

    Of some pixels (n,).
    """
    padded = np.pad(counts, WIDEST)
    y, x = y + WIDEST, x + WIDEST
    sides = (
        inner.reduce([padded[y + step * dy, x + step * dx] for step in range(1, WIDEST + 1)])
        for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0))
    )
    return np.asarray(outer.reduce(list(sides)))


def _group(mask: Mask) -> Group:
    y, x = np.nonzero(mask)
    return y, x


def _beside(group: Group, shape: tuple[int, ...]) -> Mask:
    """The pixels around a group, corners included."""
    mask = np.zeros((shape[0] + 2, shape[1] + 2), np.bool_)
    y, x = group
    for dy in (0, 1, 2):
        for dx in (0, 1, 2):
            mask[y + dy, x + dx] = True
    ring = mask[1:-1, 1:-1]
    ring[group] = False
    return ring


def _is_sharp(counts: NDArray[np.int64], group: Group) -> bool:
    """Whether all of a group is far brighter than what is beside it, and does not fade there."""
    here, ring = counts[group], _beside(group, counts.shape)
    beside = np.sort(counts[ring])
    if beside.size < 3:
        return False
    least = int(here.min())
    if least <= TIMES * beside[-2] or least - beside[-2] < LEAST_COUNTS:
        return False
    # of the pixels at the border a part would be seen beside them; one of these may be hot, too
    behind = _beside(_group(ring), counts.shape)
    behind[group] = False
    level = float(counts[behind].mean()) if behind.any() else 0.0
    spread = float(beside[:-1].sum()) - level * (beside.size - 1)
    return spread < SPREAD * (float(here.mean()) - level) * math.sqrt(len(here))


def _values(patterns: Sequence[NDArray[np.unsignedinteger]], at: Any) -> NDArray[np.float64]:
    """Counts (patterns, pixels) at some pixels; none of an event camera."""
    parts = [several[:, *at].astype(np.float64) for several in patterns]
    return np.concatenate(parts) if parts else np.zeros((0, len(at[0])))


def _is_calm(group: Group, patterns: Sequence[NDArray[np.unsignedinteger]]) -> bool:
    values = _values(patterns, group)
    freedom = (len(values) - 1) * values.shape[1]
    if freedom <= 0:
        return False
    off = 2.0 / (9.0 * freedom)  # Wilson and Hilferty's cube root of chi squared over freedom
    chance = max(0.0, 1.0 - off - CHANCE_SIGMAS * math.sqrt(off)) ** 3
    calm = float(values.var(axis=0).sum()) < min(CALM, chance) * float(values.mean(axis=0).sum())
    return bool(calm)


def _changes(rest: NDArray[np.int64], patterns: Sequence[NDArray[np.unsignedinteger]]) -> bool:
    """Whether the other pixels change as electrons do, so that calm ones stand out.

    They do not in patterns that were computed, averaged or scaled.
    """
    lit = np.flatnonzero(rest)
    lit = lit[:: max(1, lit.size // OTHERS)]
    values = _values(patterns, np.unravel_index(lit, rest.shape))
    if len(values) < 2 or values.sum() < LEAST_OTHERS:
        return False
    return float(values.var(axis=0).sum()) > CHANGES * float(values.mean(axis=0).sum())


def _is_at_limit(group: Group, patterns: Sequence[NDArray[np.unsignedinteger]]) -> bool:
    """Whether all of it has one value, one below a power of two: a beam may have filled it."""
    values = _values(patterns, group)
    top = int(values[0, 0])
    return top & (top + 1) == 0 and bool((values == top).all())


def _is_far(group: Group, rest: NDArray[np.int64]) -> bool:
    """Whether the median of all other counts is elsewhere, as it is not of a beam."""
    for axis, place in enumerate(group):
        along = rest.sum(axis=1 - axis).cumsum()
        middle = int(np.searchsorted(along, along[-1] / 2))
        if abs(float(place.mean()) - middle) > REACH * rest.shape[axis]:
            return True
    return False
