"""Images that grow with a scan: of a large one the same memory each time, by what has changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stemd.engines.base import PositionMaps, Positions
from stemd.engines.vectors import stretches

LARGE = 1 << 21
"""Positions of a scan whose growing images are not made anew for each snapshot."""
MOST_RUNS = 1024
"""Runs of positions that are remembered apart, or half of them: of those nearest to each other."""


class Growing:
    """Where an engine writes its images, float32 (ny*nx,), and which positions it must write.

    Of a large scan growing images stay where they are: only positions that have come since are
    written, and whoever still looks at an earlier snapshot sees them too, each value whole. Of
    other scans each snapshot has arrays of its own. Finished images are written in full; a large
    scan's take over the memory of the growing ones, which is then forgotten.
    """

    def __init__(self, maps: PositionMaps) -> None:
        self._maps = maps
        self._stays = maps.total.size >= LARGE
        self._kept: dict[str, NDArray[np.float32]] = {}
        self._stale: list[Positions] = []
        self._came: list[Positions] = []

    def came(self, first: int, stop: int) -> None:
        """These positions have become complete."""
        if not self._stays:
            return
        for runs in (self._stale, self._came):
            if runs and runs[-1][1] == first:
                runs[-1] = (runs[-1][0], stop)
            else:
                runs.append((first, stop))
        if len(self._came) > MOST_RUNS:
            self._came = joined(self._came, MOST_RUNS // 2)

    def anew(self) -> None:
        """All positions that have come are to be written again; the others are 0 anyway."""
        self._stale = list(self._came)

    @property
    def stays(self) -> bool:
        """Whether growing images stay where they are."""
        return self._stays and self._maps.counts is None

    def take(
        self, names: Sequence[str], *, final: bool
    ) -> tuple[list[NDArray[np.float32]], list[Positions]]:
        """The images of these names, and the positions to write into them, some at a time."""
        size, kept = self._maps.total.size, self._kept
        parts: Sequence[Positions] = [(0, size)]
        if self.stays:
            if not final:
                parts = self._stale if all(name in kept for name in names) else self._came
            fresh = [name for name in names if name not in kept]
            kept |= {name: np.zeros(size, np.float32) for name in fresh}
            self._kept = {name: kept[name] for name in names}
            self._stale = []
            images = [self._kept[name] for name in names]
        else:
            images = [np.zeros(size, np.float32) for _ in names]
        if final:
            self._kept = {}
        return images, [part for run in parts for part in stretches(*run)]


def joined(runs: Sequence[Positions], most: int) -> list[Positions]:
    """Runs that hold all of these positions, at most so many; the smallest gaps are in them."""
    firsts, stops = np.array(sorted(runs)).T
    stops = np.maximum.accumulate(stops)
    gaps = firsts[1:] - stops[:-1]
    apart = gaps > max(0, np.sort(gaps)[-most] if gaps.size >= most else 0)
    starts = np.concatenate(([0], np.flatnonzero(apart) + 1))
    ends = np.concatenate((starts[1:], [firsts.size])) - 1
    pairs = zip(firsts[starts], stops[ends], strict=True)
    return [(int(first), int(stop)) for first, stop in pairs]
