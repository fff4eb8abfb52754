"""Measuring the lens: which aberrations make the bright-field cells agree on one specimen.

The evidence for a specimen (`estimate.Linear.evidence`) is largest where the aberrations are the
true ones: only then do all cells tell of the same phase. A coarse search over defocus and
astigmatism on a small part of the scan, then Newton's method; the curvature gives the errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations, scales
from stemd.beam import Beam
from stemd.engines.lens.estimate import Cell, Frequencies, Linear

F64 = NDArray[np.float64]

STEP_RADIAN = 1.0
"""Of the coarse search, at the aperture's edge: the evidence's peak is about twice as wide."""
SEARCH_CELL = 0.22
"""Width of a cell of the search, apertures: narrow enough for the lens's phase over it."""
SYSTEMATIC = 0.01, 1.2
"""Part of defocus and angstrom by which the evidence's peak is off beside what its width says: the
model's own error (edges, strong phases), from trials on the virtual microscope."""
FINE_RADIAN = 0.05
"""Of the differences that Newton's method takes."""
MOST_TURNS = 25
STRONG = 30.0
"""Evidence, beyond that of the best wrong place, from which on a peak is believed."""


@dataclass(frozen=True, slots=True)
class Cells:
    """The bright field of a part of a scan: its cells at these frequencies."""

    at: Frequencies
    cells: Sequence[Cell]

    def evidence(self, coefficients: F64) -> float:
        """How well one specimen explains all cells with this lens."""
        return Linear.of(self.at, self.cells, coefficients).evidence()

    def coarser(self) -> Cells:
        """Cells of SEARCH_CELL semi-angles with one point each: quicker, for a search."""
        together: dict[tuple[int, int], list[Cell]] = {}
        for cell in self.cells:
            y, x = np.floor(cell.points.mean(axis=0) / SEARCH_CELL).astype(int)
            together.setdefault((int(y), int(x)), []).append(cell)
        return Cells(self.at, [_pooled(cells) for cells in together.values()])

    def with_middles(self) -> Cells:
        """The same with one point a cell."""
        return Cells(self.at, [_pooled([cell]) for cell in self.cells])


def _pooled(cells: Sequence[Cell]) -> Cell:
    """Several cells as one, at the middle of their counts."""
    counts = sum(cell.counts for cell in cells)
    spectrum = sum((cell.spectrum * np.float32(cell.counts / counts) for cell in cells),
                   np.zeros_like(cells[0].spectrum))  # fmt: skip
    middle = sum(cell.points.mean(axis=0) * (cell.counts / counts) for cell in cells)
    return Cell(spectrum, counts, np.asarray(middle, np.float64).reshape(1, 2))


@dataclass(frozen=True, slots=True)
class Search:
    """Within which limits, in angstrom, the lens is looked for about what was told."""

    defocus: float = 300.0
    astigmatism: float = 50.0


class StoppedError(Exception):
    """There is no time to measure on."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The lens as the data have it.

    `sigma`: standard error of each number of `Aberrations.as_array`, NaN for those that were not
    looked for. `evidence` of the data for it, `floor` that of lenses far away from it.
    """

    aberrations: Aberrations
    sigma: F64
    evidence: float
    floor: float

    @property
    def quality(self) -> float:
        """Height of the peak over its floor, in parts of the peak: 0 is flat, 1 is sure."""
        if not self.evidence > 0.0:
            return 0.0
        return max(0.0, 1.0 - max(0.0, self.floor) / self.evidence)

    @property
    def sure(self) -> bool:
        """Whether the data say anything about the lens."""
        return self.evidence - self.floor > STRONG and bool(np.isfinite(self.sigma[:3]).all())


def measured(
    coarse: Cells,
    fine: Cells,
    told: Aberrations,
    beam: Beam,
    search: Search = Search(),
    go_on: Callable[[], bool] = lambda: True,
) -> Measured:
    """Defocus and two-fold astigmatism; what else was told stays.

    `coarse`: of a small part of the scan, on which the search is made; `fine`: of as much as is
    to be used. Costs some hundred sums over `coarse` and some fifty over `fine`. Raises
    StoppedError once `go_on` says no.
    """

    def height_of(cells: Cells) -> Callable[[F64], float]:
        def height(coefficients: F64) -> float:
            if not go_on():
                raise StoppedError
            return cells.evidence(coefficients)

        return height

    unit = scales(beam)
    start = told.coefficients(beam)
    found, floor = _searched(height_of(coarse.coarser()), start, unit, search)
    free = (0, 1, 2)
    near, _, _ = _climbed(height_of(fine.coarser()), found, free)
    best, height, curvature = _climbed(height_of(fine), near, free)
    sigma = np.full(unit.size, np.nan)
    variance = _inverse(-curvature)
    if variance is not None:
        part, least = SYSTEMATIC
        model = math.hypot(part * best[0] / unit[0], least)
        sigma[list(free)] = np.hypot(np.sqrt(variance) / unit[list(free)], model)
    share = height / max(1e-30, coarse.evidence(found))
    return Measured(Aberrations.of(best, beam), sigma, height, floor * share)


def _searched(
    height_of: Callable[[F64], float], start: F64, unit: F64, search: Search
) -> tuple[F64, float]:
    """The best place of the coarse search, and the median evidence of all others."""
    tried: list[tuple[float, F64]] = []
    reach = [search.defocus, search.astigmatism, search.astigmatism]
    steps = [_steps(length * size) for length, size in zip(reach, unit[:3], strict=True)]
    most = search.astigmatism * unit[1] * 1.001
    for x in steps[1]:
        for y in steps[2]:
            if math.hypot(x, y) <= most:
                for z in steps[0]:
                    place = start.copy()
                    place[:3] += z, x, y
                    tried.append((height_of(place), place))
    heights = np.array([height for height, _ in tried])
    return tried[int(heights.argmax())][1], float(np.median(heights))


def _steps(reach: float) -> F64:
    count = max(0, math.ceil(reach / STEP_RADIAN))
    return np.linspace(-reach, reach, 2 * count + 1) if count else np.zeros(1)


def _climbed(
    height_of: Callable[[F64], float], start: F64, free: Sequence[int]
) -> tuple[F64, float, F64]:
    """The maximum near `start` over the `free` numbers, its height and second derivatives."""
    place, height = start, height_of(start)
    hessian = np.zeros((len(free), len(free)))
    for _ in range(MOST_TURNS):
        gradient, hessian = _derivatives(height_of, place, height, free)
        values, vectors = np.linalg.eigh(hessian)
        # uphill also where the surface is not a hill yet
        step = vectors @ ((vectors.T @ gradient) / np.maximum(np.abs(values), 1e-9))
        step *= min(1.0, STEP_RADIAN / max(1e-12, float(np.abs(step).max())))
        for _ in range(6):
            there = place.copy()
            there[list(free)] += step
            reached = height_of(there)
            if reached > height:
                break
            step *= 0.4
        else:
            break
        small = float(np.abs(step).max()) < FINE_RADIAN / 50
        place, height = there, reached
        if small:
            break
    return place, height, _derivatives(height_of, place, height, free)[1]


def _derivatives(
    height_of: Callable[[F64], float], place: F64, height: float, free: Sequence[int]
) -> tuple[F64, F64]:
    """Gradient and second derivatives over the `free` numbers, by central differences."""
    n, h = len(free), FINE_RADIAN
    gradient, hessian = np.zeros(n), np.zeros((n, n))

    def at(*moves: tuple[int, float]) -> float:
        there = place.copy()
        for number, change in moves:
            there[free[number]] += change
        return height_of(there)

    sides = [(at((i, h)), at((i, -h))) for i in range(n)]
    for i, (up, down) in enumerate(sides):
        gradient[i] = (up - down) / (2 * h)
        hessian[i, i] = (up - 2 * height + down) / h**2
    for i in range(n):
        for j in range(i):
            both = at((i, h), (j, h)) - sides[i][0] - sides[j][0] + height
            hessian[i, j] = hessian[j, i] = both / h**2
    return gradient, hessian


def _inverse(information: F64) -> F64 | None:
    """Diagonal of the inverse of a positive matrix, None where it is not one."""
    if not np.isfinite(information).all() or np.linalg.eigvalsh(information).min() <= 0.0:
        return None
    return np.asarray(np.diag(np.linalg.inv(information)))
