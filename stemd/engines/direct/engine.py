"""Direct ptychography: the phase of the bright field, through a lens measured in the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stemd.acquisition import FiniteFloat
from stemd.engines.bright_field.engine import BrightFieldEngine, BrightFieldSettings
from stemd.engines.bright_field.view import Discs
from stemd.engines.direct.aberrations import Aberrations
from stemd.engines.direct.estimate import F64, Cell, Frequencies, Linear
from stemd.engines.direct.measure import Cells, Measured, Search, measured
from stemd.plugins import Plugin
from stemd.results import Result

SEARCHED_SIDE, FITTED_SIDE = 32, 96
"""Positions across the middle part of a scan in which the lens is searched for, and fitted."""
LEAST_SIDE = 16
"""Positions across below which no lens is looked for."""
FINE = 2
"""Points across a cell, over which its transfer is averaged."""
DISAGREES = 4.0
"""Standard errors by which the lens that was told is off before it is said so."""
PHYSICS_ANGSTROM = 20.0
"""Below this nothing is said: a specimen's own thickness is a part of the defocus."""

Length = Annotated[float, Field(ge=0.0, le=1e5)]


class DirectSettings(BrightFieldSettings):
    """The lens that is told, in angstrom (underfocus positive) and degree, and how it is measured.

    `lens`: "measured" looks for defocus and two-fold astigmatism within `search_...` of what is
    told and uses them where the data are sure of them; "told" uses what is told.
    `pixels_per_angle`: cells a convergence semi-angle, fewer where `memory_mb` does not suffice.
    `live`: images of unfinished scans too, through the lens that is told.
    """

    lens: Literal["measured", "told"] = "measured"
    defocus_angstrom: FiniteFloat = 0.0
    astigmatism_angstrom: Length = 0.0
    astigmatism_deg: FiniteFloat = 0.0
    cs_mm: FiniteFloat = 0.0
    search_defocus_angstrom: Length = 300.0
    search_astigmatism_angstrom: Length = 50.0
    pixels_per_angle: Annotated[int, Field(ge=3, le=32)] = 5

    def outputs(self, engine: str) -> tuple[str, ...]:
        """The phase and its standard error."""
        return (f"{engine}_phase", f"{engine}_uncertainty")

    def aberrations(self) -> Aberrations:
        """What is told."""
        turn = np.deg2rad(2.0 * self.astigmatism_deg)
        return Aberrations(
            defocus=self.defocus_angstrom,
            astigmatism_x=self.astigmatism_angstrom * float(np.cos(turn)),
            astigmatism_y=self.astigmatism_angstrom * float(np.sin(turn)),
            spherical=self.cs_mm * 1e7,
        )


class DirectEngine(BrightFieldEngine):
    """`direct_phase` and `direct_uncertainty` in radian."""

    _own: DirectSettings

    def __init__(self, settings: DirectSettings) -> None:
        super().__init__(settings.name or "direct", settings)

    def _lens(self) -> tuple[float, float]:
        return self._own.defocus_angstrom, self._own.cs_mm

    def _images_of(self, discs: Discs, go_on: Callable[[], bool]) -> Sequence[Result] | None:
        told = self._own.aberrations()
        used, points = _cells(discs)
        found = None
        if self._all_in_view(discs) and self._own.lens == "measured" and used.size:
            found = self._measure(discs, used, points, told)
        lens = found.aberrations if found is not None and found.sure else told
        estimate = Linear(
            Frequencies(discs.done, discs.beam, discs.step_angstrom), lens.coefficients(discs.beam)
        )
        for cell, at in zip(used, points, strict=True):
            if not go_on():
                return None
            image = discs.images(slice(int(cell), int(cell) + 1))[0].reshape(discs.done.shape)
            estimate.add(Cell(*estimate.at.spectrum_of(image), at))
        about = self._about(lens, told, found)
        names, step = (f"{self.name}_phase", f"{self.name}_uncertainty"), discs.step_angstrom
        known = np.where(discs.done, np.float32(estimate.deviation()), np.float32(0.0))
        return [
            Result(names[0], estimate.phase(), "rad", "scan", step, about),
            Result(names[1], known.astype(np.float32), "rad", "scan", step, about),
        ]

    def _all_in_view(self, discs: Discs) -> bool:
        """Whether this is the whole scan, and large enough to find a lens in."""
        return discs.done.shape == self._maps.shape and min(discs.done.shape) >= LEAST_SIDE

    def _measure(
        self, discs: Discs, used: NDArray[np.int64], points: F64, told: Aberrations
    ) -> Measured:
        search = Search(self._own.search_defocus_angstrom, self._own.search_astigmatism_angstrom)
        coarse, fine = (_part(discs, used, points, side) for side in (SEARCHED_SIDE, FITTED_SIDE))
        found = measured(coarse, fine, told, discs.beam, search)
        off = np.abs(found.aberrations.as_array() - told.as_array())[:3]
        if found.sure and (off > np.maximum(DISAGREES * found.sigma[:3], PHYSICS_ANGSTROM)).any():
            size, angle = found.aberrations.astigmatism
            self._say(
                "lens_disagrees",
                f"the data have a defocus of {found.aberrations.defocus / 10:.1f} nm (told "
                f"{told.defocus / 10:.1f}) and a two-fold astigmatism of {size / 10:.1f} nm at "
                f"{angle:.0f} degrees (told {told.astigmatism[0] / 10:.1f})",
                remedy="the image is made with what was measured; focus the microscope, or set "
                f"{self.name}.defocus_angstrom and astigmatism_angstrom",
            )
        return found

    def _about(
        self, lens: Aberrations, told: Aberrations, found: Measured | None
    ) -> dict[str, Any]:
        """What stands in the image's description: the lens that was used, told and measured."""
        size, angle = lens.astigmatism
        about: dict[str, Any] = {
            "defocus_angstrom": round(lens.defocus, 2),
            "astigmatism_angstrom": round(size, 2),
            "astigmatism_deg": round(angle, 1),
            "cs_mm": self._own.cs_mm,
            "lens": "measured" if lens is not told else "told",
        }
        if found is not None:
            size, angle = found.aberrations.astigmatism
            about["measured"] = {
                "sure": found.sure,
                "quality": round(found.quality, 3),
                "defocus_angstrom": round(found.aberrations.defocus, 2),
                "defocus_sigma_angstrom": _number(found.sigma[0]),
                "astigmatism_angstrom": round(size, 2),
                "astigmatism_deg": round(angle, 1),
                "astigmatism_sigma_angstrom": _number(float(np.hypot(*found.sigma[1:3]))),
            }
        return about


def _number(value: float) -> float | None:
    return round(float(value), 2) if np.isfinite(value) else None


def _cells(discs: Discs) -> tuple[NDArray[np.int64], F64]:
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
    return Cells(at, cells)


PLUGIN = Plugin(
    name="direct",
    summary="direct ptychography: phase of the bright field, through a lens measured in the data",
    settings=DirectSettings,
    build=DirectEngine,
)
