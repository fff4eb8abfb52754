"""The lines that pulses make: when they begin and end, and when their scan is over."""

from __future__ import annotations

from typing import Any

import numpy as np

from stemd.adapters.events.pulses.rhythm import add_duration, forget_durations
from stemd.adapters.events.pulses.state import COMPLETE, IDLE, LINES, NONE, RESTARTED
from stemd.compilation import njit


@njit(nogil=True, cache=True, cold=True)
def add_line(s: Any, lines: Any, time: float, number: int, pulse: float) -> None:
    """Append a line; its dwell is 0 until the duration of a line is known."""
    start = np.floor(time)
    scan = number // s.ny
    row = number - scan * s.ny
    if scan != s.newest_scan:
        forget_durations(s)
    if s.lines > 0:
        before = lines[(s.lines - 1) % LINES]
        if before.stop > start:
            before.stop = start
    line = lines[s.lines % LINES]
    line.start = start
    line.scan = scan
    line.row = row
    line.line = number
    line.pulse = pulse
    line.dwell = s.duration / s.nx
    line.stop = start + s.duration
    s.lines += 1
    s.row = row
    s.newest_scan = scan
    _open_or_close(s, line)


@njit(nogil=True, cache=True, cold=True)
def waits_for_lines(s: Any, row: int) -> Any:
    """Ticks from the start of a scan's newest line after which it ends without another one."""
    return max(s.amid if row < s.ny - 2 else s.idle, 4 * s.period)


@njit(nogil=True, cache=True, cold=True)
def _open_or_close(s: Any, line: Any) -> None:
    """What a new line says of the scan that hits are given out for."""
    if s.scan < 0 and line.scan > s.closed:
        s.scan = line.scan
    if line.scan > s.scan and line.start + s.window < s.close_at:
        # the open scan was broken off: the next one has begun
        s.close_at = line.start + s.window
        s.end_reason = RESTARTED
    elif line.scan == s.scan:
        s.close_at = line.start + waits_for_lines(s, line.row)
        s.end_reason = IDLE
        if line.row == s.ny - 1 and s.duration > 0:
            s.close_at = line.stop + s.window
            s.end_reason = COMPLETE


@njit(nogil=True, cache=True, cold=True)
def line_lasted(s: Any, lines: Any, duration: float) -> None:
    """A line's duration was measured: lines that waited for it get their end."""
    unknown = s.duration == 0.0
    if not add_duration(s, duration) or not unknown:
        return
    end_lines(s, lines)


@njit(nogil=True, cache=True, cold=True)
def end_lines(s: Any, lines: Any) -> None:
    """Give the lines of the newest scan that have no end one."""
    for k in range(max(0, s.lines - LINES), s.lines):
        line = lines[k % LINES]
        if line.dwell == 0.0 and line.scan == s.newest_scan:
            line.dwell = s.duration / s.nx
            line.stop = line.start + s.duration
            if k + 1 < s.lines:
                line.stop = min(line.stop, lines[(k + 1) % LINES].start)
            if line.scan == s.scan and line.row == s.ny - 1 and s.newest_scan == s.scan:
                s.close_at = line.stop + s.window
                s.end_reason = COMPLETE


@njit(nogil=True, cache=True, cold=True)
def line_at(s: Any, lines: Any, pulse: float, within: float, filled: float) -> int:
    """Slot of the line whose pulse came at this time, -1 where none did.

    `within`: ticks by which chips differ; `filled`: by which a line without a pulse may be off.
    """
    for k in range(s.lines - 1, max(-1, s.lines - 1 - LINES), -1):
        line = lines[k % LINES]
        known = line.pulse if line.pulse > NONE else line.start - s.delay
        if abs(pulse - known) <= (within if line.pulse > NONE else filled):
            return k % LINES
        if known < pulse - max(within, filled):
            break
    return -1
