"""Columns of a lattice that differ by their noise only are drawn to the lattice, not to a guess.

What a network shows of a single column is partly that column's noise: it says so itself where it is
held against the recorded image, and nothing is won by believing both.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit
from stemd.engines.restoration.evidence.agreement import (
    LIKE,
    beside_high_ones,
    beyond_chance,
)
from stemd.engines.restoration.evidence.crowding import cells

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

FURTHEST, CLEAR_FURTHEST = 0.5, 1.0
"""Deviations of its noise by which a column may be drawn to the lattice, at most: one that is
hardly above its noise, and one that is clear of it, of which half is missing far more clearly."""
CLEAR = 3.0, 6.0
"""Deviations that a column of the lattice is high, between the two."""
ALIKE, UNLIKE = 1.15, 1.5
"""Mean square of deviations of columns from the lattice, of noise alone 1, up to which they are
those of one lattice, and from which on they are not: it is strained, ends, or there is none."""
FEW, ENOUGH = 8.0, 16.0
"""Columns around one that must agree: with fewer nothing is said."""
DOUBTED, CERTAIN = 1.5, 2.5
"""Deviations from the lattice, in those of the columns around, up to which that may be chance, and
from which on a column keeps all that was recorded of it: it is none of the lattice's."""
PART = 0.3, 0.5
"""Part of a column that must be missing or too much for this: what an atom makes of one."""
STANDS_OUT = 3.5, 4.5
"""The same for less, and where all columns are lower than their noise."""
NOTHING = 0.3
"""Part of a usual column below which the lattice has none at a place."""
DEFECT = 3.0
"""Deviations from which on one column says no more of what all have together."""
CLIPPED, OF_NOISE = 2.0, 0.9205
"""Deviations beyond which a column counts as one of so many, so that a few defects do not make a
lattice uneven, and the mean square of normal numbers that are cut like this."""
SMALL = 1e-3
"""Part of the expected up to which noise of counting is normal."""


class Judged(NamedTuple):
    """What is to be added to each column, (n,) each.

    `drawn` to the lattice, to be believed by `agree`, 0 to 1; `outlier`: how certainly a column is
    none of its lattice, strained or not, 0 to 1, and keeps all that was recorded of it.
    """

    drawn: F64
    agree: F64
    outlier: F64


def drawn_to_lattice(
    residual: F64,
    beyond: F64,
    lattice: F64,
    deviation: F64,
    own: float,
    places: I64,
    radius_px: float,
) -> Judged:
    """Each column held against its lattice.

    `residual`: what the recorded image has more than the restored one, `beyond`: what that one has
    more than the `lattice` (waves over the whole image), all as heights at `places` (n, 2), and
    `deviation` of their noise. `own`: by how much its square grows with the height. Columns of one
    kind within `radius_px` correct the lattice together. What a column then has beside it is drawn
    to the lattice by `FURTHEST` to `CLEAR_FURTHEST` deviations (`chance_root`), less where columns
    differ by more than their noise, and not at all where it is an outlier among them.
    """
    if not len(residual):
        return Judged(residual, np.zeros(0), np.zeros(0))
    order, first = cells(places, radius_px)
    square = np.square(lattice)
    usual = float((np.abs(lattice) * square).sum()) / max(float(square.sum()), 1e-300)
    together, scatter, count = np.empty((3, len(residual)))
    _together(
        residual + beyond, deviation, lattice, NOTHING * usual, places, radius_px, order, first,
        together, scatter, count,
    )  # fmt: skip
    scatter = beyond_chance(scatter, count)
    even = np.maximum(scatter, 1.0)
    enough = np.clip((count - FEW) / (ENOUGH - FEW), 0.0, 1.0)
    apart = residual + beyond - together
    z = np.abs(chance_root(apart, deviation, own))
    high = beside_high_ones(np.abs(lattice), deviation, places, radius_px, order, first)
    high = np.maximum(high, _rising(z, *STANDS_OUT))
    z_among = z / np.sqrt(even)
    part = np.abs(apart) / np.maximum(np.abs(lattice), 1e-300)
    outlier = _rising(z_among, DOUBTED, CERTAIN) * _rising(part, *PART)
    outlier = np.maximum(outlier, _rising(z_among, *STANDS_OUT))
    clear = _rising(np.abs(lattice) / deviation, *CLEAR)
    furthest = (1.0 - outlier) * (FURTHEST + clear * (CLEAR_FURTHEST - FURTHEST)) / np.square(even)
    kept = high * apart * (1.0 - np.minimum(1.0, furthest / np.maximum(z, 1e-30)))
    agree = enough * np.clip((UNLIKE - scatter) / (UNLIKE - ALIKE), 0.0, 1.0)
    return Judged(together + kept - beyond, agree, high * enough * outlier)


def chance_root(apart: F64, deviation: F64, own: float) -> F64:
    """Deviations (n,) of normal noise that are as rare as chance makes heights that are `apart`.

    The signed root of the deviance of counts: `deviation` is that of the noise of what is expected,
    and its square grows by `own` with the height. Of six electrons that are expected none is 3.5
    deviations, and twelve are 2.2; in units of the noise both are 2.4.
    """
    part = np.maximum(own * apart / np.square(deviation), -1.0)
    small = np.abs(part) < SMALL
    u = np.where(small, SMALL, part)
    # (1 + u) log(1 + u) - u over u^2 / 2, and its series
    whole = ((1.0 + u) * np.log(np.maximum(1.0 + u, 1e-300)) - u) / (0.5 * np.square(u))
    root: F64 = apart / deviation * np.sqrt(np.where(small, 1.0 - part / 3.0, whole))
    return root


def _rising(z: F64, low: float, high: float) -> F64:
    """0 up to `low`, 1 from `high` on."""
    return np.asarray(np.clip((z - low) / (high - low), 0.0, 1.0), np.float64)


@njit(nogil=True, cache=True)
def _together(
    apart: F64,
    deviation: F64,
    lattice: F64,
    nothing: float,
    places: I64,
    radius: float,
    order: I64,
    first: I64,
    together: F64,
    scatter: F64,
    count: F64,
) -> None:
    """What columns of one kind are apart from the lattice together, and mean z^2 beside it, (n,).

    `count`: so many there are. Places where the lattice has next to `nothing` are a kind, too.
    """
    side = max(1, int(np.ceil(radius)))
    rows, across = first.shape
    for n in range(apart.size):
        mine = lattice[n]
        none = abs(mine) < nothing
        information = pull = square = number = 0.0
        row, column = places[n, 0] // side, places[n, 1] // side
        for turn in range(2):
            part = 0.0
            if turn == 1:
                if not none:
                    part = pull / max(information, 1e-300)
                    part *= max(0.0, 1.0 - 1.0 / max(part * part * information, 1e-300))
                together[n] = part * mine
            for r in range(max(0, row - 1), min(rows, row + 2)):
                for k in range(first[r, max(0, column - 1)], first[r, min(across - 1, column + 2)]):
                    m = order[k]
                    dy, dx = places[m, 0] - places[n, 0], places[m, 1] - places[n, 1]
                    other = lattice[m]
                    if dy * dy + dx * dx > radius * radius or none != (abs(other) < nothing):
                        continue
                    like = abs(other) <= LIKE * abs(mine) and abs(mine) <= LIKE * abs(other)
                    if not none and (other * mine <= 0.0 or not like):
                        continue
                    if turn == 1:
                        z = (apart[m] - part * other) / deviation[m]
                        square += min(z * z, CLIPPED * CLIPPED) / OF_NOISE
                        number += 1.0
                    elif abs(apart[m]) < DEFECT * deviation[m]:
                        weight = other / (deviation[m] * deviation[m])
                        information += weight * other
                        pull += weight * apart[m]
        scatter[n], count[n] = square / max(number, 1.0), number
