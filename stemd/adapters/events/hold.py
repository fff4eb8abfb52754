"""Hits whose line is not known yet: a ring of bounded size."""

from __future__ import annotations

from typing import Any

from stemd.adapters.events.pulses.state import LINES
from stemd.compilation import njit

_AHEAD = 6.0
"""Line periods for which a hit behind the newest line waits for the next one."""


@njit(nogil=True, cache=True)
def _still_wanted(s: Any, lines: Any, waits: Any) -> Any:
    """Time before which a held hit belongs to no line that may still become known."""
    wanted = float(s.now) - s.window
    if s.waiting > 0:
        wanted = min(wanted, waits[0].time + min(s.delay, 0.0))
    if s.lines == 0:
        return wanted
    k = s.lines - 1
    newest = lines[k % LINES]
    patience = _AHEAD * max(s.period, 2.0 * s.duration)
    expected = s.row < s.ny - 1 or s.duration == 0.0
    if expected and (patience == 0.0 or s.now - newest.start < patience + s.window):
        wanted = min(wanted, newest.start)
    while k >= 0 and lines[k % LINES].dwell == 0.0 and lines[k % LINES].scan == s.newest_scan:
        wanted = min(wanted, lines[k % LINES].start)  # the duration of its lines is not known yet
        k -= 1
    return wanted


@njit(nogil=True, cache=True)
def hold(
    s: Any, lines: Any, waits: Any, hold_time: Any, hold_place: Any, time: int, place: int
) -> None:
    """Keep a hit whose line is not known yet; first give up those that waited too long."""
    room = hold_time.size
    if s.held == 0:
        s.head = 0
    else:
        wanted = _still_wanted(s, lines, waits)
        while s.held > 0 and hold_time[s.head] < wanted:
            _give_up(s, room)
            s.outside += 1
    if s.held == room:
        _give_up(s, room)
        s.overflow += 1
    at = (s.head + s.held) % room
    hold_time[at] = time
    hold_place[at] = place
    s.held += 1


@njit(nogil=True, cache=True)
def _give_up(s: Any, room: int) -> None:
    s.head = (s.head + 1) % room
    s.held -= 1
    s.drain = min(s.drain, s.held)
