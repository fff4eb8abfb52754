"""Where an exit-wave object lies, and how far the detector sees."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.beam import Beam
from stemd.engines.airpi.features import GRID, WINDOW, pixel_angstrom
from stemd.engines.diffraction_grid import GridTable
from stemd.errors import StemdError

F32 = NDArray[np.float32]
MOST_PIXELS = 1 << 26
"""Of an object: 8192 x 8192, at 24 bytes each."""
LEAST_REACH = 1.0
"""Semi-angles that the detector must see in all directions."""
SEEN = 0.99
"""A grid pixel counts if so much of its area is on the detector."""


@dataclass(frozen=True, slots=True)
class ObjectGeometry:
    """What decides an object: beam, step in angstrom, where the beam is on the detector.

    `center` (y, x) and `pixels_per_angle` (detector pixels a convergence semi-angle).
    """

    beam: Beam
    step_size_angstrom: float
    center: tuple[float, float]
    pixels_per_angle: float
    oversample: int
    counts_per_electron: float

    @property
    def pixel_angstrom(self) -> float:
        """An object pixel."""
        return pixel_angstrom(self.beam) / self.oversample

    @property
    def origin(self) -> int:
        """Row and column of the object at which the first position is."""
        return WINDOW // 2 * self.oversample

    def shape(self, scan: tuple[int, int]) -> tuple[int, int]:
        """Pixels of the object of a scan. Raises StemdError when they are too many."""
        border = WINDOW * self.oversample - 1
        step = self.step_size_angstrom / self.pixel_angstrom
        ny, nx = (round(n * step) + border for n in scan)
        if ny * nx > MOST_PIXELS:
            raise StemdError(
                f"an object of {ny} x {nx} pixels of {self.pixel_angstrom:.3g} angstrom is larger "
                f"than the {MOST_PIXELS:,} pixels that are allowed",
                "take a smaller oversample; for steps much larger than the probe there is no "
                "phase image",
            )
        return ny, nx

    def between(self, first: int, last: int) -> slice:
        """Object pixels from the middle of one scan line or column to that of another."""
        step = self.step_size_angstrom / self.pixel_angstrom
        return slice(
            math.ceil(first * step - 1e-6) + self.origin,
            math.floor(last * step + 1e-6) + self.origin + 1,
        )


def seen(table: GridTable) -> tuple[float, F32]:
    """How far the detector sees in all directions, in semi-angles, and the pixels within, (K,).

    Of what the detector sees the largest square, or circle, about the middle is taken: that is
    what networks are trained with. Raises StemdError when not even the undiffracted disc is on
    the detector.
    """
    best = 0.0, np.zeros(table.coverage.size, np.bool_)
    for distance in (np.hypot(*GRID.vectors.T), np.abs(GRID.vectors).max(axis=1)):
        missing = distance[table.coverage < SEEN]
        known = distance < (missing.min() if missing.size else np.inf)
        reach = float(distance[known].max()) if known.any() else 0.0
        if reach >= LEAST_REACH and known.sum() > best[1].sum():
            best = reach, known
    if not best[0]:
        raise StemdError(
            "the undiffracted disc is not wholly on the detector",
            "check optics.center, convergence_semi_angle_mrad and pixel_size_mrad",
        )
    return best[0], best[1].astype(np.float32)
