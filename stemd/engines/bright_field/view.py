"""What an engine sees of the bright field when it makes its images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Optics
from stemd.beam import Beam
from stemd.engines.base import PositionMaps
from stemd.engines.bright_field.discs import BrightField
from stemd.engines.bright_field.passed_over import Wandering
from stemd.engines.vectors import descan_of, to_scan_axes
from stemd.errors import StemdError

Vectors = Callable[[Optics], NDArray[np.float64]]
"""Scattering vectors (cells, 2) for how the camera stands by these optics."""


@dataclass(frozen=True, slots=True)
class Discs:
    """The discs of the first `lines` lines, and how they lie in the scan's axes.

    `images(columns)`: counts of some cells at every position, float32 (cells, lines * nx);
    `vectors` (cells, 2): scattering vectors y and x of the cells' middles in scan axes and
    convergence semi-angles, NaN for a cell that is not to be used; `done` (lines, nx); `center`
    in detector pixels; `radius` of the disc in detector pixels; `cell`: a cell's width there;
    `level`: the disc wanders over the detector (descan), so that cells have slopes; `wanders`
    (2, 2): by how many radian (rows: y, x, in detector axes) an angstrom of the scan (along y,
    along x).
    """

    images: Callable[[slice], NDArray[np.float32]]
    vectors: NDArray[np.float64]
    done: NDArray[np.bool_]
    center: tuple[float, float]
    radius: float
    cell: int
    beam: Beam
    step_angstrom: float
    level: bool = False
    wanders: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class Looking:
    """With what the kept cells are looked at: the beam, a detector pixel in mrad, the scan's step,
    the disc's `center` in detector pixels."""

    beam: Beam
    pixel_mrad: float
    step_angstrom: float
    center: tuple[float, float]

    @property
    def radius(self) -> float:
        """Of the disc, in detector pixels."""
        return self.beam.convergence_semi_angle_mrad / self.pixel_mrad


def discs_seen(
    kept: BrightField,
    maps: PositionMaps,
    done: NDArray[np.bool_],
    by: Looking,
    optics: Optics,
    *,
    level: bool,
) -> tuple[Discs, Vectors]:
    """The discs of the first lines, (lines, nx) `done` of them, and how they lie by other optics.

    `level`: descan is taken out where there is some, and what the disc's edge makes of the cells
    that it passes over. Raises StemdError for a disc of which a part was not kept.
    """
    center, radius, positions = by.center, by.radius, done.size
    whole = positions == maps.total.size
    places = np.full((kept.lattice.cells, 2), np.nan)
    if kept.origin is not None:
        places = (kept.places() - center) / radius
        if not kept.covers(center, radius):
            raise StemdError(
                f"the disc at {center[0]:.1f}, {center[1]:.1f} with a "
                f"radius of {radius:.1f} pixels lies outside the kept part of the patterns",
                "set optics.center and convergence_semi_angle_mrad before the scan",
            )

    def images(columns: slice) -> NDArray[np.float32]:
        counts = kept.images(columns, positions)
        return maps.evened(counts) if whole else counts

    def vectors(turned: Optics) -> NDArray[np.float64]:
        return np.stack(to_scan_axes(places[:, 0], places[:, 1], turned), axis=1)

    found = descan_of(maps)
    wanders: NDArray[np.float64] | None = None
    seen: Callable[[slice], NDArray[np.float32]] = images
    if found is not None and found.clear.any():
        across = by.step_angstrom * np.maximum(1, np.array(maps.shape) - 1)
        wanders = found.clear * by.pixel_mrad * 1e-3 / across
        if level:
            cell = kept.lattice.bin / radius
            electrons = float(maps.total[maps.done].sum()) * cell**2 / np.pi
            disc = Wandering(places, cell, found.clear / radius)
            seen = disc.without_edge(images, done, electrons)
    discs = Discs(
        seen, vectors(optics), done, center, radius, kept.lattice.bin, by.beam,
        by.step_angstrom, level=level and wanders is not None, wanders=wanders,
    )  # fmt: skip
    return discs, vectors
