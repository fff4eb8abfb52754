"""The bright field of a part of a scan: what its cells see, and how a lens explains it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stemd.engines.lens.estimate import Cell, Frequencies, Linear

C64 = NDArray[np.complex64]
F64 = NDArray[np.float64]

SEARCH_CELL = 0.22
"""Width of a cell of the search, apertures: narrow enough for the lens's phase over it."""
TURN = 8
"""Index of the camera's further rotation among the numbers that are looked for."""
SEEN = 5.0
"""Standard errors from which on it is asked how much of what the cells see one weak specimen
explains."""


@dataclass(frozen=True, slots=True)
class Cells:
    """The bright field of a part of a scan: what its cells see at these frequencies.

    As of `estimate.Cell`, of all together: `spectra` complex64 (cells, n), `counts` (cells,),
    `points` (cells, m, 2).
    """

    at: Frequencies
    spectra: C64
    counts: F64
    points: F64

    @classmethod
    def of(cls, at: Frequencies, cells: Sequence[Cell]) -> Cells:
        """Of cells that all have as many points."""
        if not cells:
            return cls(
                at, np.zeros((0, at.index.size), np.complex64), np.zeros(0), np.zeros((0, 1, 2))
            )
        return cls(
            at,
            np.stack([cell.spectrum for cell in cells]),
            np.array([cell.counts for cell in cells]),
            np.stack([cell.points for cell in cells]),
        )

    def __iter__(self) -> Iterator[Cell]:
        for spectrum, counts, points in zip(self.spectra, self.counts, self.points, strict=True):
            yield Cell(spectrum, float(counts), points)

    def evidence(self, place: F64) -> float:
        """How well one specimen explains all cells with this lens, (9,).

        `place`: `Aberrations.coefficients`, then the angle in radian by which the cells are turned
        (positive as `rotation_deg` of the optics).
        """
        return float(self.evidences(place).sum())

    def evidences(self, place: F64) -> F64:
        """The same in parts, see `Linear.evidences`."""
        return self.estimate(place).evidences()

    def estimate(self, place: F64) -> Linear:
        """Of the specimen through this lens."""
        estimate = Linear(self.at, place[:TURN])
        estimate.add_all(self.spectra, self.counts, turned(self.points, float(place[TURN])))
        return estimate

    def explained(self, place: F64) -> float:
        """Part of what the cells see beyond their noise that one specimen explains, about 0 to 1.

        Noise of a cell's relative intensity has the power N / n_k, so that the sum over cells of
        n_k |G|^2 is N for each of them and the rest is seen. 1 where that is not clearly there.
        """
        at, n = self.at, int(np.count_nonzero(self.at.done))
        seen = sum(
            float((at.twice * (cell.counts * np.abs(cell.spectrum) ** 2 - n)).sum())
            for cell in self
        )
        # |noise|^2 of a frequency scatters by as much as its mean
        error = n * math.sqrt(self.counts.size * float((at.twice**2).sum()))
        return self.estimate(place).signal() / seen if seen > SEEN * error else 1.0

    def coarser(self) -> Cells:
        """Cells of SEARCH_CELL semi-angles with one point each: quicker, for a search."""
        together: dict[tuple[int, int], list[Cell]] = {}
        for cell in self:
            y, x = np.floor(cell.points.mean(axis=0) / SEARCH_CELL).astype(int)
            together.setdefault((int(y), int(x)), []).append(cell)
        return Cells.of(self.at, [_pooled(cells) for cells in together.values()])

    def with_middles(self) -> Cells:
        """The same with one point a cell."""
        return replace(self, points=self.points.mean(axis=1, keepdims=True))


def turned(points: F64, angle: float) -> F64:
    """Points (.., 2), y and x, of a camera that is turned by so much more, in radian."""
    if angle == 0.0:
        return points
    cos, sin = math.cos(angle), math.sin(angle)
    # row vectors (y, x): y' = -x sin + y cos, x' = x cos + y sin
    return np.asarray(points @ np.array([[cos, sin], [-sin, cos]]))


def _pooled(cells: Sequence[Cell]) -> Cell:
    """Several cells as one, at the middle of their counts."""
    counts = sum(cell.counts for cell in cells)
    spectrum = sum((cell.spectrum * np.float32(cell.counts / counts) for cell in cells),
                   np.zeros_like(cells[0].spectrum))  # fmt: skip
    middle = sum(cell.points.mean(axis=0) * (cell.counts / counts) for cell in cells)
    return Cell(spectrum, counts, np.asarray(middle, np.float64).reshape(1, 2))
