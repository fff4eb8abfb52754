"""What neighbouring columns say together of how far they may be drawn to the expected."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit
from stemd.engines.restoration.evidence.crowding import cells

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

FURTHEST = 1.0
"""Deviations of its noise by which a column may be drawn to the expected, at most."""
DOUBTED, CERTAIN = 3.5, 4.5
"""Deviations that a column misses up to which that may be chance, and from which on it is not
drawn at all."""
SEEN_FURTHEST = 0.2
"""The most where the restored image itself shows the column unlike those of the lattice."""
SLIGHT, CLEAR = 0.2, 0.4
"""Deviations by which it is shown so, up to which that is nothing and from which on it counts."""
VISIBLE = 0.7
"""Deviations from which on a column is shown at all."""
LIKE = 2.0
"""Columns whose heights differ by less than this factor are of one kind."""
LOST, FOUND = 0.6, 1.5
"""Deviations that the columns around are high up to which nothing can be said of a single one, and
from which on it can: no atom that is missing or added is far more than they are."""


def believed(
    residual: F64, deviation: F64, height: F64, doubt: F64, places: I64, radius_px: float
) -> F64:
    """The part of each column's `residual` height that is no noise: (n,).

    `deviation` of its noise, `height` that is shown, `doubt`: what the restored image itself shows
    more there than the lattice; `places` (n, 2). First what the columns of its kind within
    `radius_px` miss together, as a part of their height: ghosts beyond an edge are missed by all
    of them. Then what the column itself misses, shrunk by c deviations (of noise alone a seventh of
    the power is left), so that no column that can be seen (`beside_high_ones`) is further than c
    deviations from what was recorded; and
    firmly, so that what chance does not explain is kept whole (Gao and Bruce, Statistica Sinica 7
    (1997) 855). c is `FURTHEST` where the columns around differ from each other by their noise
    only, and less where they really differ: by the square of mean z^2; and less where the restored
    image has begun to show the same against the lattice, which chance seldom does.
    """
    if not len(residual):
        return residual
    together, scatter, count = np.empty((3, len(residual)))
    order, first = cells(places, radius_px)
    _neighbours(
        residual, deviation, height, places, radius_px, order, first, together, scatter, count
    )
    scatter = beyond_chance(scatter, count)
    own = residual - together
    z = np.abs(own) / deviation
    unsure = doubt * np.sign(own) / deviation
    seen = np.clip((unsure - SLIGHT) / (CLEAR - SLIGHT), 0.0, 1.0)
    furthest = (FURTHEST + seen * (SEEN_FURTHEST - FURTHEST)) / np.maximum(scatter, 1.0) ** 2
    firm = np.clip((CERTAIN - z) / (CERTAIN - DOUBTED), 0.0, 1.0)
    kept = 1.0 - np.minimum(1.0, furthest * firm / np.maximum(z, 1e-30))
    high = beside_high_ones(height, deviation, places, radius_px, order, first)
    result: F64 = together + kept * np.maximum(high, 1.0 - firm) * own
    return result


def beyond_chance(scatter: F64, count: F64) -> F64:
    """Mean squares (n,) of `count` normal numbers without what chance adds to a mean, 1 sigma."""
    return np.asarray(scatter - np.sqrt(2.0 / np.maximum(count, 1.0)), np.float64)


def beside_high_ones(
    height: F64, deviation: F64, places: I64, radius_px: float, order: I64, first: I64
) -> F64:
    """Whether the columns around each one are high enough to tell it from noise: (n,), 0 to 1.

    Where they are less than their noise, what it makes of one is several times what it could be.
    """
    high = np.empty(len(height))
    _high(height, places, radius_px, order, first, high)
    return np.asarray(np.clip((high / deviation - LOST) / (FOUND - LOST), 0.0, 1.0), np.float64)


@njit(nogil=True, cache=True)
def _neighbours(
    residual: F64,
    deviation: F64,
    height: F64,
    places: I64,
    radius: float,
    order: I64,
    first: I64,
    together: F64,
    scatter: F64,
    number: F64,
) -> None:
    """What the columns of one kind miss together, mean z^2 beside it, and their number, (n,)."""
    side = max(1, int(np.ceil(radius)))
    rows, across = first.shape
    for n in range(residual.size):
        information = pull = square = count = 0.0
        row, column = places[n, 0] // side, places[n, 1] // side
        for turn in range(2):
            part = 0.0
            if turn == 1:
                part = pull / max(information, 1e-300)
                z2 = part * part * information
                part *= max(0.0, 1.0 - 1.0 / max(z2, 1e-300))
                together[n] = part * height[n]
            for r in range(max(0, row - 1), min(rows, row + 2)):
                for k in range(first[r, max(0, column - 1)], first[r, min(across - 1, column + 2)]):
                    m = order[k]
                    dy, dx = places[m, 0] - places[n, 0], places[m, 1] - places[n, 1]
                    if dy * dy + dx * dx > radius * radius:
                        continue
                    if height[m] > LIKE * height[n] or height[n] > LIKE * height[m]:
                        continue
                    weight = 1.0 / (deviation[m] * deviation[m])
                    if turn == 0:
                        information += weight * height[m] * height[m]
                        pull += weight * height[m] * residual[m]
                    else:
                        own = residual[m] - part * height[m]
                        square += own * own * weight
                        count += 1.0
        scatter[n], number[n] = square / max(count, 1.0), count


@njit(nogil=True, cache=True)
def _high(height: F64, places: I64, radius: float, order: I64, first: I64, out: F64) -> None:
    """Height of the columns within `radius` of each place (n,), high ones first."""
    side = max(1, int(np.ceil(radius)))
    rows, across = first.shape
    for n in range(height.size):
        cube = square = 0.0
        row, column = places[n, 0] // side, places[n, 1] // side
        for r in range(max(0, row - 1), min(rows, row + 2)):
            for k in range(first[r, max(0, column - 1)], first[r, min(across - 1, column + 2)]):
                m = order[k]
                dy, dx = places[m, 0] - places[n, 0], places[m, 1] - places[n, 1]
                if dy * dy + dx * dx <= radius * radius:
                    square += height[m] * height[m]
                    cube += height[m] * height[m] * height[m]
        out[n] = cube / max(square, 1e-300)
