"""Held hits, once a line has become known: they are given out."""

from __future__ import annotations

from typing import Any

from stemd.adapters.events.positions.find_line import (
    HOLD,
    LATE,
    OUTSIDE,
    clock_line,
    pulse_line,
    until,
)
from stemd.adapters.events.positions.within_line import TOGETHER, from_left, place_within, span
from stemd.adapters.events.pulses.state import CLOCK
from stemd.adapters.events.ticks import TICK_NS
from stemd.compilation import njit


@njit(nogil=True, cache=True)
def drain(
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
    singly = 0
    while s.drain > 0 and n < limit:
        time = hold_time[s.head]
        place = hold_place[s.head]
        k = clock_line(s, lines, time) if s.mode == CLOCK else pulse_line(s, lines, time)
        if k >= 0 and singly == 0:
            line = lines[k]
            if min(s.drain, limit - n, room - s.head) >= TOGETHER:
                earliest, latest = span(hold_time, s.head, TOGETHER)
                if earliest >= line.start and latest < until(s, lines, line):
                    base, sign = from_left(s, line.row)
                    kept = place_within(
                        hold_time, hold_place, s.head, TOGETHER, line.start, line.dwell, s.nx,
                        base, sign, s.acceptance, probe, place_out, phase_out, n,
                    )  # fmt: skip
                    s.unaccepted += TOGETHER - kept
                    n += kept
                    s.head += TOGETHER
                    s.head -= room if s.head >= room else 0
                    s.held -= TOGETHER
                    s.drain -= TOGETHER
                    continue
            singly = TOGETHER
        singly = max(0, singly - 1)
        s.head += 1
        s.head -= room if s.head >= room else 0
        s.held -= 1
        s.drain -= 1
        if k == HOLD:
            at = s.head + s.held
            at -= room if at >= room else 0
            hold_time[at] = time
            hold_place[at] = place
            s.held += 1
        elif k == OUTSIDE:
            s.outside += 1
        elif k == LATE:
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
