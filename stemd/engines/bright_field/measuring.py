"""The lens of a scan from its bright-field cells, and how it differs from what was told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.engines.bright_field.view import Discs
from stemd.engines.lens.estimate import Cell, Frequencies
from stemd.engines.lens.measure import Cells, Measured, Search, measured

F64 = NDArray[np.float64]

SEARCHED_SIDE, FITTED_SIDE = 32, 96
"""Positions across the middle part of a scan in which the lens is searched for, and fitted."""
LEAST_SIDE = 16
"""Positions across below which no lens is looked for."""
FINE = 2
"""Points across a cell, over which its transfer is averaged."""
SMALL_CELL = 1 / 6
"""Apertures; over a cell that is smaller the transfer is taken at its middle when measuring."""
DISAGREES = 4.0
"""Standard errors by which what was told is off before it is said so."""
PHYSICS_ANGSTROM = 20.0
"""Below this nothing is said: a specimen's own thickness is a part of the defocus."""


@dataclass(frozen=True, slots=True)
class LensFound:
    """The lens that was told and what the data have said of it."""

    told: Aberrations
    found: Measured

    @property
    def sure(self) -> bool:
        """Whether the data say anything about the lens."""
        return self.found.sure

    @property
    def disagrees(self) -> bool:
        """Whether the data are sure of another defocus or two-fold astigmatism."""
        off = np.abs(self.found.aberrations.as_array() - self.told.as_array())[:3]
        least = np.maximum(DISAGREES * self.found.sigma[:3], PHYSICS_ANGSTROM)
        return self.sure and bool((off > least).any())

    def words(self) -> str:
        """How the two differ."""
        has, told = self.found.aberrations, self.told
        size, angle = has.astigmatism
        return (
            f"the data have a defocus of {has.defocus / 10:.1f} nm (told {told.defocus / 10:.1f}) "
            f"and a two-fold astigmatism of {size / 10:.1f} nm at {angle:.0f} degrees "
            f"(told {told.astigmatism[0] / 10:.1f})"
        )

    def as_json(self) -> dict[str, Any]:
        """For the description of an image."""
        size, angle = self.found.aberrations.astigmatism
        return {
            "sure": self.sure,
            "quality": round(self.found.quality, 3),
            "defocus_nm": round(self.found.aberrations.defocus / 10, 3),
            "defocus_sigma_nm": _number(self.found.sigma[0] / 10),
            "astigmatism_nm": round(size / 10, 3),
            "astigmatism_deg": round(angle, 1),
            "astigmatism_sigma_nm": _number(float(np.hypot(*self.found.sigma[1:3])) / 10),
        }


def _number(value: float) -> float | None:
    return round(float(value), 3) if np.isfinite(value) else None


def lens_found(
    discs: Discs, told: Aberrations, search: Search, go_on: Callable[[], bool]
) -> LensFound | None:
    """What the cells of a whole scan say of the lens; None where the scan is too small for it.

    Raises StoppedError once `go_on` says no.
    """
    used, points = usable_cells(discs)
    if min(discs.done.shape) < LEAST_SIDE or not used.size:
        return None
    coarse, fine = (_part(discs, used, points, side) for side in (SEARCHED_SIDE, FITTED_SIDE))
    return LensFound(told, measured(coarse, fine, told, discs.beam, search, go_on))


def usable_cells(discs: Discs) -> tuple[NDArray[np.int64], F64]:
    """Cells that lie in the disc with all their points, and the points (cells, m, 2)."""
    offsets = ((np.arange(FINE) + 0.5) / FINE - 0.5) * discs.cell / discs.radius
    square = np.stack(np.meshgrid(offsets, offsets, indexing="ij"), axis=-1).reshape(1, -1, 2)
    points = discs.vectors[:, None, :] + square
    with np.errstate(invalid="ignore"):
        inside = (np.hypot(points[..., 0], points[..., 1]) < 1.0).all(axis=1)
    used = np.flatnonzero(inside)
    return used, np.ascontiguousarray(points[used])


def _part(discs: Discs, used: NDArray[np.int64], points: F64, side: int) -> Cells:
    """The middle of a scan, at most `side` positions across."""
    ny, nx = discs.done.shape
    rows, columns = (
        slice((n - min(n, side)) // 2, (n - min(n, side)) // 2 + min(n, side)) for n in (ny, nx)
    )
    at = Frequencies(discs.done[rows, columns], discs.beam, discs.step_angstrom)
    cells = []
    for cell, point in zip(used, points, strict=True):
        image = discs.images(slice(int(cell), int(cell) + 1))[0].reshape(ny, nx)[rows, columns]
        spectrum, counts = at.spectrum_of(np.ascontiguousarray(image))
        if counts > 0.0:
            cells.append(Cell(spectrum, counts, point))
    part = Cells(at, cells)
    return part if discs.cell / discs.radius > SMALL_CELL else part.with_middles()
