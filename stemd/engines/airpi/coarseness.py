"""How many positions a network is to work on: as the user says, as the dose and the time allow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from stemd.engines.airpi.neighbourhoods import Neighbourhood

AUTO_ELECTRONS = 900.0
"""In the sum of an m x m box: with "auto" m is as large as it takes to have so many."""
AUTO_STEP = 0.55
"""Of the Airy radius: as far as m steps may reach where m is not given by the user."""
MOST_AUTO = 8
LADDER = (1, 2, 3, 4, 6, 8, 12, 16)
"""Steps between the positions that are made, along both axes."""
LATEST_S, LEAST_S = 1.5, 0.5
"""Seconds after a scan by which the network is to be done; so many it has always, so that one that
was held up and then goes on makes the same image."""
LAG_S = 5.0
"""Seconds of work that may wait for it during the scan: what is shown is not older."""
SPARE = 1.2
"""Times the work that is expected, for which there is to be time."""
FULL = 0.5
"""Part of the room for waiting lines from which on it decides, too, whatever the time."""


Repetition = Literal["auto"] | int


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for the network: `lines` of the `room` there is, and the pace of the last.

    `left` lines of the scan, those that are still to come included, are to be made within `left_s`.
    """

    lines: int = 0
    room: int = 1
    group_s: float = 0.0
    left: int = 0
    left_s: float = math.inf


class Coarseness:
    """Chooses the neighbourhood of each line of `nx` positions.

    `step_radii`: the step in radii of the Airy disc; `electrons` a pattern, if known. When
    `gives_way`, positions are left out once the network would take too long for what waits, or
    too little room is left; each is then made with the patterns of more, so that every electron is
    in the boxes of a position: what the network shows gets coarser, and has no holes. A network
    that is held up for some seconds and then goes on changes nothing. It does not get finer again
    within a scan, whose image would show every change. `repetition` is what memory is allocated
    for: a larger one that is asked for later is cut down to what has room.
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
        slowest = max(self._widest, _covering(LADDER[-1])) if gives_way else 1
        self._most = max(self._repetition(repetition), min(slowest, nx))
        self.coarser = 1
        """Least step between positions that are made, for want of time."""
        self.gave_way = False
        """Whether what was chosen last is coarser than what was asked for."""

    @property
    def most(self) -> Neighbourhood:
        """The neighbourhood that reaches farthest of all that may be chosen."""
        return Neighbourhood(self._nx, self._most, 1)

    def choose(
        self, repetition: Repetition, every: Literal["auto"] | int, backlog: Backlog = Backlog()
    ) -> Neighbourhood:
        """For the next line, with what waits."""
        if self._gives_way:
            self.coarser = max(self.coarser, min(self._step(backlog), self._nx))
        m = min(self._repetition(repetition), self._most)
        n = max(1, m // 2) if every == "auto" else min(every, self._nx)
        self.gave_way = self.coarser > n
        if self.gave_way:
            n = self.coarser
            m = max(m, min(n, self._widest), min(_covering(n), self._most))
        return Neighbourhood(self._nx, m, n)

    def _step(self, backlog: Backlog) -> int:
        """The step at which what waits is made soon, what is left in time, and both find room.

        What is left may be made in time with the next step: then there is some time for this one.
        """
        line_s = self._nx * backlog.group_s
        soon = _first(LADDER, backlog.lines * line_s / LAG_S)
        in_time = _first([*LADDER[1:], LADDER[-1]], SPARE * backlog.left * line_s / backlog.left_s)
        beyond = (backlog.lines / backlog.room - FULL) / (1.0 - FULL)
        full = LADDER[max(0, min(len(LADDER) - 1, int(beyond * len(LADDER))))]
        return max(soon, in_time, full)

    def _repetition(self, asked: Repetition) -> int:
        return self._dose if asked == "auto" else min(asked, self._nx)


def _covering(every: int) -> int:
    """Width of a box of which three, side by side, reach from one position made to the next."""
    return -(-every // 3)


def _first(steps: Sequence[int], times: float) -> int:
    """The first step of the ladder at which there are so many times fewer positions by `steps`."""
    return next(
        (step for step, made in zip(LADDER, steps, strict=True) if made**2 >= times), LADDER[-1]
    )
