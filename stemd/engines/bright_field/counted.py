"""What cells of the bright field count, for models that ask more than a linear estimate does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.engines.bright_field.view import Discs
from stemd.engines.lens.patterns import Patterns

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

FINE = 2
"""Points across a cell, over which its transfer is averaged."""
SMALL_CELL = 1 / 6
"""Apertures; over a cell that is smaller the transfer is taken at its middle when measuring."""


def usable_cells(discs: Discs) -> tuple[NDArray[np.int64], F64]:
    """Cells that lie in the disc with all their points, and the points (cells, m, 2)."""
    offsets = ((np.arange(FINE) + 0.5) / FINE - 0.5) * discs.cell / discs.radius
    square = np.stack(np.meshgrid(offsets, offsets, indexing="ij"), axis=-1).reshape(1, -1, 2)
    points = discs.vectors[:, None, :] + square
    with np.errstate(invalid="ignore"):
        inside = (np.hypot(points[..., 0], points[..., 1]) < 1.0).all(axis=1)
    used = np.flatnonzero(inside)
    return used, np.ascontiguousarray(points[used])


def points_of(discs: Discs) -> int:
    """Points of all usable cells together, as `patterns_of` takes them."""
    used, points = usable_cells(discs)
    return used.size * (1 if discs.cell / discs.radius <= SMALL_CELL else points.shape[1])


def counts_of(
    discs: Discs, cells: NDArray[np.int64], rows: slice, columns: slice
) -> tuple[F32, NDArray[np.bool_]]:
    """Of these cells in a rectangle of the scan, and which of its positions are there."""
    ny, nx = discs.done.shape
    each = [
        discs.images(slice(int(cell), int(cell) + 1))[0].reshape(ny, nx)[rows, columns]
        for cell in cells
    ]
    return np.stack(each), np.ascontiguousarray(discs.done[rows, columns])


def patterns_of(discs: Discs, rows: slice, columns: slice, chosen: slice) -> Patterns:
    """What these of the usable cells count in a rectangle of the scan, if they count anything."""
    used, points = usable_cells(discs)
    width = discs.cell / discs.radius
    if width > SMALL_CELL:
        width /= FINE
    else:
        points = points.mean(axis=1, keepdims=True)
    counts, done = counts_of(discs, used[chosen], rows, columns)
    seen = counts.sum(axis=(1, 2), where=done) > 0.0
    return Patterns(counts[seen], points[chosen][seen], width, done, discs.level)
