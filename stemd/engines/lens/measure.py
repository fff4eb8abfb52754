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
from stemd.engines.lens.cells import TURN, Cells
from stemd.engines.lens.climb import APART_RADIAN, Peak, climbed, places, searched
from stemd.engines.lens.lines import Lines

F64 = NDArray[np.float64]
MOST_PLACES = 10_000
"""Of one search, each of which costs some 40 microseconds."""

SYSTEMATIC, SYSTEMATIC_ASTIGMATISM = (0.025, 2.0), (0.002, 0.2)
"""Part of defocus and angstrom by which the evidence's peak is off beside what its width says: the
model's own error (edges, strong phases), from trials on the virtual microscope."""
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
NOTHING, NOTHING_AT_TOP = STRONG / 4, STRONG / 2
"""Evidence of all cells at the best peak of the search, and at its top, below which it is noise and
nobody looks on. Of lenses that are claimed the peak of the search has 0.4 or more of the evidence,
the top 0.8; the best of 10,000 places of noise, up to 15."""
COARSE = 3.0
"""Times that errors are larger where the scan's step is so coarse that detail folds back."""
LEAST_EXPLAINED, COARSELY_EXPLAINED = 0.35, 0.6
"""Part of what the cells see that one weak specimen explains below which nothing is claimed: the
specimen is too thick for it. And likewise where the step is coarse: what folds back is not
explained."""
RIVALS, RIVAL = 3, 0.5
"""Peaks of the search that are climbed at most, and part of the highest one's height over the
floor from which on they are."""


@dataclass(frozen=True, slots=True)
class Search:
    """Within which limits, in angstrom, the lens is looked for about what was told."""

    defocus: float = 300.0
    astigmatism: float = 50.0

    def reach(self, unit: F64) -> list[float]:
        """The limits of the first three numbers of a place, in radian."""
        lengths = (self.defocus, self.astigmatism, self.astigmatism)
        return [length * float(size) for length, size in zip(lengths, unit[:3], strict=True)]


def affordable(search: Search, unit: F64, most: int = MOST_PLACES) -> Search:
    """The same limits, or closer ones where that many places would take minutes to search.

    `unit`: radian an angstrom at the aperture's edge. The places of a search grow with the sixth
    power of the aperture: 8,600 at 300 kV and 25 mrad, 141,000 at 40 mrad.
    """
    while places(search.reach(unit)) > most:
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
    `least_explained`: below this part nothing is claimed. `possible`: every peak of the search
    that was worth a climb, its top, the highest first.
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
    possible: tuple[Aberrations, ...] = ()

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
        alone = self.within and self.lead > STRONG and self.explains
        return peak and alone and bool(np.isfinite(self.sigma[:3]).all())

    @property
    def explains(self) -> bool:
        """Whether one specimen explains as much of what the cells see as one has to."""
        return self.explained > self.least_explained


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
    to be used. Costs some thousand sums over `coarse`, and some hundred over `fine` where there is
    more than noise. Raises StoppedError once `go_on` says no.
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
    lines = Lines(coarse.coarser())

    def heights(places: F64) -> F64:
        if not go_on():
            raise StoppedError
        return lines.evidence(places)

    peaks, floor = searched(
        heights,
        start,
        search.reach(unit),
        search.astigmatism * unit[1] * 1.001,
        RIVALS,
    )
    every = parts_of(fine)
    if (seen := _highest(every, [place for _, place in peaks]))[0] < NOTHING:
        return _nothing(fine, *seen, beam)
    pooled = parts_of(fine.coarser())
    tops = _tops(pooled, peaks, floor)
    if (seen := _highest(every, [top.place for top in tops]))[0] < NOTHING_AT_TOP:
        return _nothing(fine, *seen, beam)
    near, rival = tops[0], max((top.height for top in tops[1:]), default=-math.inf)
    peak = climbed(every, near.place, AXIAL)
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
        possible=tuple(Aberrations.of(top.place[:TURN], beam) for top in tops),
    )


def _highest(parts_of: Callable[[F64], F64], places: Sequence[F64]) -> tuple[float, F64]:
    """The largest evidence at these places, and where it is."""
    heights = [float(parts_of(place).sum()) for place in places]
    best = int(np.argmax(heights))
    return heights[best], places[best]


def _nothing(cells: Cells, height: float, place: F64, beam: Beam) -> Measured:
    """What is measured where noise has as much evidence as any lens, at the best one."""
    return Measured(
        aberrations=Aberrations.of(place[:TURN], beam),
        sigma=np.full(TURN, np.nan),
        turn_deg=0.0,
        turn_sigma_deg=math.nan,
        third_order=np.full(4, np.nan),
        evidence=height,
        floor=height,
        lead=0.0,
        explained=cells.explained(place),
        upright=False,
    )


def _tops(parts_of: Callable[[F64], F64], peaks: Sequence[tuple[float, F64]], floor: float
          ) -> list[Peak]:  # fmt: skip
    """The peaks of a search that are worth a climb, climbed, the highest first; each once."""
    least = floor + RIVAL * (peaks[0][0] - floor)
    chosen = [place for height, place in peaks if height >= least] or [peaks[0][1]]
    tops = sorted(
        (climbed(parts_of, place, AXIAL) for place in chosen), key=lambda top: -top.height
    )
    apart: list[Peak] = []
    for top in tops:
        nearest = min(
            (np.linalg.norm(top.place[:3] - other.place[:3]) for other in apart), default=math.inf
        )
        if nearest > APART_RADIAN / 2:
            apart.append(top)
    return apart


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
