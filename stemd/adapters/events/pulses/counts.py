"""What the chips counted: does a pulse's counter agree with the line that its time tells?"""

from __future__ import annotations

from typing import Any

from stemd.adapters.events.pulses.ledger import ODD_COUNTER, note
from stemd.adapters.events.pulses.state import CHIPS, COUNTER
from stemd.compilation import njit


@njit(nogil=True, cache=True, cold=True)
def edges_beyond(s: Any, chip: int, counter: int, line: int) -> Any:
    """Edges that a chip counted beyond those of the lines up to this one, modulo 4096."""
    lines = line - s.chip_line[chip]
    return (counter - s.chip_counter[chip] - s.chip_steps[chip] * lines) % COUNTER


@njit(nogil=True, cache=True, cold=True)
def in_step(s: Any, pulse: Any, line: int) -> bool:
    """Whether most chips that tell count this pulse as this line.

    Edges that were received and belong to no line may have been counted or not.
    """
    votes = known = 0
    for chip in range(CHIPS):
        if pulse.counters[chip] >= 0 and s.chip_known[chip]:
            known += 1
            votes += edges_beyond(s, chip, pulse.counters[chip], line) <= s.chip_extra[chip]
    return known > 0 and 2 * votes >= known


@njit(nogil=True, cache=True, cold=True)
def lines_counted(s: Any, pulse: Any, strays: bool) -> Any:
    """Lines from the newest one to this pulse as its counter tells, -1 where none does.

    `strays`: edges that belong to no line were counted.
    """
    for chip in range(CHIPS):
        if pulse.counters[chip] < 0 or not s.chip_known[chip]:
            continue
        edges = (pulse.counters[chip] - s.chip_counter[chip]) % COUNTER
        if strays:
            edges -= s.chip_extra[chip]
        steps = s.chip_steps[chip]
        if edges >= 0 and edges % steps == 0:
            return edges // steps - (s.last_line - s.chip_line[chip])
    return -1


@njit(nogil=True, cache=True, cold=True)
def edges_between(first: Any, second: Any) -> Any:
    """Edges from one pulse to a later one by a counter that both have; 0: none has."""
    for chip in range(CHIPS):
        if first.counters[chip] >= 0 and second.counters[chip] >= 0:
            return (second.counters[chip] - first.counters[chip]) % COUNTER
    return 0


@njit(nogil=True, cache=True, cold=True)
def count_from(s: Any, pulse: Any, line: int) -> None:
    """Begin the counts of the chips that saw this pulse with it."""
    for chip in range(CHIPS):
        s.chip_extra[chip] = 0
        s.other_known[chip] = 0
        s.chip_known[chip] = 0
        if pulse.counters[chip] >= 0:
            s.chip_known[chip] = 1
            s.chip_line[chip] = line
            s.chip_counter[chip] = pulse.counters[chip]


@njit(nogil=True, cache=True, cold=True)
def counted(s: Any, faults: Any, chip: int, counter: int, line: int) -> None:
    """A chip counted a line. One count out of step is odd; two that agree are a new count."""
    if not s.chip_known[chip]:
        s.chip_known[chip] = 1
    else:
        edges = edges_beyond(s, chip, counter, line)
        if edges > s.chip_extra[chip]:
            since = counter - s.other_counter[chip]
            lines = line - s.other_line[chip]
            agrees = (since - s.chip_steps[chip] * lines) % COUNTER == 0
            if not (s.other_known[chip] and agrees):
                s.odd_counters += 1
                note(faults, ODD_COUNTER, line, chip, counter, (counter - edges) % COUNTER)
                s.other_known[chip] = 1
                s.other_line[chip] = line
                s.other_counter[chip] = counter
                return
        elif s.chip_extra[chip] > 0:
            # edges that were counted on top of the lines are strays, the others false times
            strays = edges // s.chip_steps[chip]
            s.spurious += strays
            s.odd_times += s.chip_extra[chip] // s.chip_steps[chip] - strays
    s.other_known[chip] = 0
    s.chip_extra[chip] = 0
    s.chip_line[chip] = line
    s.chip_counter[chip] = counter
