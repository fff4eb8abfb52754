"""Measuring the lens: which aberrations make the bright-field cells agree on one specimen.

The evidence for a specimen (`estimate.Linear.evidence`) is largest where the aberrations are the
true ones: only then do all cells tell of the same phase. A coarse search over defocus and
astigmatism on a small part of the scan, then Newton's method; the curvature gives the errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

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
SYSTEMATIC, SYSTEMATIC_ASTIGMATISM = (0.015, 1.0), (0.005, 0.4)
"""Part of defocus and angstrom by which the evidence's peak is off beside what its width says: the
model's own error (edges, strong phases), from trials on the virtual microscope."""
TURN = 8
"""Index of the camera's further rotation among the numbers that are looked for."""
THIRD_ORDER_RADIAN = 0.3
"""Coma and three-fold astigmatism are told where they are known to so much, at the edge."""
BEYOND = 1.3
"""Of the limits of the search, to which its peak may climb."""
CLEARLY = 6.0
"""Standard errors from which on the sign of the atoms is believed."""
SYSTEMATIC_TURN = 0.003
"""Radian by which the rotation is off likewise."""
AXIAL, EVERY = (0, 1, 2, TURN), (0, 1, 2, 3, 4, 5, 6, TURN)
"""What is looked for: defocus, two-fold astigmatism and rotation; and with the third order."""
FINE_RADIAN = 0.05
"""Of the differences that Newton's method takes."""
MOST_TURNS = 15
FAR_RADIAN = 5.0
"""From the best place, where the evidence is that of a wrong lens."""
LEAST_QUALITY = 0.85
"""Where the peak is lower over its floor, something else is wrong: nothing is claimed."""
STRONG = 30.0
"""Evidence, beyond that of the best wrong place, from which on a peak is believed."""


@dataclass(frozen=True, slots=True)
class Cells:
    """The bright field of a part of a scan: its cells at these frequencies."""

    at: Frequencies
    cells: Sequence[Cell]

    def evidence(self, place: F64) -> float:
        """How well one specimen explains all cells with this lens, (9,).

        `place`: `Aberrations.coefficients`, then the angle in radian by which the cells are turned
        (positive as `rotation_deg` of the optics).
        """
        return Linear.of(self.at, self.turned(float(place[TURN])), place[:TURN]).evidence()

    def turned(self, angle: float) -> Sequence[Cell]:
        """The cells as of a camera that is turned by so much more, in radian."""
        if angle == 0.0:
            return self.cells
        cos, sin = math.cos(angle), math.sin(angle)
        # row vectors (y, x): y' = -x sin + y cos, x' = x cos + y sin
        turn = np.array([[cos, sin], [-sin, cos]])
        return [replace(cell, points=cell.points @ turn) for cell in self.cells]

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
    looked for, or of which the data say nothing. `turn_deg`: how much further the camera is turned
    than was told, -180 to 180. `third_order`: coma and three-fold astigmatism by the data, (4,) in
    angstrom, which are in `aberrations` only where they are clearly not as told. `evidence` of the
    data for it, `floor` that of lenses far away from it. `within`: it lies where it was looked for.
    """

    aberrations: Aberrations
    sigma: F64
    turn_deg: float
    turn_sigma_deg: float
    third_order: F64
    evidence: float
    floor: float
    within: bool = True

    @property
    def quality(self) -> float:
        """Height of the peak over its floor, in parts of the peak: 0 is flat, 1 is sure."""
        if not self.evidence > 0.0:
            return 0.0
        return max(0.0, 1.0 - max(0.0, self.floor) / self.evidence)

    @property
    def sure(self) -> bool:
        """Whether the data say anything about the lens."""
        peak = self.evidence - self.floor > STRONG and self.quality > LEAST_QUALITY
        return peak and self.within and bool(np.isfinite(self.sigma[:3]).all())


def measured(
    coarse: Cells,
    fine: Cells,
    told: Aberrations,
    beam: Beam,
    search: Search = Search(),
    go_on: Callable[[], bool] = lambda: True,
) -> Measured:
    """Defocus, two-fold astigmatism and the camera's rotation; what else was told stays.

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
    start = np.append(told.coefficients(beam), 0.0)
    found, floor = _searched(height_of(coarse.coarser()), start, unit, search)
    pooled = height_of(fine.coarser())
    near, _, _ = _climbed(pooled, found, AXIAL)
    best, height, curvature = _climbed(height_of(fine), near, AXIAL)
    share = height / max(1e-30, coarse.evidence(found))
    sigma, turn_sigma = _errors(-curvature, AXIAL, unit, best)
    third = np.full(4, np.nan)
    if height - floor * share > STRONG:
        there, reached, bent = _climbed(pooled, best, EVERY)
        errors, turn_error = _errors(-bent, EVERY, unit, there)
        if (errors[3:7] * unit[3:7]).max() < THIRD_ORDER_RADIAN:
            sigma[3:7], third = errors[3:7], (there[:TURN] / unit)[3:7]
            if reached - pooled(best) > STRONG:
                best, height, sigma, turn_sigma = there, reached, errors, turn_error
    lens, turn = Aberrations.of(best[:TURN], beam), math.degrees(float(best[TURN]))
    off = np.abs(lens.as_array() - told.as_array())
    if height - floor * share > STRONG and _dark_atoms(fine, best):
        lens, turn = lens.seen_from_behind(), turn - math.copysign(180.0, turn)
    return Measured(
        aberrations=lens,
        sigma=sigma,
        turn_deg=turn,
        turn_sigma_deg=turn_sigma,
        third_order=third,
        evidence=height,
        floor=floor * share,
        within=bool(
            off[0] < BEYOND * search.defocus + 1.0
            and math.hypot(*off[1:3]) < BEYOND * search.astigmatism + 1.0
        ),
    )


def _errors(information: F64, free: Sequence[int], unit: F64, place: F64) -> tuple[F64, float]:
    """Standard errors of the aberrations in angstrom and of the rotation in degree; NaN: none."""
    sigma = np.full(unit.size, np.nan)
    variance = _inverse(information)
    if variance is None:
        return sigma, math.nan
    defocus = place[0] / unit[0]
    model = np.full(len(free) - 1, SYSTEMATIC[1])
    model[0] = math.hypot(SYSTEMATIC[0] * defocus, SYSTEMATIC[1])
    model[1:3] = math.hypot(SYSTEMATIC_ASTIGMATISM[0] * defocus, SYSTEMATIC_ASTIGMATISM[1])
    lengths = list(free[:-1])
    # the model's error in angstrom of defocus, at the aperture's edge
    sigma[lengths] = np.hypot(np.sqrt(variance[:-1]), model * unit[0]) / unit[lengths]
    return sigma, math.degrees(math.hypot(math.sqrt(variance[-1]), SYSTEMATIC_TURN))


def _dark_atoms(cells: Cells, place: F64) -> bool:
    """Whether the phase is clearly that of dark atoms: then the camera is turned by half a turn.

    A camera turned by 180 degrees and a lens `seen_from_behind` explain the same data by the
    negative of the phase. Atoms are peaks of the phase, so its third moment is positive.
    """
    estimate = Linear.of(cells.at, cells.turned(float(place[TURN])), place[:TURN])
    cubes = estimate.phase().astype(np.float64) ** 3
    free = min(cubes.size, 2 * cells.at.index.size)
    return float(cubes.mean()) < -CLEARLY * float(cubes.std()) / math.sqrt(free)


def _searched(
    height_of: Callable[[F64], float], start: F64, unit: F64, search: Search
) -> tuple[F64, float]:
    """The best place of the coarse search, and the median evidence of those far from it."""
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
    best = tried[int(heights.argmax())][1]
    away = np.array([np.linalg.norm(place - best) for _, place in tried])
    far = heights[away >= min(FAR_RADIAN, float(away.max()))]
    return best, float(np.median(far))


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
