"""Which positions of a scan are over, and which lines it lacks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.events.pulses.state import CLOCK, LINES
from stemd.compilation import njit


@njit(nogil=True, cache=True)
def progress(s_array: NDArray[Any], lines: NDArray[Any], time: float) -> tuple[int, float]:
    """Positions of the open scan, in scan order, whose time is over at `time` (ticks).

    And which part of the time of the next one is over. Lines without a known time count as
    over when a later one has begun: `lacks` tells them.
    """
    s = s_array[0]
    if s.scan < 0:
        return 0, 0.0
    done, part = 0, 0.0
    if s.mode == CLOCK:
        frame = s.leading + s.ny * s.line_slots
        exact = (time - s.delay) / s.dwell_given
        whole = int(np.floor(exact))
        slot = whole - s.scan * frame - s.leading
        row = min(slot // s.line_slots, s.ny)
        if slot >= 0:
            done = row * s.nx
            if row < s.ny:
                column = slot - row * s.line_slots
                done += min(column, s.nx)
                if column < s.nx:
                    part = exact - whole
        return done, part
    if s.duration == 0.0 and s.scan == s.newest_scan:
        return 0, 0.0  # its first lines get their end when the duration of a line is known
    for k in range(s.lines - 1, max(-1, s.lines - 1 - LINES), -1):
        line = lines[k % LINES]
        if line.scan == s.scan and line.start <= time:
            done = line.row * s.nx
            if time >= line.stop and line.dwell > 0.0:
                done += s.nx
            elif line.dwell > 0.0:
                exact = (time - line.start) / line.dwell
                done += min(int(exact), s.nx)
                part = exact - int(exact)
            break
    return done, part


@njit(nogil=True, cache=True)
def lacks(
    s_array: NDArray[Any], lines: NDArray[Any], first: int, stop: int, missing: NDArray[np.bool_]
) -> None:
    """missing[row - first] = True for rows first..stop-1 of the open scan that have no line."""
    s = s_array[0]
    missing[:] = s.mode != CLOCK
    if s.mode == CLOCK:
        return
    for k in range(s.lines - 1, max(-1, s.lines - 1 - LINES), -1):
        line = lines[k % LINES]
        if line.scan < s.scan or (line.scan == s.scan and line.row < first):
            return
        if line.scan == s.scan and line.row < stop and line.dwell > 0.0:
            missing[line.row - first] = False
