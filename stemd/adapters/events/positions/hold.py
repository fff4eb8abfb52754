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
def _give_up_old(s: Any, lines: Any, waits: Any, hold_time: Any) -> None:
    """Give up the hits that have waited too long."""
    if s.held == 0 or hold_time[s.head] >= float(s.now) - s.window:
        return  # what is wanted is never younger than that
    wanted = _still_wanted(s, lines, waits)
    while s.held > 0 and hold_time[s.head] < wanted:
        _give_up(s, hold_time.size)
        s.outside += 1


@njit(nogil=True, cache=True)
def hold(
    s: Any, lines: Any, waits: Any, hold_time: Any, hold_place: Any, time: int, place: int
) -> None:
    """Keep a hit whose line is not known yet; first give up those that waited too long."""
    room = hold_time.size
    _give_up_old(s, lines, waits, hold_time)
    if s.held == 0:
        s.head = 0
    if s.held == room:
        _give_up(s, room)
        s.overflow += 1
    at = s.head + s.held
    at -= room if at >= room else 0
    hold_time[at] = time
    hold_place[at] = place
    s.held += 1


@njit(nogil=True, cache=True)
def hold_many(
    s: Any,
    lines: Any,
    waits: Any,
    hold_time: Any,
    hold_place: Any,
    times: Any,
    places: Any,
    first: int,
    count: int,
) -> None:
    """As `hold` of one hit after the other, for which there is room.

    What is wanted gets only younger, so that to look once, before the last hit, is the same. Those
    that are given up are the first in any case: they are kept first, and then given up.
    """
    room = hold_time.size
    if s.held == 0:
        s.head = 0
    at = s.head + s.held
    for k in range(first, first + count):
        at -= room if at >= room else 0
        hold_time[at] = times[k]
        hold_place[at] = places[k]
        at += 1
        s.held += 1
        if k == first + count - 2:
            _give_up_old(s, lines, waits, hold_time)


@njit(nogil=True, cache=True)
def _give_up(s: Any, room: int) -> None:
    s.head += 1
    s.head -= room if s.head >= room else 0
    s.held -= 1
    s.drain = min(s.drain, s.held)
