"""The second pass over a block: from hit times to probe positions.

Scan lines come from TDC pulses or from a dwell clock that the scan generator shares with the
camera. A hit whose line is not known yet is held, bounded in time and number; a hit that lies
in no line is counted and dropped, never given to a neighbour.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.events.pulses import (
    CLOCK,
    COMPLETE,
    IDLE,
    LINES,
    NEVER,
    PULSES,
    RESTARTED,
    tdc_edge,
)
from stemd.adapters.events.ticks import CLOCK_RESET, TICK_NS
from stemd.compilation import njit

DONE, FULL, CLOSED, RESET = 0, 1, 2, 3
"""Why the pass stopped: hits used up; output full; the scan is over; the clock was reset."""

_HOLD, _OUTSIDE, _LATE = -1, -2, -3


@njit(nogil=True, cache=True)
def _clock_line(s: Any, lines: Any, time: int) -> int:
    """The line of a hit by the dwell clock, written to lines[0]; same codes as `_pulse_line`."""
    dwell = s.dwell_given
    frame = s.leading + s.ny * s.line_slots
    slot = int(np.floor((time - s.delay) / dwell))
    if slot < 0:
        return _OUTSIDE
    scan = slot // frame
    slot = slot % frame - s.leading
    row = slot // s.line_slots
    if slot < 0 or slot - row * s.line_slots >= s.nx:
        return _OUTSIDE
    if scan <= s.closed:
        return _LATE
    if s.scan < 0:
        s.scan = scan
        s.newest_scan = scan
        last = s.delay + ((scan + 1) * frame - (s.line_slots - s.nx)) * dwell
        s.close_at = last + s.window
        s.end_reason = COMPLETE
    if scan > s.scan:
        return _HOLD
    if scan < s.scan:
        return _LATE
    line = lines[0]
    line.start = s.delay + (scan * frame + s.leading + row * s.line_slots) * dwell
    line.dwell = dwell
    line.stop = line.start + s.nx * dwell
    line.scan = scan
    line.row = row
    return 0


@njit(nogil=True, cache=True)
def _pulse_line(s: Any, lines: Any, time: int) -> int:
    """Slot of the line that holds this time; or _HOLD, _OUTSIDE, _LATE."""
    count = s.lines
    if count == 0:
        return _HOLD
    oldest = max(0, count - LINES)
    k = min(max(s.hint, oldest), count - 1)
    while k + 1 < count and lines[(k + 1) % LINES].start <= time:
        k += 1
    while k >= oldest and lines[k % LINES].start > time:
        k -= 1
    if k < oldest:
        return _OUTSIDE if oldest == 0 else _LATE
    s.hint = k
    line = lines[k % LINES]
    if line.scan <= s.closed and time < line.stop:
        return _LATE
    if line.dwell == 0.0 or (time >= line.stop and k == count - 1):
        return _HOLD
    if time >= line.stop:
        return _OUTSIDE
    return _HOLD if line.scan != s.scan else k % LINES


@njit(nogil=True, cache=True)
def _hold(s: Any, hold_time: Any, hold_place: Any, time: int, place: int) -> None:
    """Keep a hit whose line is not known yet; first let go those that waited too long."""
    room = hold_time.size
    patience = s.window
    if s.lines > 0 and s.row < s.ny - 1:
        known = max(s.period, 2 * s.duration)
        patience += 4 * known if known > 0.0 else NEVER
    while s.held > 0 and hold_time[s.head] < s.now - patience:
        s.head = (s.head + 1) % room
        s.held -= 1
        s.outside += 1
        s.drain = min(s.drain, s.held)
    if s.held == room:
        s.overflow += 1
        return
    at = (s.head + s.held) % room
    hold_time[at] = time
    hold_place[at] = place
    s.held += 1


@njit(nogil=True, cache=True)
def _drain(
    s: Any,
    lines: Any,
    hold_time: Any,
    hold_place: Any,
    probe: Any,
    place_out: Any,
    phase_out: Any,
    n: int,
    limit: int,
) -> int:
    """Look again at held hits after a line became known; returns hits in the output."""
    room = hold_time.size
    while s.drain > 0 and n < limit:
        time = hold_time[s.head]
        place = hold_place[s.head]
        s.head = (s.head + 1) % room
        s.held -= 1
        s.drain -= 1
        k = _clock_line(s, lines, time) if s.mode == CLOCK else _pulse_line(s, lines, time)
        if k == _HOLD:
            at = (s.head + s.held) % room
            hold_time[at] = time
            hold_place[at] = place
            s.held += 1
        elif k == _OUTSIDE:
            s.outside += 1
        elif k == _LATE:
            s.late += 1
        else:
            line = lines[k]
            column = min(int((time - line.start) / line.dwell), s.nx - 1)
            phase = time - line.start - column * line.dwell
            if phase >= s.acceptance:
                s.unaccepted += 1
                continue
            if s.serpentine and line.row & 1:
                column = s.nx - 1 - column
            probe[n] = line.row * s.nx + column
            place_out[n] = place
            phase_out[n] = phase * TICK_NS
            n += 1
    return n


@njit(nogil=True, cache=True)
def assign(
    times: NDArray[np.int64],
    places: NDArray[np.uint32],
    hits: int,
    first: int,
    items: NDArray[np.int64],
    item_count: int,
    first_item: int,
    s_array: NDArray[Any],
    lines: NDArray[Any],
    hold_time: NDArray[np.int64],
    hold_place: NDArray[np.uint32],
    probe: NDArray[np.int32],
    place_out: NDArray[np.uint32],
    phase_out: NDArray[np.float32],
) -> tuple[int, int, int, int]:
    """Probe position of hits first..hits-1; returns (next hit, next item, written, why).

    A hit at time t in a line that begins at T belongs to column floor((t - T) / dwell). Written
    for each hit that has a position: `probe` = y * nx + x, `place_out` = y << 16 | x on the
    detector, `phase_out` = ns since the beam came to the position. `times`, `places`, `items`
    are what `decode` made, in order of arrival; `lines` is a ring (LINES,) of LINE, `hold_*`
    the ring of held hits. CLOSED: no more hits of the open scan are to come (`end_reason`);
    RESET: the clock began again. Call again with what is left. About 3 ns a hit.
    """
    s = s_array[0]
    limit = probe.size
    n = 0
    if s.scan < 0 and s.mode == PULSES and s.lines > 0 and s.newest_scan > s.closed:
        _reopen(s, lines)
    if s.scan < 0 and s.mode == CLOCK and s.held > 0:
        _reopen_clock(s, lines, hold_time)
    i, j = first, first_item
    nx = s.nx
    acceptance = s.acceptance
    while True:
        if s.drain > 0:
            n = _drain(s, lines, hold_time, hold_place, probe, place_out, phase_out, n, limit)
            if s.drain > 0:
                return i, j, n, FULL
        stop = min(hits, items[j, 0]) if j < item_count else hits
        now = s.now
        close_at = s.close_at if s.scan >= 0 else NEVER
        unaccepted = 0
        start = end = dwell = -1.0
        base, sign = 0, 1
        status = DONE
        while i < stop:
            time = times[i]
            if time > now:
                now = time
                if now > close_at:
                    status = CLOSED
                    break
            if time >= start and time < end:
                offset = time - start
                column = int(offset / dwell)
                if column >= nx:
                    column = nx - 1
                phase = offset - column * dwell
                if phase < acceptance:
                    if n == limit:
                        status = FULL
                        break
                    probe[n] = base + sign * column
                    place_out[n] = places[i]
                    phase_out[n] = phase * TICK_NS
                    n += 1
                else:
                    unaccepted += 1
                i += 1
                continue
            s.now = now
            k = _clock_line(s, lines, time) if s.mode == CLOCK else _pulse_line(s, lines, time)
            if s.scan >= 0:
                close_at = s.close_at
            if k >= 0:
                line = lines[k]
                # A boundary that was rounded across the hit must not leave it outside for ever.
                start = min(line.start, np.float64(time))
                end = max(line.stop, np.nextafter(np.float64(time), np.inf))
                dwell = line.dwell
                base, sign = line.row * nx, 1
                if s.serpentine and line.row & 1:
                    base, sign = base + nx - 1, -1
                continue
            if k == _HOLD:
                _hold(s, hold_time, hold_place, time, places[i])
            elif k == _OUTSIDE:
                s.outside += 1
            else:
                s.late += 1
            i += 1
        s.now = now
        s.unaccepted += unaccepted
        if status == CLOSED:
            return i, j, n, CLOSED
        if status == FULL:
            return i, j, n, FULL
        if j == item_count:
            return i, j, n, DONE
        if items[j, 1] == CLOCK_RESET:
            return i, j, n, RESET
        time = items[j, 2] // 6
        if s.scan >= 0 and time > s.close_at:
            s.now = max(s.now, time)
            return i, j, n, CLOSED
        if time > s.now:
            s.now = time
        tdc_edge(s, lines, items[j, 1], items[j, 2], items[j, 3], items[j, 4])
        j += 1


@njit(nogil=True, cache=True)
def _reopen(s: Any, lines: Any) -> None:
    """After a scan was closed: open the next one whose lines are already known."""
    scan = s.newest_scan
    for k in range(max(0, s.lines - LINES), s.lines):
        if s.closed < lines[k % LINES].scan < scan:
            scan = lines[k % LINES].scan
    s.scan = scan
    s.drain = s.held
    s.close_at = lines[(s.lines - 1) % LINES].start + s.idle
    s.end_reason = IDLE
    for k in range(max(0, s.lines - LINES), s.lines):
        line = lines[k % LINES]
        if line.scan == scan and line.row == s.ny - 1 and line.dwell > 0.0:
            s.close_at, s.end_reason = line.stop + s.window, COMPLETE
            return
        if line.scan > scan:
            s.close_at, s.end_reason = line.start + s.window, RESTARTED
            return


@njit(nogil=True, cache=True)
def _reopen_clock(s: Any, lines: Any, hold_time: Any) -> None:
    """After a scan was closed: open the earliest scan that has hits waiting."""
    earliest = hold_time[s.head]
    for k in range(s.held):
        earliest = min(earliest, hold_time[(s.head + k) % hold_time.size])
    _clock_line(s, lines, earliest)
    s.drain = s.held


@njit(nogil=True, cache=True)
def progress(s_array: NDArray[Any], lines: NDArray[Any], time: float) -> tuple[int, float]:
    """Positions of the open scan, in scan order, whose time is over at `time` (ticks).

    And which part of the time of the next one is over.
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
