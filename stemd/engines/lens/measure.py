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
from stemd.engines.lens.climb import APART_RADIAN, Peak, climbed, places, searched
from stemd.engines.lens.estimate import Cell, Frequencies, Linear

F64 = NDArray[np.float64]
MOST_PLACES = 10_000
"""Of one search, each of which costs about a millisecond."""

SEARCH_CELL = 0.22
"""Width of a cell of the search, apertures: narrow enough for the lens's phase over it."""
SYSTEMATIC, SYSTEMATIC_ASTIGMATISM = (0.025, 2.0), (0.002, 0.2)
"""Part of defocus and angstrom by which the evidence's peak is off beside what its width says: the
model's own error (edges, strong phases), from trials on the virtual microscope."""
TURN = 8
"""Index of the camera's further rotation among the numbers that are looked for."""
THIRD_ORDER_RADIAN = 0.3
"""Coma and three-fold astigmatism are told where they are known to so much, at the edge."""
BEYOND = 1.3
"""Of the limits of the search, to which its peak may climb."""
ATOMS_ANGSTROM = 1.0
"""Finest detail of a phase in which atoms are peaks; a coarser honeycomb has dark holes."""
CLEARLY = 6.0
"""Standard errors from which on the sign of the atoms is believed."""
SYSTEMATIC_TURN, TURN_SCATTER = 0.003, 1.3
"""Radian by which the rotation is off likewise, and times its own error: in crystals few
frequencies tell of it, and they are not as independent as the parts of the evidence are taken to
be."""
AXIAL, EVERY = (0, 1, 2, TURN), (0, 1, 2, 3, 4, 5, 6, TURN)
"""What is looked for: defocus, two-fold astigmatism and rotation; and with the third order."""
LEAST_QUALITY = 0.85
"""Where the peak is lower over its floor, something else is wrong: nothing is claimed."""
STRONG = 30.0
"""Evidence, beyond that of the best wrong place, from which on a peak is believed."""
COARSE = 3.0
"""Times that errors are larger where the scan's step is so coarse that detail folds back."""
SEEN, LEAST_EXPLAINED, COARSELY_EXPLAINED = 5.0, 0.35, 0.6
"""Standard errors from which on it is asked how much of what the cells see one weak specimen
explains, and the part of it below which nothing is claimed: the specimen is too thick for it. And
likewise where the step is coarse: what folds back is not explained."""
RIVALS, RIVAL = 3, 0.5
"""Peaks of the search that are climbed at most, and part of the highest one's height over the
floor from which on they are."""


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
        return float(self.evidences(place).sum())

    def evidences(self, place: F64) -> F64:
        """The same in parts, see `Linear.evidences`."""
        return self.estimate(place).evidences()

    def estimate(self, place: F64) -> Linear:
        """Of the specimen through this lens."""
        return Linear.of(self.at, self.turned(float(place[TURN])), place[:TURN])

    def explained(self, place: F64) -> float:
        """Part of what the cells see beyond their noise that one specimen explains, about 0 to 1.

        Noise of a cell's relative intensity has the power N / n_k, so that the sum over cells of
        n_k |G|^2 is N for each of them and the rest is seen. 1 where that is not clearly there.
        """
        at, n = self.at, int(np.count_nonzero(self.at.done))
        seen = sum(
            float((at.twice * (cell.counts * np.abs(cell.spectrum) ** 2 - n)).sum())
            for cell in self.cells
        )
        # |noise|^2 of a frequency scatters by as much as its mean
        error = n * math.sqrt(len(self.cells) * float((at.twice**2).sum()))
        return self.estimate(place).signal() / seen if seen > SEEN * error else 1.0

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

    def reach(self, unit: F64) -> list[float]:
        """The limits of the first three numbers of a place, in radian."""
        lengths = (self.defocus, self.astigmatism, self.astigmatism)
        return [length * float(size) for length, size in zip(lengths, unit[:3], strict=True)]


def affordable(search: Search, unit: F64) -> Search:
    """The same limits, or closer ones where that many places would take minutes to search.

    `unit`: radian an angstrom at the aperture's edge. The places of a search grow with the sixth
    power of the aperture: 8,600 at 300 kV and 25 mrad, 141,000 at 40 mrad.
    """
    while places(search.reach(unit)) > MOST_PLACES:
        search = Search(0.95 * search.defocus, 0.95 * search.astigmatism)
    return search


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
    `lead`: by how much evidence it is ahead of any other peak. `explained`: part of what the cells
    see that one specimen explains. `upright`: the phase is clearly that of bright atoms, so that
    the camera is not turned by half a turn and the lens not of the other sign. `apparent`: the
    lens that explains the cells best, where descan makes that another one; for images.
    `least_explained`: below this part nothing is claimed.
    """

    aberrations: Aberrations
    sigma: F64
    turn_deg: float
    turn_sigma_deg: float
    third_order: F64
    evidence: float
    floor: float
    within: bool = True
    lead: float = math.inf
    explained: float = 1.0
    upright: bool = True
    apparent: Aberrations | None = None
    least_explained: float = LEAST_EXPLAINED

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
        alone = self.within and self.lead > STRONG and self.explained > self.least_explained
        return peak and alone and bool(np.isfinite(self.sigma[:3]).all())


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

    def parts_of(cells: Cells) -> Callable[[F64], F64]:
        def parts(place: F64) -> F64:
            if not go_on():
                raise StoppedError
            return cells.evidences(place)

        return parts

    unit = scales(beam)
    search = affordable(search, unit)
    start = np.append(told.coefficients(beam), 0.0)
    rough = parts_of(coarse.coarser())
    peaks, floor = searched(
        lambda place: float(rough(place).sum()),
        start,
        search.reach(unit),
        search.astigmatism * unit[1] * 1.001,
        RIVALS,
    )
    pooled = parts_of(fine.coarser())
    near, rival = _highest(pooled, peaks, floor)
    peak = climbed(parts_of(fine), near.place, AXIAL)
    share = peak.height / max(1e-30, coarse.evidence(peaks[0][1]))
    coarse_step = COARSE if fine.at.coarse else 1.0
    sigma, turn_sigma = _errors(peak, AXIAL, unit)
    third = np.full(4, np.nan)
    if peak.height - floor * share > STRONG:
        other = climbed(pooled, peak.place, EVERY)
        errors, turn_error = _errors(other, EVERY, unit)
        if (errors[3:7] * unit[3:7]).max() < THIRD_ORDER_RADIAN:
            sigma[3:7], third = errors[3:7], (other.place[:TURN] / unit)[3:7]
            if other.height - float(pooled(peak.place).sum()) > STRONG:
                peak, sigma, turn_sigma = other, errors, turn_error
    place = peak.place
    lens, turn = Aberrations.of(place[:TURN], beam), math.degrees(float(place[TURN]))
    off = np.abs(lens.as_array() - told.as_array())
    resolved = fine.at.finest <= ATOMS_ANGSTROM * beam.aperture
    clear = peak.height - floor * share > STRONG and resolved
    bright = _brightness(fine, place) if clear else 0.0
    if bright < -CLEARLY:
        lens, turn = lens.seen_from_behind(), turn - math.copysign(180.0, turn)
    return Measured(
        aberrations=lens,
        sigma=sigma * coarse_step,
        turn_deg=turn,
        turn_sigma_deg=turn_sigma * coarse_step,
        third_order=third,
        evidence=peak.height,
        floor=floor * share,
        within=bool(
            off[0] < BEYOND * search.defocus + 1.0
            and math.hypot(*off[1:3]) < BEYOND * search.astigmatism + 1.0
        ),
        lead=near.height - rival,
        explained=fine.explained(place),
        upright=abs(bright) > CLEARLY,
        least_explained=COARSELY_EXPLAINED if fine.at.coarse else LEAST_EXPLAINED,
    )


def _highest(
    parts_of: Callable[[F64], F64], peaks: Sequence[tuple[float, F64]], floor: float
) -> tuple[Peak, float]:
    """The highest of the peaks of a search once they are climbed, and the next one's height.

    That is -inf where no other is worth a climb, or all lead to the same place.
    """
    least = floor + RIVAL * (peaks[0][0] - floor)
    chosen = [place for height, place in peaks if height >= least] or [peaks[0][1]]
    tops = sorted(
        (climbed(parts_of, place, AXIAL) for place in chosen), key=lambda top: -top.height
    )
    others = [
        top.height
        for top in tops[1:]
        if np.linalg.norm(top.place[:3] - tops[0].place[:3]) > APART_RADIAN / 2
    ]
    return tops[0], max(others, default=-math.inf)


def _errors(peak: Peak, free: Sequence[int], unit: F64) -> tuple[F64, float]:
    """Standard errors of the aberrations in angstrom and of the rotation in degree; NaN: none."""
    sigma = np.full(unit.size, np.nan)
    variance = peak.variance()
    if variance is None:
        return sigma, math.nan
    defocus = peak.place[0] / unit[0]
    model = np.full(len(free) - 1, SYSTEMATIC[1])
    model[0] = math.hypot(SYSTEMATIC[0] * defocus, SYSTEMATIC[1])
    model[1:3] = math.hypot(SYSTEMATIC_ASTIGMATISM[0] * defocus, SYSTEMATIC_ASTIGMATISM[1])
    lengths = list(free[:-1])
    # the model's error in angstrom of defocus, at the aperture's edge
    sigma[lengths] = np.hypot(np.sqrt(variance[:-1]), model * unit[0]) / unit[lengths]
    return sigma, math.degrees(math.hypot(TURN_SCATTER * math.sqrt(variance[-1]), SYSTEMATIC_TURN))


def _brightness(cells: Cells, place: F64) -> float:
    """By how many standard errors the phase's third moment is above 0: atoms are its peaks.

    A camera turned by 180 degrees and a lens `seen_from_behind` explain the same data by the
    negative of the phase, so what is clearly below 0 is a camera turned by half a turn.
    """
    cubes = cells.estimate(place).phase().astype(np.float64) ** 3
    error = float(cubes.std()) / math.sqrt(min(cubes.size, 2 * cells.at.index.size))
    return float(cubes.mean()) / error if error > 0.0 else 0.0
