"""When the lines of a scan begin and end, as its pulses or the dwell clock have told."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from stemd.adapters.events.pulses import state as pulses
from stemd.adapters.events.pulses.state import NEVER
from stemd.adapters.events.ticks import TICKS_PER_US


class LineTimes:
    """Times of lines and scans, in ticks, read from the state that the kernels keep."""

    def __init__(self, state: NDArray[Any], lines: NDArray[Any]) -> None:
        self._state, self._lines = state, lines

    @property
    def window_ticks(self) -> int:
        """The reorder window."""
        return int(self._state["window"][0])

    @property
    def began_ticks(self) -> float:
        """When the first known line of the open scan began; by pulses."""
        mine = self._lines["scan"] == self._state["scan"][0]
        return float(self._lines["start"][mine].min(initial=pulses.NEVER))

    @property
    def ended_ticks(self) -> float:
        """When the last line of the scan ended that `assign` reported as complete."""
        return float(self._state["close_at"][0]) - self.window_ticks

    @property
    def next_line_ticks(self) -> float:
        """When a line behind the last one of the scan that is complete would begin; by pulses."""
        if self._state["mode"][0] == pulses.CLOCK:
            return NEVER
        return self.ended_ticks + float(self._state["period"][0] - self._state["duration"][0])

    @property
    def now_ticks(self) -> int:
        """The newest time that nothing older is expected after."""
        return int(self._state["now"][0]) - self.window_ticks

    @property
    def line_period_us(self) -> float:
        """Time from line to line as learnt, 0 while not known."""
        return float(self._state["period"][0]) / TICKS_PER_US

    def is_long_after(self, time_ticks: float, since_ticks: float) -> bool:
        """Whether so much time without a line ends what was scanned."""
        return bool(time_ticks - since_ticks > self._state["idle"][0])
