"""Columns of a lattice that differ by their noise only are drawn to the lattice, not to a guess.

What a network shows of a single column is partly that column's noise: it says so itself where it is
held against the recorded image, and nothing is won by believing both.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit
from stemd.engines.restoration.evidence.agreement import (
    CERTAIN,
    DOUBTED,
    LIKE,
    beside_high_ones,
    beyond_chance,
)
from stemd.engines.restoration.evidence.crowding import cells

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

FURTHEST = 0.5
"""Deviations of its noise by which a column may be drawn to the lattice, at most. 0.7 would gain
0.4 dB on perfect lattices, and take 0.03 of the contrast of defects at 500 electrons."""
ALIKE, UNLIKE = 1.15, 1.5
"""Mean square of deviations of columns from the lattice, of noise alone 1, up to which they are
those of one lattice, and from which on they are not: it is strained, ends, or there is none."""
FEW, ENOUGH = 8.0, 16.0
"""Columns around one that must agree: with fewer nothing is said."""
NOTHING = 0.3
"""Part of a usual column below which the lattice has none at a place."""
DEFECT = 3.0
"""Deviations from which on one column says no more of what all have together."""
DARKEST = 0.05
"""Part of a column's variance that is its ground's, at least."""


def drawn_to_lattice(
    residual: F64,
    beyond: F64,
    lattice: F64,
    deviation: F64,
    own: float,
    places: I64,
    radius_px: float,
) -> tuple[F64, F64]:
    """What is to be added to each column (n,), and where that is to be believed (n,), 0 to 1.

    `residual`: what the recorded image has more than the restored one, `beyond`: what that one has
    more than the `lattice` (waves over the whole image), all as heights at `places` (n, 2), and
    `deviation` of their noise. `own`: by how much its square grows with the height. Columns of one
    kind within `radius_px` correct the lattice together. What a column then has beside it is drawn
    to the lattice by `FURTHEST` deviations of the noise that is in what was recorded: a place where
    an electron or two were seen, and ten are expected, is more certain than a column is.
    """
    if not len(residual):
        return residual, np.zeros(0)
    order, first = cells(places, radius_px)
    square = np.square(lattice)
    usual = float((np.abs(lattice) * square).sum()) / max(float(square.sum()), 1e-300)
    together, scatter, count = np.empty((3, len(residual)))
    _together(
        residual + beyond, deviation, lattice, NOTHING * usual, places, radius_px, order, first,
        together, scatter, count,
    )  # fmt: skip
    scatter = beyond_chance(scatter, count)
    apart = residual + beyond - together
    seen = np.square(deviation)
    seen = np.sqrt(np.clip(seen + own * apart, DARKEST * seen, seen))
    z = np.abs(apart) / seen
    firm = np.clip((CERTAIN - z) / (CERTAIN - DOUBTED), 0.0, 1.0)
    furthest = firm * FURTHEST * seen / np.square(np.maximum(scatter, 1.0))
    kept = np.sign(apart) * np.maximum(np.abs(apart) - furthest, 0.0)
    high = beside_high_ones(np.abs(lattice), deviation, places, radius_px, order, first)
    kept *= np.maximum(high, 1.0 - firm)
    agree = np.clip((UNLIKE - scatter) / (UNLIKE - ALIKE), 0.0, 1.0)
    agree *= np.clip((count - FEW) / (ENOUGH - FEW), 0.0, 1.0)
    return together + kept - beyond, agree


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
                        square += min(z * z, DEFECT * DEFECT)
                        number += 1.0
                    elif abs(apart[m]) < DEFECT * deviation[m]:
                        weight = other / (deviation[m] * deviation[m])
                        information += weight * other
                        pull += weight * apart[m]
        scatter[n], count[n] = square / max(number, 1.0), number
