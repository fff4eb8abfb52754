"""Edges of the TDC inputs: which begin lines, which end them, which are none of ours."""

from __future__ import annotations

from typing import Any

from stemd.adapters.events.pulses.counts import counted
from stemd.adapters.events.pulses.lines import line_at, line_lasted
from stemd.adapters.events.pulses.rhythm import tolerance
from stemd.adapters.events.pulses.state import CHIPS, CLOCK, NONE, SAME_PULSE
from stemd.adapters.events.pulses.track import evaluate
from stemd.adapters.events.pulses.waits import ignore, wait
from stemd.adapters.events.ticks import PIXEL_CLOCK_BITS
from stemd.compilation import njit

_WRAP = (1 << PIXEL_CLOCK_BITS) - 1
_HALF = 1 << (PIXEL_CLOCK_BITS - 1)
_FITS = 0.1
"""A line's end is taken when its duration differs by less than this part from those before."""


@njit(nogil=True, cache=True, cold=True)
def tdc_edge(
    s: Any, lines: Any, waits: Any, faults: Any, kind: int, sixths: int, counter: int, chip: int
) -> None:
    """Any TDC edge of any chip, in order of arrival."""
    # the two edges of one input share a counter (codes f, a: TDC1; e, b: TDC2)
    same_input = (kind & 1 == kind >> 2 & 1) == (s.start_edge & 1 == s.start_edge >> 2 & 1)
    if s.mode == CLOCK or chip < 0 or chip >= CHIPS:
        s.other_edges += 1
        return
    if kind != s.start_edge and kind != s.stop_edge and kind != s.frame_edge:
        s.other_edges += 1
        if same_input and not s.tracked:
            s.chip_steps[chip] = 2
        return
    if s.only_chip >= 0 and chip != s.only_chip:
        s.copies += 1
        return
    time = sixths / 6.0
    if kind == s.start_edge:
        s.start_edges += 1
        s.last_edge = max(float(s.now), time)
    if kind == s.frame_edge:
        s.frame_mark[chip] = 1
    elif kind == s.stop_edge:
        _line_ends(s, lines, waits, time, chip)
    elif _has_begun(s, sixths // 6):
        _line_pulse(s, lines, waits, faults, time, counter, chip)


@njit(nogil=True, cache=True, cold=True)
def _has_begun(s: Any, time: int) -> bool:
    """Whether the recorded scan that is read again has begun: its first pulse is known."""
    if s.first_pulse < 0:
        return True
    away = (((time - s.first_pulse) & _WRAP) ^ _HALF) - _HALF
    if abs(away) > 1:
        s.before_start += 1
        return False
    s.first_pulse = -1
    return True


@njit(nogil=True, cache=True, cold=True)
def _line_pulse(
    s: Any, lines: Any, waits: Any, faults: Any, time: float, counter: int, chip: int
) -> None:
    mark = s.frame_mark[chip]
    s.frame_mark[chip] = 0
    if s.lines > 0 and s.tracked:
        known = line_at(s, lines, time, SAME_PULSE, max(SAME_PULSE, tolerance(s, 1.0)))
        if known >= 0:
            s.copies += 1
            counted(s, faults, chip, counter, lines[known].line)
            for k in range(s.waiting - 1, -1, -1):  # a chip sends its pulses in order
                if waits[k].counters[chip] >= 0 and waits[k].time > time:
                    ignore(s, waits, faults, k)
            if s.waiting > 0:
                evaluate(s, lines, waits, faults)
            return
    if not wait(s, waits, time, counter, chip, mark):
        s.copies += 1
    evaluate(s, lines, waits, faults)


@njit(nogil=True, cache=True, cold=True)
def _line_ends(s: Any, lines: Any, waits: Any, time: float, chip: int) -> None:
    """The edge that ends a line belongs to the newest pulse of its chip before it."""
    for k in range(s.waiting - 1, -1, -1):
        pulse = waits[k]
        if pulse.counters[chip] >= 0 and pulse.time < time:
            if pulse.stop == NONE:
                pulse.stop = time
            return
    if not s.tracked or time <= s.last_pulse or s.lines == 0:
        return
    duration = time - s.last_pulse
    if s.duration == 0.0 or abs(duration - s.duration) < _FITS * s.duration:
        line_lasted(s, lines, duration)
        s.drain = s.held
