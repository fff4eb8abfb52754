"""How many positions a network is to work on: as the user says, as the dose and the time allow."""

from __future__ import annotations

import math
from typing import Literal

from stemd.engines.airpi.neighbourhoods import Neighbourhood

AUTO_ELECTRONS = 900.0
"""In the sum of an m x m box: with "auto" m is as large as it takes to have so many."""
AUTO_STEP = 0.55
"""Of the Airy radius: as far as m steps may reach where m is not given by the user."""
MOST_AUTO = 8
LADDER = (1, 2, 3, 4, 6, 8, 12, 16)
"""Every so-manieth position is taken, by how full the backlog is, in eighths."""


Repetition = Literal["auto"] | int


class Coarseness:
    """Chooses the neighbourhood of each line of `nx` positions.

    `step_radii`: the step in radii of the Airy disc; `electrons` a pattern, if known. When
    `gives_way`, the fuller the backlog the fewer positions are made, each with the patterns of
    more: their electrons are not lost as long as the box stays within the probe. It does not get
    finer again within a scan, whose image would show every change. `repetition` is what memory
    is allocated for: a larger one that is asked for later is cut down to what has room.
    """

    def __init__(
        self,
        nx: int,
        step_radii: float,
        electrons: float | None,
        repetition: Repetition,
        *,
        gives_way: bool,
    ) -> None:
        self._nx = nx
        self._widest = max(1, min(MOST_AUTO, nx, math.floor(AUTO_STEP / step_radii)))
        self._dose = 1
        if electrons is not None:
            wanted = math.sqrt(AUTO_ELECTRONS / max(electrons, 1e-3))
            self._dose = max(1, min(self._widest, math.ceil(wanted - 1e-6)))
        self._gives_way = gives_way
        self._most = max(self._repetition(repetition), self._widest if gives_way else 1)
        self.coarser = 1
        """Every so-manieth position at least, for want of time."""
        self.gave_way = False
        """Whether what was chosen last is coarser than what was asked for."""

    @property
    def most(self) -> Neighbourhood:
        """The neighbourhood that reaches farthest of all that may be chosen."""
        return Neighbourhood(self._nx, self._most, 1)

    def choose(
        self, repetition: Repetition, every: Literal["auto"] | int, backlog: float
    ) -> Neighbourhood:
        """For the next line; `backlog`: which part of the room for waiting lines is taken."""
        if self._gives_way:
            step = LADDER[min(len(LADDER) - 1, int(backlog * len(LADDER)))]
            self.coarser = max(self.coarser, min(step, self._nx))
        m = min(self._repetition(repetition), self._most)
        n = max(1, m // 2) if every == "auto" else min(every, self._nx)
        self.gave_way = self.coarser > n
        if self.gave_way:
            n = self.coarser
            m = max(m, min(n, self._widest))
        return Neighbourhood(self._nx, m, n)

    def _repetition(self, asked: Repetition) -> int:
        return self._dose if asked == "auto" else min(asked, self._nx)
