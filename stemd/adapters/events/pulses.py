"""Scan lines from TDC pulses, and the state of the second pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from stemd.adapters.events.ticks import PIXEL_CLOCK_BITS
from stemd.compilation import njit

PULSES, CLOCK = 0, 1
"""What makes the lines: TDC pulses, or the dwell clock alone."""

LINES = 4096
"""Lines remembered: more than begin within any sensible reorder window."""

COMPLETE, RESTARTED, IDLE = 0, 1, 2
"""How a scan ended."""

STATE = np.dtype(
    [
        ("mode", "i8"),
        ("ny", "i8"),
        ("nx", "i8"),
        ("line_slots", "i8"),  # dwell times from line to line, flyback included
        ("leading", "i8"),
        ("serpentine", "i8"),
        ("start_edge", "i8"),  # TDC edge that begins a line
        ("stop_edge", "i8"),  # TDC edge that ends it, -1: none
        ("frame_edge", "i8"),  # TDC edge that begins a scan, -1: none
        ("source", "i8"),  # chip whose pulses count, -1: the first that has any
        ("delay", "f8"),  # from pulse (or clock zero) to the first position
        ("window", "f8"),  # reorder window
        ("acceptance", "f8"),  # ticks of a dwell time in which hits count
        ("idle", "f8"),  # ticks without pulses that end a scan
        ("period_given", "f8"),
        ("dwell_given", "f8"),
        ("period", "f8"),  # line to line, ticks; 0 not known
        ("duration", "f8"),  # nx dwell times, ticks; 0 not known
        ("now", "i8"),
        ("lines", "i8"),  # lines ever seen
        ("hint", "i8"),
        ("scan", "i8"),  # scan that hits are given out for; -1 none open
        ("closed", "i8"),  # last scan that was closed, -1 none
        ("row", "i8"),  # of the newest line
        ("newest_scan", "i8"),
        ("frame_mark", "i8"),  # 1: the next line pulse begins a scan
        ("last_pulse", "f8"),
        ("last_counter", "i8"),
        ("edges_since", "i8"),  # edges of this input received since the last line pulse
        ("both_edges", "i8"),
        ("after_reset", "i8"),
        ("first_pulse", "i8"),  # time modulo 2^34 of the pulse that begins the first scan, or -1
        ("first_row", "i8"),
        ("head", "i8"),
        ("held", "i8"),
        ("drain", "i8"),
        ("close_at", "f8"),
        ("end_reason", "i8"),
        ("outside", "i8"),  # counters from here on
        ("late", "i8"),
        ("overflow", "i8"),
        ("unaccepted", "i8"),
        ("line_pulses", "i8"),
        ("copies", "i8"),
        ("other_edges", "i8"),
        ("missed", "i8"),
        ("spurious", "i8"),
        ("before_start", "i8"),
        ("disagreed", "i8"),
    ]
)
COUNTERS = STATE.names[STATE.names.index("outside") :] if STATE.names else ()

LINE = np.dtype(
    [
        ("start", "f8"),
        ("stop", "f8"),
        ("dwell", "f8"),
        ("scan", "i8"),
        ("row", "i8"),
        ("pulse", "f8"),  # time of its pulse; -1: the pulse was missed
    ]
)

NEVER = 1e300
_WRAP = (1 << PIXEL_CLOCK_BITS) - 1
FIT = 0.1
"""An interval fits a whole number of line periods when it is off by less than this part."""
MOST_MISSED = 3
"""Missing pulses in a row that an interval alone may prove; the counter may prove more."""


@njit(nogil=True, cache=True)
def _add_line(s: Any, lines: Any, time: float, scan: int, row: int, pulse: float) -> None:
    """Append a line; its dwell is 0 until the duration of a line is known.

    What was learnt of the timing is forgotten at the first line of a scan, so that a scan gives
    the same positions whether or not other scans were seen before it.
    """
    start = np.floor(time)
    if row == 0:
        s.period = s.period_given
        s.duration = s.dwell_given * s.nx
    if s.lines > 0:
        before = lines[(s.lines - 1) % LINES]
        if before.stop > start:
            before.stop = start
    line = lines[s.lines % LINES]
    line.start = start
    line.scan = scan
    line.row = row
    line.pulse = pulse
    line.dwell = s.duration / s.nx
    line.stop = start + s.duration
    s.lines += 1
    s.row = row
    s.newest_scan = scan
    if s.scan < 0 and scan > s.closed:
        s.scan = scan
    if scan > s.scan and start + s.window < s.close_at:
        # the open scan was broken off: the next one has begun
        s.close_at = start + s.window
        s.end_reason = RESTARTED
    elif scan == s.scan:
        s.close_at = start + max(s.idle, 4 * s.period)
        s.end_reason = IDLE
        if row == s.ny - 1 and s.duration > 0:
            s.close_at = line.stop + s.window
            s.end_reason = COMPLETE


@njit(nogil=True, cache=True)
def _set_duration(s: Any, lines: Any, duration: float) -> None:
    """A line's duration becomes known: lines that waited for it get their end."""
    s.duration = duration
    for k in range(max(0, s.lines - LINES), s.lines):
        line = lines[k % LINES]
        if line.dwell == 0.0:
            line.dwell = duration / s.nx
            line.stop = line.start + duration
            if k + 1 < s.lines:
                line.stop = min(line.stop, lines[(k + 1) % LINES].start)
            if line.scan == s.scan and line.row == s.ny - 1 and s.newest_scan == s.scan:
                s.close_at = line.stop + s.window
                s.end_reason = COMPLETE


@njit(nogil=True, cache=True)
def _missing(s: Any, interval: float, counter: int) -> int:
    """Pulses missed before this one, from its interval and its counter; -1: not a line pulse.

    -2: the line counting starts anew. The counter counts every enabled edge of its input, so
    edges it has counted and we have not received are lost on the way to us. An interval of
    2, 3 or 4 periods with a counter in step is a pulse that the input never saw.
    """
    lost = (counter - s.last_counter) % 4096 - s.edges_since
    lost = lost // (2 if s.both_edges else 1) if 0 < lost < 2048 else 0
    if s.period == 0.0:
        return lost
    periods = interval / s.period
    if periods < 0.5:
        return -1
    whole = int(np.floor(periods + 0.5))
    last_row = s.row == s.ny - 1
    if lost > 0:
        if not last_row and abs(whole - 1 - lost) > 1 + lost // 50:
            s.disagreed += 1
        return lost
    if last_row or whole == 1:
        return 0
    if whole - 1 <= MOST_MISSED and abs(periods - whole) < FIT:
        return whole - 1
    return -2


@njit(nogil=True, cache=True)
def _line_pulse(s: Any, lines: Any, time: float, counter: int) -> None:
    """A pulse that begins a line: number it, fill in the lines whose pulses are missing."""
    start = time + s.delay
    if s.lines == 0 and not s.after_reset:
        s.line_pulses += 1
        s.last_pulse, s.last_counter, s.edges_since = time, counter, 0
        s.frame_mark = 0
        _add_line(s, lines, start, s.newest_scan + 1, s.first_row, time)
        return
    if s.after_reset:
        # times before and after a reset cannot be compared; a counter in step goes on
        missing = 0 if (counter - s.last_counter) % 4096 == s.edges_since else -2
        s.after_reset = 0
    else:
        missing = _missing(s, time - s.last_pulse, counter)
        if missing == -1:
            s.spurious += 1
            return
        if missing == 0 and s.row < s.ny - 1:
            interval = time - s.last_pulse
            s.period += (interval - s.period) / (8.0 if s.period > 0.0 else 1.0)
            if s.stop_edge < 0 and s.dwell_given == 0.0:
                _set_duration(s, lines, s.period * s.nx / s.line_slots)
    s.line_pulses += 1
    step = 0.0
    if missing > 0:
        s.missed += missing
        # only where interval and count agree is it known when the missing pulses were due
        each = (time - s.last_pulse) / (missing + 1)
        if abs(each - s.period) < FIT * s.period:
            step = each
    scan, row = s.newest_scan, s.row
    if missing == -2 or s.frame_mark:
        scan, row, missing = scan + 1, -1, 0
        s.frame_mark = 0
    fill = min(missing, LINES // 2) if step > 0.0 else 0
    for k in range(missing + 1):
        row += 1
        if row == s.ny:
            scan, row = scan + 1, 0
        if missing - k <= fill:
            pulse = time if k == missing else -1.0
            _add_line(s, lines, start - (missing - k) * step, scan, row, pulse)
    s.last_pulse, s.last_counter, s.edges_since = time, counter, 0


@njit(nogil=True, cache=True)
def tdc_edge(s: Any, lines: Any, kind: int, sixths: int, counter: int, chip: int) -> None:
    """Any TDC edge."""
    if s.mode == CLOCK or (kind != s.start_edge and kind != s.stop_edge and kind != s.frame_edge):
        s.other_edges += 1
        # the two edges of one input share a counter (codes f, a: TDC1; e, b: TDC2)
        same_input = (kind & 1 == kind >> 2 & 1) == (s.start_edge & 1 == s.start_edge >> 2 & 1)
        if s.mode == PULSES and same_input and chip == s.source:
            s.both_edges = 1
            s.edges_since += 1
        return
    if s.source < 0:
        s.source = chip
    if chip != s.source:
        s.copies += 1
        return
    time = sixths / 6.0
    if s.first_pulse >= 0 and kind == s.start_edge:
        away = (sixths // 6 - s.first_pulse) & _WRAP
        if 1 < away < _WRAP:
            s.before_start += 1
            return
        s.first_pulse = -1
    if kind == s.frame_edge:
        s.frame_mark = 1
        return
    s.edges_since += 1
    if kind == s.start_edge:
        _line_pulse(s, lines, time, counter)
        s.drain = s.held
        return
    s.both_edges = 1
    duration = time + s.delay - lines[(s.lines - 1) % LINES].start if s.lines > 0 else 0.0
    if duration > 0.0 and (s.duration == 0.0 or abs(duration - s.duration) < FIT * s.duration):
        weight = 8.0 if s.duration > 0.0 else 1.0
        _set_duration(s, lines, s.duration + (duration - s.duration) / weight)
        s.drain = s.held
