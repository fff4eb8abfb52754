"""Positions whose patterns no experiment makes.

Without a single count, where chance cannot have made them: a blanked beam, lost data. Their pixels
are 0 in every image, as those of missing positions, but they are counted as done. Or with negative
counts, of a background that was taken off, that outweigh the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stemd.blocks import Notice
from stemd.engines.base import PositionMaps
from stemd.engines.vectors import stretches

ENOUGH_ELECTRONS = 16.0
"""So many expected in a dark place make none of them a chance of 1e-7."""
DARK_SHARE = 0.01
"""The darkest part of the positions with counts: what the specimen makes of the beam."""
MOST_LOOKED_AT = 1_000_000
REMEDY = (
    "was the beam blanked, the detector retracted, or the recording cut off? Their pixels are 0 in "
    "every image and mean nothing"
)


def blank_notices(maps: PositionMaps) -> Sequence[Notice]:
    """What to say of the positions of a finished scan that are done and have no counts.

    All of them, or those that a scan of so many electrons a position cannot have by chance. How
    many counts an electron makes is not known: it is taken from the differences of neighbours,
    whose variance is the mean for counts of single electrons.
    """
    count, first, last = _blank(maps)
    done = int(np.count_nonzero(maps.done))
    if not count:
        return []
    if count == done:
        cut = maps.total.any()  # at a position in whose middle the recording ended
        whole = "patterns before the one that was cut off" if cut else "patterns"
        text = f"none of the {count:,} {whole} has a single count"
        return [Notice("blank_patterns", text, count=count, remedy=REMEDY)]
    lit = _lit(maps)
    if darkest_electrons(lit) < ENOUGH_ELECTRONS:
        return []
    where = " to ".join(str(divmod(n, maps.shape[1])) for n in sorted({first, last}))
    mean = int(maps.total.sum()) / (done - count)
    text = (
        f"{count:,} of {done:,} patterns have no counts, the others {mean:,.0f} on average: "
        f"positions (y, x) {where}"
    )
    return [Notice("blank_patterns", text, count=count, remedy=REMEDY)]


def _blank(maps: PositionMaps) -> tuple[int, int, int]:
    """How many positions are done and have no counts, the first and the last of them."""
    count, ends = 0, [0]
    for first, stop in stretches(0, maps.total.size):
        blank = np.flatnonzero(maps.done[first:stop] & (maps.total[first:stop] == 0))
        if blank.size:
            ends = [first + int(blank[0]) if count == 0 else ends[0], first + int(blank[-1])]
            count += blank.size
    return count, ends[0], ends[-1]


def _lit(maps: PositionMaps) -> NDArray[np.signedinteger]:
    """Sums of the first positions that are done and have counts."""
    found, count = [], 0
    for first, stop in stretches(0, maps.total.size):
        total = maps.total[first:stop]
        found.append(total[maps.done[first:stop] & (total != 0)])
        count += found[-1].size
        if count >= MOST_LOOKED_AT:
            break
    return np.concatenate(found)[:MOST_LOOKED_AT]


def negative_notices(maps: PositionMaps, detector_shape: tuple[int, int]) -> Sequence[Notice]:
    """What to say of patterns whose negative counts leave them without a centre of mass.

    That of counts is on the detector; only negative ones can move it off, or make the sum of a
    pattern negative.
    """
    count = 0
    for first, stop in stretches(0, maps.total.size):
        part = slice(first, stop)
        total = maps.total[part].astype(np.int64)
        lost = total < 0
        for moments, side in zip((maps.moment_y, maps.moment_x), detector_shape, strict=True):
            lost |= (moments[part] < 0) | (moments[part] > (side - 1) * total)
        count += int(np.count_nonzero(lost & maps.done[part]))
    if not count:
        return []
    text = (
        f"{count:,} of {int(maps.done.sum()):,} patterns have so many negative counts that they "
        "have no centre of mass on the detector"
    )
    remedy = "take off less background, or set counts below 0 to 0: their pixels mean nothing"
    return [Notice("negative_patterns", text, count=count, remedy=remedy)]


def darkest_electrons(totals: NDArray[np.signedinteger]) -> float:
    """About how many electrons the darkest of these positions has, all of which have counts."""
    some = totals.astype(np.float64)
    mean, dark = float(some.mean()), float(np.quantile(some, DARK_SHARE))
    if some.size < 2 or mean <= 0.0:
        return 0.0
    variance = float(np.mean(np.diff(some) ** 2)) / 2.0
    return dark / max(1.0, variance / mean)
