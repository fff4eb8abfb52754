"""Pulses that agree among themselves in time and count: they begin a line clock, or move it."""

from __future__ import annotations

from math import gcd
from typing import Any

import numpy as np

from stemd.adapters.events.pulses.counts import edges_between
from stemd.adapters.events.pulses.median import median
from stemd.adapters.events.pulses.rhythm import DRIFT, FINEST, loose_tolerance, tolerance
from stemd.adapters.events.pulses.state import CHIPS, MOST_MISSED
from stemd.compilation import njit

FREE = 4
"""Pulses that must agree where no period is known."""
ON_RHYTHM = 3
"""... where the period is known, but not when it goes on."""
ON_TIME = 2
"""... where the times agree with the lines before, but not the counts."""
FARTHEST = 8
"""Edges from a pulse of a run to the next at most."""
DISPLACED = 0.5
"""A scan's first pulse may be false by so many periods and is still its first line."""


@njit(nogil=True, cache=True, cold=True)
def is_on_time(s: Any, time: float) -> int:
    """Lines from the newest one to a pulse at this time, 0 where it is on no line's time."""
    if s.period <= 0.0:
        return 0
    periods = (time - s.last_pulse) / s.period
    lines = int(periods + 0.5) if periods < 1e9 else 0
    if lines < 1 or abs(periods - lines) * s.period > tolerance(s, lines):
        return 0
    return lines


@njit(nogil=True, cache=True, cold=True)
def _agreeing(s: Any, waits: Any, first: int, period: float, steps: int) -> tuple[int, float, int]:
    """Waiting pulses in step with the first one, itself included; their spread; edges a line.

    `period`: ticks for `steps` edges. The spread is the largest deviation of a line, in ticks.
    They, and the first of them already, must be the greater part of the pulses among which they
    are, else the first is alone: far pulses agree with a stray one by chance.
    """
    count, spread, common = 1, 0.0, 0
    before, edges_before, last = waits[first].time, 0, first
    for k in range(first + 1, s.waiting):
        edges = edges_between(waits[first], waits[k]) - edges_before
        if edges <= 0 or edges % steps:
            continue
        lines = edges // steps
        if lines > FARTHEST:
            continue
        off = abs(waits[k].time - before - lines * period)
        if off <= loose_tolerance(period, lines):
            count += 1
            if count <= FREE and 2 * count <= k - first + 1:
                return 1, 0.0, 0
            spread = max(spread, off / lines)
            before, edges_before = waits[k].time, edges + edges_before
            common = gcd(common, edges)
            last = k
    return (count if 2 * count > last - first + 1 else 1), spread, common


@njit(nogil=True, cache=True, cold=True)
def find_run(s: Any, waits: Any, fewer: int, least: int) -> tuple[int, float, float, int]:
    """The first pulse of a run among those that wait, -1 for none; its period, its spread, and
    the edges that are counted for a line.

    The run has the known period (spread -1), or one of its own. `fewer`: pulses that it may
    lack since no more will come; `least` are needed in any case.
    """
    most = max(1, s.ny)
    for first in range(s.waiting):
        steps = steps_of(s, waits[first])
        known = s.period > 0.0
        if known:
            on_time = s.tracked and not s.after_reset and is_on_time(s, waits[first].time) > 0
            need = max(min(ON_TIME if on_time else ON_RHYTHM, most) - fewer, min(least, most))
            if _agreeing(s, waits, first, s.period, steps)[0] >= need:
                return first, s.period, -1.0, steps
        need = max(min(FREE, most) - fewer, min(least, most))
        if need == 1 and not known:
            return first, 0.0, 0.0, steps
        period, spread, steps = _own_period(s, waits, first, need)
        if period > 0.0:
            return first, period, spread, steps
    return -1, 0.0, 0.0, 1


@njit(nogil=True, cache=True, cold=True)
def steps_of(s: Any, pulse: Any) -> Any:
    """Edges that the chip of a pulse counts for a line."""
    for chip in range(CHIPS):
        if pulse.counters[chip] >= 0:
            return s.chip_steps[chip]
    return 1


@njit(nogil=True, cache=True, cold=True)
def _own_period(s: Any, waits: Any, first: int, need: int) -> tuple[float, float, int]:
    """Period, spread and edges a line with which most pulses agree with the first one.

    A period of 0 where fewer than needed do.
    """
    best, best_period, best_spread, steps = max(need, 2) - 1, 0.0, 0.0, 1
    for last in range(first + 1, s.waiting):
        edges = edges_between(waits[first], waits[last])
        if edges < 1:
            continue
        period = (waits[last].time - waits[first].time) / edges
        count, spread, common = _agreeing(s, waits, first, period, 1)
        if count > best or (count == best and best_period > 0.0 and spread < best_spread):
            if not _is_median(s, waits, first, period):
                continue
            best, best_period, best_spread, steps = count, period, spread, common
    return best_period * steps, best_spread * steps, steps


@njit(nogil=True, cache=True, cold=True)
def _is_median(s: Any, waits: Any, first: int, period: float) -> bool:
    """Whether so many ticks an edge are what lies between most neighbours from this pulse on.

    One more edge than lines between two pulses far apart gives a period that is a little short,
    with which many of them agree.
    """
    each, found = s.room, 0
    for k in range(first + 1, s.waiting):
        edges = edges_between(waits[k - 1], waits[k])
        if 0 < edges <= FARTHEST:
            each[found] = (waits[k].time - waits[k - 1].time) / edges
            found += 1
    if found < FREE:
        return True
    middle = median(s, found)
    for k in range(found):
        each[k] = abs(each[k] - middle)
    spread = median(s, found)
    return bool(abs(middle - period) <= FINEST + DRIFT * period + 2.0 * spread)


@njit(nogil=True, cache=True, cold=True)
def came_later(waits: Any, before: int, after: int) -> bool:
    """Whether a chip sent the pulse of the earlier time behind the other: then its time is false.

    A chip sends its pulses in order.
    """
    if waits[before].order < waits[after].order:
        return False
    for chip in range(CHIPS):
        if waits[before].counters[chip] >= 0 and waits[after].counters[chip] >= 0:
            return True
    return False


@njit(nogil=True, cache=True, cold=True)
def overtaken(s: Any, waits: Any, at: int) -> bool:
    """Whether a chip sent this pulse behind one of a later time: one of the two times is false."""
    found = False
    for k in range(at + 1, s.waiting):
        found = found or came_later(waits, at, k)
    return found


@njit(nogil=True, cache=True, cold=True)
def lead_in(s: Any, waits: Any, first: int, steps: int) -> tuple[int, int, int]:
    """Pulses before a run that belong to it: (earliest one, its lines before the run, holes).

    Those on the run's time, few or in step with it; holes: 1 where one more pulse is its scan's
    first line with a false time.
    """
    earliest, lines = first, 0
    for k in range(first - 1, -1, -1):
        periods = (waits[earliest].time - waits[k].time) / s.period
        whole = int(periods + 0.5) if periods < 1e9 else 0
        if whole < 1 or abs(periods - whole) * s.period > tolerance(s, whole):
            continue
        if came_later(waits, k, earliest):
            continue
        edges = edges_between(waits[k], waits[first])
        if whole <= 1 + MOST_MISSED or edges == steps * (lines + whole):
            earliest = k
            lines += whole
    for k in range(s.waiting):
        if k == earliest or edges_between(waits[k], waits[earliest]) != steps:
            continue
        periods = (waits[earliest].time - waits[k].time) / s.period
        if abs(periods - np.floor(periods + 0.5)) * s.period <= tolerance(s, 1.0):
            continue
        false_stamp = periods < 0.0 or waits[k].arrived > waits[k].time + s.window
        if false_stamp or abs(periods - 1.0) <= DISPLACED:
            return earliest, lines, 1
    return earliest, lines, 0
