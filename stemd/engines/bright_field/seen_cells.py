"""What the cells of the bright field have seen, those at the disc's edge among them.

In focus the two overlaps of a cell cancel where both are open, so that coarse waves are seen only
where one is: within |q| of the edge of the disc. Cells across the edge are averaged over the part
that lies in the disc; beyond it nothing is transferred, and nothing adds to their mean.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stemd.engines.bright_field.counted import FINE
from stemd.engines.bright_field.view import Discs
from stemd.engines.lens.estimate import Cell, Frequencies

F64 = NDArray[np.float64]

EDGE_FINE = 4
"""Points across a cell that lies across the edge of the disc."""
LEAST_INSIDE = 0.1
"""Part of a cell that must lie in the disc: of less there are next to no electrons."""


def cells_of(discs: Discs, at: Frequencies) -> Iterator[Cell]:
    """What each cell has seen of which a part lies in the disc."""
    for cell, points in points_inside(discs):
        yield cell_of(discs, at, cell, points)


def cell_of(discs: Discs, at: Frequencies, cell: int, points: F64) -> Cell:
    """What one cell has seen, of which these points lie in the disc."""
    image = discs.images(slice(cell, cell + 1))[0].reshape(discs.done.shape)
    return Cell(*at.spectrum_of(image), points)


def points_inside(discs: Discs) -> Iterator[tuple[int, F64]]:
    """Numbers of those cells, and points (m, 2) of each that lie in the disc, in apertures."""
    fine, edge = (_square(n) * discs.cell / discs.radius for n in (FINE, EDGE_FINE))
    half = float(np.abs(edge).max())
    # a cell with a NaN is not to be used
    near = np.flatnonzero(np.hypot(*discs.vectors.T) < 1.0 + 2.0 * half)
    for cell in near.tolist():
        points = discs.vectors[cell] + fine
        if not _inside(points).all():
            points = discs.vectors[cell] + edge
            inside = _inside(points)
            if inside.mean() < LEAST_INSIDE:
                continue
            points = points[inside]
        yield cell, np.ascontiguousarray(points)


def _square(points: int) -> F64:
    """Points about the middle of a cell of width 1, (points^2, 2)."""
    offsets = (np.arange(points) + 0.5) / points - 0.5
    return np.stack(np.meshgrid(offsets, offsets, indexing="ij"), axis=-1).reshape(-1, 2)


def _inside(points: F64) -> NDArray[np.bool_]:
    return np.asarray(np.hypot(points[:, 0], points[:, 1]) < 1.0)
