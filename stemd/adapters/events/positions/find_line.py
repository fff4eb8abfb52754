"""Which line a hit is in: by the dwell clock, or among the lines that pulses made."""

from __future__ import annotations

from typing import Any

import numpy as np

from stemd.adapters.events.pulses.state import COMPLETE, LINES, PULSES
from stemd.compilation import njit

HOLD, OUTSIDE, LATE = -1, -2, -3
"""No line yet; in no line; its scan or line is over."""


@njit(nogil=True, cache=True)
def clock_line(s: Any, lines: Any, time: int) -> int:
    """The line of a hit by the dwell clock, written to lines[0]; same codes as `pulse_line`."""
    dwell = s.dwell_given
    frame = s.leading + s.ny * s.line_slots
    slot = int(np.floor((time - s.delay) / dwell))
    if slot < 0:
        return OUTSIDE
    scan = slot // frame
    slot = slot % frame - s.leading
    row = slot // s.line_slots
    if slot < 0 or slot - row * s.line_slots >= s.nx:
        return OUTSIDE
    if scan <= s.closed:
        return LATE
    if s.scan < 0:
        s.scan = scan
        s.newest_scan = scan
        last = s.delay + ((scan + 1) * frame - (s.line_slots - s.nx)) * dwell
        s.close_at = last + s.window
        s.end_reason = COMPLETE
    if scan > s.scan:
        return HOLD
    if scan < s.scan:
        return LATE
    line = lines[0]
    line.start = s.delay + (scan * frame + s.leading + row * s.line_slots) * dwell
    line.dwell = dwell
    line.stop = line.start + s.nx * dwell
    line.scan = scan
    line.row = row
    return 0


@njit(nogil=True, cache=True)
def pulse_line(s: Any, lines: Any, time: int) -> int:
    """Slot of the line that holds this time; or HOLD, OUTSIDE, LATE."""
    count = s.lines
    if count == 0:
        return HOLD
    oldest = max(0, count - LINES)
    k = min(max(s.hint, oldest), count - 1)
    while k + 1 < count and lines[(k + 1) % LINES].start <= time:
        k += 1
    while k >= oldest and lines[k % LINES].start > time:
        k -= 1
    if k < oldest:
        return OUTSIDE if oldest == 0 else LATE
    s.hint = k
    line = lines[k % LINES]
    if line.scan <= s.closed and time < line.stop:
        return LATE
    if line.scan == s.newest_scan and line.dwell == 0.0:
        return HOLD
    if time >= line.stop:
        if k == count - 1:
            return HOLD
        if lines[(k + 1) % LINES].line > line.line + 1:
            s.in_holes += 1
        return OUTSIDE
    return HOLD if line.scan != s.scan else k % LINES


@njit(nogil=True, cache=True)
def all_wait(s: Any, lines: Any, earliest: int, latest: int) -> bool:
    """Whether `pulse_line` of all times between these two is HOLD: both are, at the same line.

    What is not held between a line's begin and the next one's is not held to its end, or from it.
    """
    in_holes = s.in_holes
    wait = pulse_line(s, lines, earliest) == HOLD
    at = s.hint
    wait = wait and pulse_line(s, lines, latest) == HOLD and s.hint == at
    s.in_holes = in_holes  # nothing was placed
    return bool(wait)


@njit(nogil=True, cache=True)
def until(s: Any, lines: Any, line: Any) -> Any:
    """When the line that was found last ends, or the next one begins before it does."""
    if s.mode == PULSES and s.hint + 1 < s.lines:
        return min(line.stop, lines[(s.hint + 1) % LINES].start)
    return line.stop
