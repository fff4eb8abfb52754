"""A pulse becomes a line, and those lines before it that had no pulse get their places."""

from __future__ import annotations

from typing import Any

from stemd.adapters.events.pulses import ledger
from stemd.adapters.events.pulses.counts import counted
from stemd.adapters.events.pulses.lines import add_line, line_lasted
from stemd.adapters.events.pulses.relate import CONTINUES, PAUSE_FITS, SHIFTED
from stemd.adapters.events.pulses.rhythm import add_interval, is_regular
from stemd.adapters.events.pulses.state import CHIPS, LINES, NONE
from stemd.adapters.events.pulses.waits import ignore_false_ahead, take_out
from stemd.compilation import njit


@njit(nogil=True, cache=True, cold=True)
def fill(s: Any, lines: Any, faults: Any, number: int, start: float, interval: float) -> None:
    """Lines before this one whose pulses are missing: placed where the clock is regular."""
    missing = number - s.last_line - 1
    s.missed += missing
    if not is_regular(s, interval):
        s.holes += missing
        ledger.note(faults, ledger.HOLE, s.last_line + 1, -1, missing, 0.0)
        return
    ledger.note(faults, ledger.MISSED, s.last_line + 1, -1, missing, 0.0)
    s.holes += max(0, missing - LINES // 2)
    for k in range(min(missing, LINES // 2), 0, -1):
        add_line(s, lines, start - k * interval, number - k, NONE)


@njit(nogil=True, cache=True, cold=True)
def accept(s: Any, lines: Any, waits: Any, faults: Any, at: int, number: int, how: int) -> None:
    """A waiting pulse is this line's."""
    pulse = waits[at]
    time = pulse.time
    start = time + s.delay
    for chip in range(CHIPS):
        if pulse.counters[chip] >= 0:
            counted(s, faults, chip, pulse.counters[chip], number)
    gap = number - s.last_line
    interval = (time - s.last_pulse) / gap if how == CONTINUES else 0.0
    if how == CONTINUES:
        add_interval(s, interval)
        if gap > 1:
            fill(s, lines, faults, number, start, interval)
    elif how == SHIFTED and gap > 1:
        s.missed += gap - 1
        s.holes += gap - 1
        ledger.note(faults, ledger.HOLE, s.last_line + 1, -1, gap - 1, 0.0)
    if gap == 1 and number % s.ny == 0 and how <= SHIFTED and s.period > 0.0 and not s.after_reset:
        pause = max(0.0, (time - s.last_pulse) / s.period - 1.0)
        s.pause = pause if abs(pause - s.last_pause) < PAUSE_FITS else -1.0
        s.last_pause = pause
    same_scan = number // s.ny == s.last_line // s.ny
    if pulse.mark and number % s.ny:
        number = (number // s.ny + 1) * s.ny
        same_scan = False
    if not (s.tracked and same_scan):
        s.announced = pulse.mark
    add_line(s, lines, start, number, time)
    if pulse.stop > NONE:
        line_lasted(s, lines, pulse.stop - time)
    elif how == CONTINUES and same_scan and s.stop_edge < 0 and s.dwell_given == 0.0:
        line_lasted(s, lines, interval * s.nx / s.line_slots)
    s.tracked = 1
    s.fresh = 0
    s.after_reset = 0
    s.last_pulse = time
    s.last_line = number
    s.line_pulses += 1
    s.now = max(s.now, int(time))
    s.drain = s.held
    ignore_false_ahead(s, waits, faults, at)
    take_out(s, waits, at)
