"""Frames that a second client takes: ZeroMQ hands messages to the clients of a stream in turn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.blocks import Notice

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

    def noticed(self, numbers: NDArray[np.int64]) -> Notice | None:
        """Look at frames of these `numbers`; what is to be told, once a series."""
        if self._told or not numbers.size:
            return None
        if self._last >= 0:
            self._gaps += int(numbers[0] > self._last + 1)
            self._frames += 1
        steps = np.diff(numbers)
        self._gaps += int(np.count_nonzero(steps > 1))
        self._frames += steps.size
        self._last = int(numbers[-1])
        if self._frames < LOOK_FRAMES or self._gaps < _SHARE * self._frames:
            return None
        self._told = True
        share = round(100 * self._gaps / (self._gaps + self._frames))
        return Notice(
            "stolen_frames",
            f"{share} of 100 images do not come, evenly: another client takes them",
            "error",
            remedy="end the other program that is connected to the stream; the control unit "
            "hands each image to one client only",
        )
