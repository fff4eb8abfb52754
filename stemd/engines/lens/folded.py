"""The lens of a scan whose steps fold fine detail back onto coarse.

What is folded back contradicts one specimen through the true lens, so that the evidence of
`lens.measure` may be largest for a wrong one. That of `lens.finer`, which tells the waves apart
that a scan folds together, is not misled, but takes fifty times as long: it is asked for on a small
part of the scan, with few cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations, scales
from stemd.beam import Beam
from stemd.engines.lens.cells import Cells
from stemd.engines.lens.climb import APART_RADIAN, climbed, searched
from stemd.engines.lens.finer import Finer, times_for
from stemd.engines.lens.measure import Search, StoppedError, affordable

F64 = NDArray[np.float64]

MOST_PLACES = 100
"""Of a search, each of which costs some 30 milliseconds."""
RIVALS = 2
"""Peaks of it that are climbed."""
AXIAL = (0, 1, 2)
"""Defocus and two-fold astigmatism."""


@dataclass(frozen=True, slots=True)
class Folded:
    """A small part of a scan: its cells at all of its frequencies (`Frequencies.whole`).

    `go_on()`: no ends all by StoppedError.
    """

    cells: Cells
    beam: Beam
    step_angstrom: float
    go_on: Callable[[], bool]

    def evidence(self, lens: Aberrations) -> float:
        """How well one specimen explains the cells through a lens."""
        return float(self._at(lens.coefficients(self.beam))[0])

    def tops(
        self, told: Aberrations, search: Search, least: float = -math.inf
    ) -> list[tuple[float, Aberrations]]:
        """The highest peaks about the lens told with their evidence, the highest first.

        Each once; none where no place of the search has the `least` evidence. Raises StoppedError.
        """
        unit = scales(self.beam)
        near = affordable(search, unit, MOST_PLACES)
        peaks, _ = searched(
            lambda line: np.concatenate([self._at(place) for place in line]),
            told.coefficients(self.beam),
            near.reach(unit), near.astigmatism * unit[1] * 1.001, RIVALS,
        )  # fmt: skip
        if peaks[0][0] < least:
            return []
        tops = sorted(
            (climbed(self._at, place, AXIAL) for _, place in peaks), key=lambda top: -top.height
        )
        found = [(top.height, Aberrations.of(top.place, self.beam)) for top in tops]
        return [found[0], *(each for each in found[1:] if self.apart(each[1], found[0][1]))]

    def apart(self, one: Aberrations, other: Aberrations) -> bool:
        """Whether two lenses are so different that they are peaks of their own."""
        change = one.coefficients(self.beam) - other.coefficients(self.beam)
        return float(np.linalg.norm(change[:3])) > APART_RADIAN / 2

    def _at(self, place: F64) -> F64:
        if not self.go_on():
            raise StoppedError
        times = times_for(self.beam, self.step_angstrom)
        sums = Finer(self.cells.at, self.beam, self.step_angstrom, times, place)
        for cell in self.cells:
            sums.add(cell)
        return np.array([sums.solved()[2]])
