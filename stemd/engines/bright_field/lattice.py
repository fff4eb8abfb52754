"""Which cells of the detector are kept of every pattern for single side-band ptychography.

Patterns are binned by a whole number of detector pixels, on a lattice that begins at the
detector's corner. So what is kept is whole counts, and depends neither on the centre nor on
rotation, flip or wavelength: these may change after the scan.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.engines.diffraction_grid import DiffractionGrid
from stemd.errors import StemdError

BYTES_A_COUNT = 2
"""Memory for a count with which the bin is chosen; cells of low dose take 1."""
LEAST_CELLS = 3.0
"""Cells a semi-angle below which overlaps cannot be told apart."""


@dataclass(frozen=True, slots=True)
class Lattice:
    """Cells of bin x bin detector pixels; kept are those within `half` + 0.5 cells of a middle
    one.

    Cell (i, j) holds the detector pixels (i bin .. i bin + bin - 1, j bin .. j bin + bin - 1).
    """

    bin: int
    half: int

    @property
    def grid(self) -> DiffractionGrid:
        """The same in the terms of `diffraction_grid`, its unit of angle being a cell."""
        return DiffractionGrid(self.half, 1.0)

    @property
    def cells(self) -> int:
        """How many are kept of a pattern."""
        return int(self.grid.members.size)

    def middle(self, cell: tuple[int, int]) -> tuple[float, float]:
        """Middle (y, x) of a cell in detector pixels."""
        rest = (self.bin - 1) / 2
        return cell[0] * self.bin + rest, cell[1] * self.bin + rest

    def cell_at(self, center: tuple[float, float]) -> tuple[int, int]:
        """The cell nearest to a place on the detector."""
        rest = (self.bin - 1) / 2
        return round((center[0] - rest) / self.bin), round((center[1] - rest) / self.bin)


def lattice_for(
    radius_px: float, per_angle: int, spare: float, positions: int, most_bytes: int
) -> Lattice:
    """Cells for a disc of this radius, `per_angle` a semi-angle or as many as there is memory for.

    Kept is `spare` times the disc's radius. Raises StemdError for a disc that is too small, and
    where even `LEAST_CELLS` a semi-angle take too much memory.
    """
    if radius_px < LEAST_CELLS:
        raise StemdError(
            f"the convergence semi-angle is {radius_px:.1f} detector pixels, the phase needs "
            f"{LEAST_CELLS:.0f}",
            "check optics.convergence_semi_angle_mrad and optics.pixel_size_mrad",
        )
    wide = max(1, min(round(radius_px / per_angle), int(radius_px / LEAST_CELLS)))
    while radius_px / wide >= LEAST_CELLS or wide == 1:
        lattice = Lattice(wide, math.ceil(spare * radius_px / wide))
        needed = positions * lattice.cells * BYTES_A_COUNT
        if needed <= most_bytes:
            return lattice
        wide += 1
    raise StemdError(
        f"memory_mb = {most_bytes / 1e6:g} of the engine is too small for the discs of "
        f"{positions:,} patterns",
        f"set memory_mb to {math.ceil(needed / 1e6)} or more",
    )


def shared_cells(
    lattice: Lattice, mine: tuple[int, int], theirs: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Columns of the cells that two parts share, in the first's and in the second's order."""
    grid = lattice.grid
    number = np.full(grid.side**2, -1, np.int64)
    number[grid.members] = np.arange(grid.members.size)
    y, x = np.divmod(grid.members, grid.side)
    other_y, other_x = y + mine[0] - theirs[0], x + mine[1] - theirs[1]
    inside = (other_y >= 0) & (other_y < grid.side) & (other_x >= 0) & (other_x < grid.side)
    columns = np.full(grid.members.size, -1, np.int64)
    columns[inside] = number[other_y[inside] * grid.side + other_x[inside]]
    shared = columns >= 0
    return np.flatnonzero(shared), columns[shared]
