"""Which line the first pulse of a run is, after the lines before it."""

from __future__ import annotations

from typing import Any

from stemd.adapters.events.pulses.counts import lines_counted
from stemd.adapters.events.pulses.rhythm import tolerance
from stemd.adapters.events.pulses.state import MOST_MISSED
from stemd.compilation import njit

CONTINUES, SHIFTED, ANEW, FIRST = 0, 1, 2, 3
"""How a run goes on: on time; at another time, in count; with a scan of its own; as the first."""

PAUSE_FITS = 0.1
"""Periods by which pauses between scans may differ and are the same."""
FEW_LOST = 8


@njit(nogil=True, cache=True, cold=True)
def relate(s: Any, pulse: Any, holes: int) -> Any:
    """(line, how) of the first pulse of a run; `holes`: lines of its scan that came before it.

    Time and count are compared. Where both agree, or the time alone is at most a few lines
    beyond the count, the lines go on. Between two scans there may be a pause of any length: the
    count tells the line. So it does within a scan that a frame pulse announced, as another would
    be announced as well. Else a scan was broken off and another has begun.
    """
    if not s.tracked and s.newest_scan < 0:
        return (s.closed + 1) * s.ny + s.first_row + holes, FIRST
    anew = (s.newest_scan + 1) * s.ny + holes
    row = s.last_line % s.ny
    if s.fresh or not s.tracked:
        return anew, ANEW
    if s.after_reset:
        counted = lines_counted(s, pulse, True)
        if 1 <= counted <= 1 + MOST_MISSED:
            return s.last_line + counted, SHIFTED
        return anew, ANEW
    if pulse.time > s.close_at and s.scan == s.newest_scan and row < s.ny - 1:
        return anew, ANEW
    counted = lines_counted(s, pulse, True)
    if s.period <= 0.0:
        return (s.last_line + counted, SHIFTED) if 1 <= counted <= FEW_LOST else (anew, ANEW)
    line, how = _by_time_and_count(s, pulse, row, anew)
    if how == ANEW and s.announced and not pulse.mark and 1 <= counted < s.ny - row:
        return s.last_line + counted, SHIFTED
    return line, how


@njit(nogil=True, cache=True, cold=True)
def _by_time_and_count(s: Any, pulse: Any, row: int, anew: int) -> Any:
    periods = (pulse.time - s.last_pulse) / s.period
    lines = int(periods + 0.5) if periods < 1e9 else 0
    on_time = lines >= 1 and abs(periods - lines) * s.period <= tolerance(s, lines)
    counted = lines_counted(s, pulse, True)
    with_strays = lines_counted(s, pulse, False)
    if counted < 1:  # what was ignored was counted behind this pulse, not before it
        counted = with_strays
    if on_time and (counted == lines or with_strays == lines):
        return s.last_line + lines, CONTINUES
    if on_time and row + lines < s.ny:
        if counted < 0 or abs(lines - counted) <= MOST_MISSED:
            return s.last_line + lines, CONTINUES
        return anew, ANEW
    left = s.ny - row
    if counted >= left:
        return _after_a_pause(s, periods, counted, anew)
    if on_time and counted >= 0 and lines - counted <= MOST_MISSED:
        return s.last_line + lines, CONTINUES
    if s.pause >= 0.0 and counted >= 1:
        unseen = periods - s.pause - counted
        whole = int(unseen + 0.5)
        fits = abs(unseen - whole) < PAUSE_FITS
        if fits and whole <= MOST_MISSED and counted + whole >= left:
            return s.last_line + counted + whole, SHIFTED
    if counted >= 1 and abs(periods - counted) < 0.5:
        return s.last_line + counted, SHIFTED
    if with_strays >= 1 and abs(periods - with_strays) < 0.5:
        return s.last_line + with_strays, SHIFTED
    return anew, ANEW


@njit(nogil=True, cache=True, cold=True)
def _after_a_pause(s: Any, periods: float, counted: int, anew: int) -> Any:
    """The line by its count, where that has reached the next scan."""
    pause = periods - counted
    if pause < -0.5 or (counted > FEW_LOST and pause > 0.5 * counted):
        return anew, ANEW
    if s.pause >= 0.0:
        unseen = pause - s.pause
        whole = int(unseen + 0.5)
        if 1 <= whole <= MOST_MISSED and abs(unseen - whole) < PAUSE_FITS:
            return s.last_line + counted + whole, SHIFTED
    return s.last_line + counted, SHIFTED
