"""Frames that a second client takes: ZeroMQ hands messages to the clients of a stream in turn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LOOK_FRAMES = 64
"""So many frames are looked at before anything is said."""
_SHARE = 0.4


class StolenFrames:
    """Whether every second frame of a series, or more, goes to somebody else."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Another series begins."""
        self._last = -1
        self._frames = self._gaps = 0
        self._told = False

    def noticed(self, numbers: NDArray[np.int64]) -> int:
        """Of frames of these `numbers`, how many of 100 did not come; 0: all is well, or told."""
        if self._told or not numbers.size:
            return 0
        if self._last >= 0:
            self._gaps += int(numbers[0] > self._last + 1)
            self._frames += 1
        steps = np.diff(numbers)
        self._gaps += int(np.count_nonzero(steps > 1))
        self._frames += steps.size
        self._last = int(numbers[-1])
        if self._frames < LOOK_FRAMES or self._gaps < _SHARE * self._frames:
            return 0
        self._told = True
        return round(100 * self._gaps / (self._gaps + self._frames))
