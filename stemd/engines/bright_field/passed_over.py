"""What the edge of a wandering disc makes of the cells that it passes over.

Where descan moves the disc over the detector, a cell at its edge is in the light at one end of the
scan and beside it at the other. That is no plane, which is taken out of each cell, but a bowl that
all cells of the edge have together, and that an image would show as the specimen. Such cells
cannot be left out: in focus nothing else sees coarse detail. So the course of the light in each,
by where the disc was, is taken out of what it has counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Images = Callable[[slice], F32]

LOOKED_AT = 9
"""Positions of the scan along each axis at which the disc's place is looked at first."""
HIDDEN = 0.1
"""What the edge adds to a cell's power at low frequencies, in units of that of its noise, up to
which nothing is taken out. The cells of the edge have it together, the noise each its own."""
SOFT = 0.05
"""Radii of the disc by which an edge is moved to see how its course changes: where it is not
exactly, and how sharp, is so taken out as well."""


@dataclass(frozen=True, slots=True)
class Wandering:
    """A disc that wanders over cells.

    `places` (cells, 2): middles y and x of the cells from the disc's mean place, and `cell`: their
    width, in radii of the disc; `across` (2, 2): as of `vectors.Descan`, in radii.
    """

    places: F64
    cell: float
    across: F64

    def passed_over(self, electrons: float) -> NDArray[np.bool_]:
        """Which cells (cells,) see more of the edge than a plane and their own noise hide.

        `electrons`: what all patterns together have in a cell that is wholly in the disc. False
        where a place is NaN.
        """
        y, x = _grid(LOOKED_AT, LOOKED_AT)
        (inside,) = self._light(self.places, y, x, 0.0)
        flat = np.linalg.qr(np.stack([np.ones_like(y), y, x], axis=1))[0]
        bowl = ((inside - inside @ flat @ flat.T) ** 2).mean(axis=1)
        seen = np.maximum(inside.mean(axis=1), 1e-9)
        return np.asarray(bowl * electrons / seen > HIDDEN)

    def without_edge(self, images: Images, done: NDArray[np.bool_], electrons: float) -> Images:
        """The images of cells, float32 (cells, ny * nx), without what the edge makes of them.

        `done` (ny, nx): the positions that are there.
        """
        passed = self.passed_over(electrons)
        if not passed.any():
            return images
        there = done.reshape(-1)
        y, x = _grid(*done.shape)
        flat = np.linalg.qr(np.stack([np.ones_like(y), y, x], axis=1) * there[:, None])[0]
        whole = bool(there.all())

        def without(cells: slice) -> F32:
            counts = images(cells)
            for number in np.flatnonzero(passed[cells]):
                place = self.places[cells][number][None]
                course = self._light(place, y, x, -SOFT, 0.0, SOFT)[:, 0]
                if not whole:
                    course *= there
                course -= (course @ flat) @ flat.T
                found = np.linalg.lstsq(course @ course.T, course @ counts[number], rcond=1e-6)[0]
                counts[number] -= (found @ course).astype(np.float32)
            return counts

        return without

    def _light(self, places: F64, y: F64, x: F64, *softer: float) -> F64:
        """The part of cells that is in discs larger by `softer`, at positions.

        (softer, cells, n).
        """
        apart_y = places[:, :1] - (self.across[0, 0] * y + self.across[0, 1] * x)
        apart_x = places[:, 1:] - (self.across[1, 0] * y + self.across[1, 1] * x)
        distance = np.hypot(apart_y, apart_x)
        # the edge is straight for a cell, which it crosses at the angle of its place
        width = self.cell * (np.abs(apart_y) + np.abs(apart_x)) / np.maximum(distance, 1e-9)
        per_width = 1.0 / np.maximum(width, 1e-9)
        middle = 0.5 + (1.0 - distance) * per_width
        light = np.stack([middle + by * per_width for by in softer])
        return np.asarray(np.clip(light, 0.0, 1.0, out=light))


def _grid(ny: int, nx: int) -> tuple[F64, F64]:
    """y and x (ny * nx,) of positions, from -1/2 to 1/2 across the scan."""
    y, x = np.meshgrid(np.linspace(-0.5, 0.5, ny), np.linspace(-0.5, 0.5, nx), indexing="ij")
    return y.ravel(), x.ravel()
