"""The rims of discs on the detector: where a column of pixels enters and leaves each disc."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class DiscEdges:
    """Edges sorted by detector row, for the moment kernel.

    Edges start[y]..start[y+1]-1 are to be applied when rows 0..y-1 have been added to the
    running column sums: +C_x where the disc ends above row y, -C_x where it begins at row y.
    `disc` is the disc's number, `sign` 1 or -1. `outer`, `inner`: for each virtual
    detector the number of the disc it consists of and of the one cut out of it (-1: none).
    """

    names: tuple[str, ...]
    start: NDArray[np.int64]
    column: NDArray[np.int32]
    disc: NDArray[np.int32]
    sign: NDArray[np.int64]
    outer: NDArray[np.int64]
    inner: NDArray[np.int64]
    discs: int


def disc_edges(
    shape: tuple[int, int],
    center: tuple[float, float],
    detectors_px: Mapping[str, Sequence[float]],
) -> DiscEdges:
    """Edges for annular detectors `{name: (inner radius, outer radius)}` in detector pixels.

    A pixel (y, x) belongs to a detector if inner <= |(y, x) - center| < outer, with `center`
    (y, x) in pixels and a pixel's coordinates at its centre. Shared radii are counted once.
    """
    height, width = shape
    radii = sorted({float(r) for pair in detectors_px.values() for r in pair if r > 0.0})
    number = {radius: index for index, radius in enumerate(radii)}
    x = np.arange(width)
    rows: list[tuple[int, int, int, int]] = []
    for radius, disc in number.items():
        half = radius**2 - (x - center[1]) ** 2
        for column in np.flatnonzero(half > 0.0):
            y = np.arange(height)
            inside = np.flatnonzero((y - center[0]) ** 2 + (column - center[1]) ** 2 < radius**2)
            if inside.size:
                rows.append((int(inside[-1]) + 1, disc, 1, int(column)))
                if inside[0] > 0:
                    rows.append((int(inside[0]), disc, -1, int(column)))
    rows.sort()
    table = np.array(rows, np.int64).reshape(-1, 4)
    start = np.searchsorted(table[:, 0], np.arange(height + 2)).astype(np.int64)
    pairs = list(detectors_px.values())
    return DiscEdges(
        names=tuple(detectors_px),
        start=start,
        column=table[:, 3].astype(np.int32),
        disc=table[:, 1].astype(np.int32),
        sign=np.ascontiguousarray(table[:, 2]),
        outer=np.array([number[float(pair[1])] for pair in pairs], np.int64),
        inner=np.array([number.get(float(pair[0]), -1) for pair in pairs], np.int64),
        discs=len(radii),
    )


def annuli(
    shape: tuple[int, int],
    center: tuple[float, float],
    detectors_px: Mapping[str, Sequence[float]],
) -> list[NDArray[np.bool_]]:
    """The same detectors as masks (height, width), pixel for pixel what the edges describe."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    square = (y - center[0]) ** 2 + (x - center[1]) ** 2
    return [(square < b**2) & ~(square < a**2) for a, b in detectors_px.values()]
