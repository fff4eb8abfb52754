"""The second pass over a block: from hit times to probe positions.

Scan lines come from TDC pulses or from a dwell clock that the scan generator shares with the
camera. A hit whose line is not known yet is held, bounded in time and number; a hit that lies
in no line is counted and dropped, never given to a neighbour.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.events.positions.drain import drain
from stemd.adapters.events.positions.find_line import (
    HOLD,
    OUTSIDE,
    all_wait,
    clock_line,
    pulse_line,
)
from stemd.adapters.events.positions.hold import hold, hold_many
from stemd.adapters.events.positions.reopen import reopen, reopen_clock
from stemd.adapters.events.positions.within_line import TOGETHER, from_left, place_within, span
from stemd.adapters.events.pulses.edges import tdc_edge
from stemd.adapters.events.pulses.state import CLOCK, NEVER, PULSES
from stemd.adapters.events.pulses.track import overdue, settle, settle_old_clock
from stemd.adapters.events.ticks import CLOCK_RESET, TICK_NS
from stemd.compilation import njit

DONE, FULL, CLOSED, RESET = 0, 1, 2, 3
"""Why the pass stopped: hits used up; output full; the scan is over; the clock was reset."""
SETTLE = -1


@njit(inline="always")
def _place_run(
    times: NDArray[np.int64],
    places: NDArray[np.uint32],
    i: int,
    stop: int,
    s: Any,
    lines: Any,
    waits: Any,
    faults: Any,
    hold_time: Any,
    hold_place: Any,
    probe: NDArray[np.int32],
    place_out: NDArray[np.uint32],
    phase_out: NDArray[np.float32],
    n: int,
) -> tuple[int, int, int]:
    """Hits i..stop-1, between two items; returns (next hit, written, why); FULL also when held
    hits are to be looked at again.
    """
    limit = probe.size
    nx = s.nx
    acceptance = s.acceptance
    now = s.now
    close_at = s.close_at if s.scan >= 0 else NEVER
    alarm = min(close_at, s.decide_at)
    unaccepted = 0
    start = end = dwell = -1.0
    base, sign = np.int64(0), np.int64(1)
    why = DONE
    one_by_one = held_singly = i
    while i < stop:
        if i >= one_by_one:
            together = min(stop - i, limit - n, TOGETHER)
            if end > start and together == TOGETHER:
                earliest, latest = span(times, i, together)
                if earliest >= start and latest < end and latest <= max(alarm, now):
                    kept = place_within(
                        times, places, i, together, start, dwell, nx, base, sign, acceptance,
                        probe, place_out, phase_out, n,
                    )  # fmt: skip
                    now = max(now, latest)
                    unaccepted += together - kept
                    n += kept
                    i += together
                    one_by_one = i
                    continue
            one_by_one = i + (TOGETHER if end > start else 1)
        time = times[i]
        if time > now:
            now = time
            if now > alarm:
                s.now = now
                if now > s.decide_at:
                    overdue(s, lines, waits, faults)
                    close_at = s.close_at if s.scan >= 0 else NEVER
                    alarm = min(close_at, s.decide_at)
                    start = end = -1.0
                    if s.drain > 0:
                        why = FULL
                        break
                if now > close_at:
                    why = CLOSED
                    break
        if time >= start and time < end:
            offset = time - start
            column = int(offset / dwell)
            if column >= nx:
                column = nx - 1
            phase = offset - column * dwell
            if phase < acceptance:
                if n == limit:
                    why = FULL
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
        k = clock_line(s, lines, time) if s.mode == CLOCK else pulse_line(s, lines, time)
        if s.scan >= 0:
            close_at = s.close_at
            alarm = min(close_at, s.decide_at)
        if k >= 0:
            line = lines[k]
            # A boundary that was rounded across the hit must not leave it outside for ever.
            start = min(line.start, np.float64(time))
            end = max(line.stop, np.nextafter(np.float64(time), np.inf))
            dwell = line.dwell
            base, sign = from_left(s, line.row)
            continue
        if k == HOLD:
            if s.held == hold_time.size and s.waiting > 0:
                settle(s, lines, waits, faults, True)
                if s.drain > 0:
                    why = FULL
                    break
            together = min(stop - i, hold_time.size - s.held, TOGETHER)
            if i >= held_singly and together == TOGETHER and s.mode == PULSES:
                earliest, latest = span(times, i, together)
                if latest <= max(alarm, now) and all_wait(s, lines, earliest, latest):
                    now = max(now, latest)
                    s.now = now
                    hold_many(
                        s, lines, waits, hold_time, hold_place, times, places, i, together
                    )  # fmt: skip
                    i += together
                    one_by_one = i
                    continue
                held_singly = i + TOGETHER
            hold(s, lines, waits, hold_time, hold_place, time, places[i])
        elif k == OUTSIDE:
            s.outside += 1
        else:
            s.late += 1
        i += 1
    s.now = now
    s.unaccepted += unaccepted
    return i, n, why


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
    waits: NDArray[Any],
    faults: NDArray[Any],
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
    are what `decode` made, in order of arrival; `lines` is a ring (LINES,) of LINE, `waits`
    (WAITING,) of PULSE, `faults` (KINDS,) of FAULT, `hold_*` the ring of held hits. CLOSED: no
    more hits of the open scan are to come (`end_reason`); RESET: the clock began again. Call
    again with what is left. About 3 ns a hit.

    `first_item` SETTLE: no more pulses will come for now, those that wait are decided with what
    there is, and nothing else is done. A kernel of its own for that would hold half of this one.
    """
    s = s_array[0]
    limit = probe.size
    n: Any = np.int64(0)  # a plain 0 has what is called compiled for that very number, too
    if first_item == SETTLE:
        settle(s, lines, waits, faults, True)
        return first, 0, n, DONE
    if s.scan < 0 and s.mode == PULSES and s.lines > 0 and s.newest_scan > s.closed:
        reopen(s, lines)
    if s.scan < 0 and s.mode == CLOCK and s.held > 0:
        reopen_clock(s, lines, hold_time)
    i, j = first, first_item
    while True:
        if s.drain > 0:
            n = drain(s, lines, hold_time, hold_place, probe, place_out, phase_out, n, limit)
            if s.drain > 0:
                return i, j, n, FULL
        if s.scan >= 0 and s.now > s.close_at:
            return i, j, n, CLOSED
        stop = min(hits, items[j, 0]) if j < item_count else hits
        i, n, why = _place_run(
            times, places, i, stop, s, lines, waits, faults, hold_time, hold_place,
            probe, place_out, phase_out, n,
        )  # fmt: skip
        if why == CLOSED or (why == FULL and s.drain == 0):
            return i, j, n, why
        if why == FULL:
            continue
        if j == item_count:
            return i, j, n, DONE
        if items[j, 1] == CLOCK_RESET:
            if s.waiting > 0:
                settle_old_clock(s, lines, waits, faults)
                continue
            return i, j, n, RESET
        tdc_edge(s, lines, waits, faults, items[j, 1], items[j, 2], items[j, 3], items[j, 4])
        j += 1
