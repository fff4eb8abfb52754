"""Which frame of a place the lines are of, where one scan has several."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.events.pulses.state import NEVER

_NONE = -1


class Frames:
    """The frames of the open scan, `one` position each of `whole`.

    Pulses number what they take for scans, and each of these is a frame: one that never came
    keeps its place. Without repeats there is one.
    """

    def __init__(self, one: int, whole: int) -> None:
        self._one, self._whole = one, whole
        self._first = _NONE
        self.at = _NONE
        """Number of the frame at hand, as the lines count; -1 between scans."""
        self.ended_ticks = NEVER
        """When the frame before the one that is waited for was over."""
        self.next_line_ticks = NEVER
        """When the line after the last of the scan before would have begun; it may be none."""

    def begin(self, number: int) -> None:
        """The scan begins with the frame of this number."""
        self._first = self.at = number
        self.ended_ticks = NEVER

    def goes_on(self, number: int) -> bool:
        """Whether the frame of this number is of the same scan; then it is the one at hand."""
        if not self.at < number < self._first + self._whole // self._one:
            return False
        self.at = number
        return True

    def end(self) -> None:
        """The scan is over."""
        self._first = self.at = _NONE
        self.ended_ticks = NEVER

    @property
    def first_position(self) -> int:
        """Of the frame at hand."""
        return (self.at - self._first) * self._one

    @property
    def others_follow(self) -> bool:
        """Whether the frame at hand is not the last."""
        return self.at != _NONE and self.first_position + self._one < self._whole

    def left(self, open_number: int, progress: int) -> int:
        """Positions that are not over; `progress`: of the open frame that are, if one is open."""
        over = progress if open_number == self.at else self._one
        return self._whole - self.first_position - over

    def moved(self, runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Runs of positions of the frame at hand as those of the scan."""
        first = self.first_position
        return [(first + start, first + stop) for start, stop in runs] if first else runs

    def state(self) -> NDArray[np.float64]:
        """What `restore` of another one takes."""
        return np.array([self._first, self.at, self.ended_ticks, self.next_line_ticks])

    def restore(self, state: NDArray[np.float64]) -> None:
        """Go on where the one that gave this out was."""
        self._first, self.at = int(state[0]), int(state[1])
        self.ended_ticks, self.next_line_ticks = float(state[2]), float(state[3])
