"""The evidence along lines of lenses that differ in their defocus alone, for a search."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.engines.kernels.defocus_lines import line_evidence, line_sums, ring_sums
from stemd.engines.lens.cells import TURN, Cells, turned
from stemd.engines.lens.rings import ring_powers

F64 = NDArray[np.float64]


class Lines:
    """What `Cells.evidence` says at many places, a tenth of the time each.

    `cells`: with one point each, as `Cells.coarser` makes them.
    """

    def __init__(self, cells: Cells) -> None:
        self._cells = cells
        self._turning = (np.nan, np.nan), np.zeros((0, 0), np.complex128)

    def evidence(self, places: F64) -> F64:
        """At places (m, 9) that differ by equal steps of the first number, (m,)."""
        cells, at = self._cells, self._cells.at
        step = float(places[-1, 0] - places[0, 0]) / max(1, len(places) - 1)
        points = turned(cells.points, float(places[0, TURN]))[:, 0]
        powers, denominators = np.empty((2, len(places), at.index.size))
        line_sums(
            cells.spectra, points, cells.counts, at.y, at.x, places[0, :TURN], step,
            self._turns(points, step, float(places[0, TURN])), powers, denominators,
        )  # fmt: skip
        rings = int(at.ring.max(initial=-1)) + 1
        sums = np.zeros((4, len(places), rings))
        ring_sums(powers, denominators, at.ring, at.twice, at.positions, at.share, sums)
        heights = np.zeros(len(places))
        line_evidence(
            powers, denominators, at.ring, at.twice, at.positions, at.share, ring_powers(*sums),
            heights,
        )  # fmt: skip
        return heights

    def _turns(self, points: F64, step: float, turn: float) -> NDArray[np.complex128]:
        """How much the waves turn from one place to the next: kept, as all lines have one step."""
        at, (key, turns) = self._cells.at, self._turning
        if key != (step, turn):
            turns = np.exp(-2j * step * (points @ np.stack([at.y, at.x])))
            self._turning = (step, turn), turns
        return turns
