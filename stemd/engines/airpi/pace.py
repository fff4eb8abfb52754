"""How long the network takes, by its last batches."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stemd.engines.airpi.object import Begin

PACE_BATCHES, LEAST_BATCHES = 30, 5
"""Batches of which the middle pace is believed: one that was held up says nothing of the others."""


class Pace:
    """How long a group takes, with all that is done for it, by the last batches."""

    def __init__(self) -> None:
        self._batches: deque[float] = deque(maxlen=PACE_BATCHES)

    def timed(self, begin: Begin) -> Begin:
        """The same, for the batches of one line, which begins now."""
        last = time.monotonic()

        def begun(features: NDArray[np.float32]) -> Callable[[], NDArray[np.complex64]]:
            wait, groups = begin(features), len(features)

            def waited() -> NDArray[np.complex64]:
                nonlocal last
                made, now = wait(), time.monotonic()
                self.add(now - last, groups)
                last = now
                return made

            return waited

        return begun

    def add(self, seconds: float, groups: int) -> None:
        """A batch of so many groups took so long."""
        self._batches.append(seconds / groups)

    @property
    def group_s(self) -> float:
        """Seconds a group, 0 while too little is known."""
        return statistics.median(self._batches) if len(self._batches) >= LEAST_BATCHES else 0.0
