"""The lines of a scan made by the network, as finely as the time allows."""

from __future__ import annotations

import math
import time

import numpy as np
from numpy.typing import NDArray

from stemd.engines.airpi.coarseness import LATEST_S, LEAST_S, Backlog
from stemd.engines.airpi.model import Loaded
from stemd.engines.airpi.neighbourhoods import Neighbourhood
from stemd.engines.airpi.pace import Pace
from stemd.engines.airpi.scan_lines import ScanLines
from stemd.engines.airpi.setup import AirpiSettings, Prepared

LEAST_LINES = 4
"""Of a scan, from which on they say how long the others will take."""


class Making:
    """Of a scan of so many `lines`. `end` may be called by any thread, the others by one.

    `beside`: a camera waits, so that the network may have to leave positions out.
    """

    def __init__(self, network: Loaded, lines: int, *, beside: bool) -> None:
        self._network, self._is_beside = network, beside
        self._pace = Pace()
        self._began, self._until = 0.0, math.inf
        self.whole: NDArray[np.bool_] = np.zeros(lines, np.bool_)
        """Lines made as finely as was asked for."""
        self.coarser: tuple[int, Neighbourhood] | None = None
        """The first line for which there was too little time, and what was chosen for it."""

    def end(self) -> None:
        """The scan is over: the time for what is left runs from now on."""
        self._until = time.monotonic() + LATEST_S

    def next(self, prepared: Prepared, own: AirpiSettings) -> bool:
        """Make one line; False if there is none that can be made now."""
        thing, coarseness = prepared.thing, prepared.coarseness
        thing.neighbourhood = coarseness.choose(own.repetition, own.every, self._backlog(prepared))
        line = thing.waiting()
        if line is None:
            return False
        if coarseness.gave_way and self.coarser is None:
            self.coarser = line, thing.neighbourhood
        # a line that found no room counts as made: nobody will ask for it again
        held = thing.lines.slot(line) >= 0
        thing.make(line, self._pace.timed(self._network.begin))
        self.whole[line] = held and not coarseness.gave_way
        return True

    def _backlog(self, prepared: Prepared) -> Backlog:
        if not self._is_beside:
            return Backlog()
        thing = prepared.thing
        return Backlog(
            thing.backlog, prepared.backlog_lines, self._pace.group_s,
            int(np.count_nonzero(~thing.lines.made)), self._left_s(thing.lines),
        )  # fmt: skip

    def _left_s(self, lines: ScanLines) -> float:
        """Until the network is to be done: as the scan has gone until now."""
        now = time.monotonic()
        if self._until < math.inf:
            return max(LEAST_S, self._until - now)
        self._began = self._began or now
        come = lines.high - lines.low + 1
        if come < LEAST_LINES:
            return math.inf
        return (now - self._began) / come * (lines.shape[0] - 1 - lines.high) + LATEST_S
