"""The pulses that wait until others tell what they are, in order of time."""

from __future__ import annotations

from typing import Any

from stemd.adapters.events.pulses.ledger import OFF_CLOCK, note
from stemd.adapters.events.pulses.state import CHIPS, NEVER, NONE, SAME_PULSE
from stemd.compilation import njit


@njit(nogil=True, cache=True, cold=True)
def wait(s: Any, waits: Any, time: float, counter: int, chip: int, mark: int) -> bool:
    """Let a pulse wait; False where a waiting one is the same pulse, seen by another chip."""
    at = s.waiting
    for k in range(s.waiting):
        pulse = waits[k]
        if abs(pulse.time - time) <= SAME_PULSE:
            if pulse.counters[chip] < 0:
                pulse.counters[chip] = counter
            pulse.mark = max(pulse.mark, mark)
            return False
        if pulse.time > time:
            at = min(at, k)
    for k in range(s.waiting, at, -1):
        waits[k] = waits[k - 1]
    pulse = waits[at]
    pulse.time = time
    pulse.stop = NONE
    pulse.arrived = max(s.now, time)
    pulse.order = s.arrivals
    s.arrivals += 1
    pulse.mark = mark
    for other in range(CHIPS):
        pulse.counters[other] = counter if other == chip else -1
    s.waiting += 1
    return True


@njit(nogil=True, cache=True, cold=True)
def take_out(s: Any, waits: Any, at: int) -> None:
    """A pulse waits no longer; a frame pulse before one that was no line goes to the next."""
    for k in range(at, s.waiting - 1):
        waits[k] = waits[k + 1]
    s.waiting -= 1
    if s.waiting == 0:
        s.decide_at = NEVER


@njit(nogil=True, cache=True, cold=True)
def ignore(s: Any, waits: Any, faults: Any, at: int) -> None:
    """A pulse is on no line. Whether it was counted as well tells later what it was."""
    pulse = waits[at]
    for chip in range(CHIPS):
        if pulse.counters[chip] >= 0:
            if s.chip_known[chip]:
                s.chip_extra[chip] += s.chip_steps[chip]
            else:
                s.spurious += 1
            off = (pulse.time - s.last_pulse) / s.period if s.tracked and s.period else 0.0
            note(faults, OFF_CLOCK, max(s.last_line, 0), chip, off, pulse.counters[chip])
    if pulse.mark and at + 1 < s.waiting:
        waits[at + 1].mark = 1
    take_out(s, waits, at)


@njit(nogil=True, cache=True, cold=True)
def ignore_false_ahead(s: Any, waits: Any, faults: Any, at: int) -> None:
    """A chip sends its pulses in order: one that came before a true one is not later than it."""
    for k in range(s.waiting - 1, at, -1):
        same_chip = False
        for chip in range(CHIPS):
            same_chip |= waits[at].counters[chip] >= 0 and waits[k].counters[chip] >= 0
        if same_chip and waits[k].order < waits[at].order:
            ignore(s, waits, faults, k)
