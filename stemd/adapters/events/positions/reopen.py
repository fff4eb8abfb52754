"""After a scan was closed: the next one, where it has begun already."""

from __future__ import annotations

from typing import Any

from stemd.adapters.events.positions.find_line import clock_line
from stemd.adapters.events.pulses.lines import waits_for_lines
from stemd.adapters.events.pulses.state import COMPLETE, IDLE, LINES, RESTARTED
from stemd.compilation import njit


@njit(nogil=True, cache=True, cold=True)
def reopen(s: Any, lines: Any) -> None:
    """Open the next scan whose lines are already known."""
    scan = s.newest_scan
    for k in range(max(0, s.lines - LINES), s.lines):
        if s.closed < lines[k % LINES].scan < scan:
            scan = lines[k % LINES].scan
    s.scan = scan
    s.drain = s.held
    newest = lines[(s.lines - 1) % LINES]
    s.close_at = newest.start + waits_for_lines(s, newest.row)
    s.end_reason = IDLE
    for k in range(max(0, s.lines - LINES), s.lines):
        line = lines[k % LINES]
        if line.scan == scan and line.row == s.ny - 1 and line.dwell > 0.0:
            s.close_at, s.end_reason = line.stop + s.window, COMPLETE
            return
        if line.scan > scan:
            s.close_at, s.end_reason = line.start + s.window, RESTARTED
            return


@njit(nogil=True, cache=True, cold=True)
def reopen_clock(s: Any, lines: Any, hold_time: Any) -> None:
    """Open the earliest scan of the dwell clock that has hits waiting."""
    earliest = hold_time[s.head]
    for k in range(s.held):
        earliest = min(earliest, hold_time[(s.head + k) % hold_time.size])
    clock_line(s, lines, earliest)
    s.drain = s.held
