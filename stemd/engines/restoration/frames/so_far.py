"""The frames of a place that is still being scanned, each found in the sum of those before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.engines.restoration.estimate.channels import shown_of
from stemd.engines.restoration.frames.aligned import LESS_LIKE, drift_of
from stemd.engines.restoration.frames.places import Places, add_frame, places_of
from stemd.engines.restoration.frames.rigid import Rigid
from stemd.engines.restoration.frames.rings import resolution
from stemd.engines.restoration.frames.shift import of_lines

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

GROWN = 1.3
"""Times the frames of which it was last seen what they show until that is seen again."""
LAST = 5
"""Frames that tell whether they are still found."""


class SoFar:
    """Frames (ny, nx) one after the other. `numbers` of those that fit, in their order.

    A frame that is less like the sum than those before it, by more than chance, is left out.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.numbers: list[int] = []
        self._rigid = Rigid(shape)
        self._lines: list[F64] = []
        self._halves = [(np.zeros(shape), np.zeros(shape, np.int32)) for _ in range(2)]
        self._shown: tuple[int, F32] | None = None
        self._usual: list[float] = []
        self._clear: list[bool] = []

    @property
    def certain(self) -> bool:
        """Whether most of the last frames were found by more than chance.

        Else the sum so far may be of frames that do not lie upon each other; at the end all of
        them tell more than each did in its turn.
        """
        return not self._clear or float(np.mean(self._clear[-LAST:])) > 0.5

    def add(self, frame: F32, number: int) -> None:
        """One more frame, the place's `number`-th."""
        shift = self._rigid.add(frame)
        if self.numbers:
            likeness = float(self._rigid.likeness_of_last())
            if len(self._usual) > 1 and likeness < LESS_LIKE * float(np.median(self._usual)):
                self._rigid.drop_last()
                return
            self._usual.append(likeness)
            self._clear.append(self._rigid.is_clear())
        lines = np.tile(np.array(shift), (len(frame), 1))
        if len(self.numbers) > 1:
            lines = of_lines(frame, self._what_is_shown(), shift)
        add_frame(frame, lines, *self._halves[len(self.numbers) % 2])
        self.numbers.append(number)
        self._lines.append(lines)

    def places(self, frames: int, there: NDArray[np.bool_]) -> Places:
        """Where the positions of the frames so far belong; `there`: of all that were recorded."""
        last = self.numbers[-1] + 1
        ny, nx = self._lines[0].shape[0], there.size // frames // self._lines[0].shape[0]
        lines, used = np.zeros((last, ny, 2)), np.zeros(last, np.bool_)
        lines[self.numbers], used[self.numbers] = np.array(self._lines), True
        return places_of(lines, used, nx, there[: last * ny * nx])

    def drift(self, frame_time_s: float) -> tuple[tuple[float, float], float]:
        """As `Aligned.drift`."""
        middles = np.array([lines.mean(axis=0) for lines in self._lines])
        return drift_of(np.array(self.numbers, np.float64) * frame_time_s, middles)

    @property
    def resolution_px(self) -> float | None:
        """As of `Aligned`."""
        if len(self.numbers) < 2:
            return None
        one, other = (self._mean(*half) for half in self._halves)
        return resolution(one, other)

    def _what_is_shown(self) -> F32:
        count = len(self.numbers)
        if self._shown is None or count >= GROWN * self._shown[0]:
            (one, ones), (other, others) = self._halves
            self._shown = count, shown_of(self._mean(one + other, ones + others))
        return self._shown[1]

    @staticmethod
    def _mean(total: F64, counts: NDArray[np.int32]) -> F32:
        middle = float(total.sum()) / max(int(counts.sum()), 1)
        mean = np.where(counts > 0, total / np.maximum(counts, 1), middle)
        return mean.astype(np.float32)
