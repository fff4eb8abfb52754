"""The period of the line pulses, as the median of recent intervals, and how far it is to be
trusted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stemd.adapters.events.pulses.median import median
from stemd.adapters.events.pulses.state import PLACED, RECENT
from stemd.compilation import njit

FINEST = 4.0
"""Ticks by which pulses of the best scan generator differ."""
DRIFT = 1e-4
"""Part of a period within which a pulse is on time, however regular those before it were."""
LOOSE = 0.03
"""Part of a period by which neighbours of an irregular scan generator may differ."""
WIDE = 0.04
"""... within which a pulse is taken at its word; one that is farther off waits for others."""
WIDEST = 0.25
FEW = 8
"""Intervals whose spread does not tell yet how regular the pulses are."""
REGULAR = 0.02
"""Lines may be interpolated where the intervals differ by less than this part of a dwell time."""


@njit(nogil=True, cache=True, cold=True)
def tolerance(s: Any, periods: float) -> Any:
    """Ticks by which a pulse may be early or late so many periods after the last one.

    The fewer intervals are known the wider: their spread is then not known well.
    """
    factor = 2.0 + 24.0 / max(s.intervals, 3)
    one = FINEST + DRIFT * s.period + factor * s.spread
    if s.intervals < FEW:  # that few of them are alike may be chance
        one = max(one, LOOSE * s.period)
    one = min(one, WIDE * s.period)
    return min(one * np.sqrt(max(periods, 1.0)), 1.2 * WIDE * s.period)


@njit(nogil=True, cache=True, cold=True)
def loose_tolerance(period: float, periods: float) -> Any:
    """Ticks by which pulses may differ from a period that is hardly known."""
    return min(FINEST + LOOSE * period * np.sqrt(max(periods, 1.0)), WIDEST * period)


@njit(nogil=True, cache=True, cold=True)
def add_interval(s: Any, interval: float) -> None:
    """One more interval of the line clock: the period is the median of the newest."""
    s.recent[s.intervals % RECENT] = interval
    s.intervals += 1
    known = min(s.intervals, RECENT)
    if known < 3:
        return
    for k in range(known):
        s.room[k] = s.recent[k]
    s.period = median(s, known)
    spread = 0.0
    for k in range(known):
        spread = max(spread, abs(s.recent[k] - s.period))
    s.spread = spread


@njit(nogil=True, cache=True, cold=True)
def new_rhythm(s: Any, period: float, spread: float) -> None:
    """Another line period, found in pulses that agree; intervals are collected afresh."""
    s.period = period
    s.spread = spread
    s.intervals = 0


@njit(nogil=True, cache=True, cold=True)
def is_regular(s: Any, interval: float) -> bool:
    """Whether a line without a pulse may be placed between its neighbours.

    `interval`: ticks a line between these; where few others are known, that one must be as they,
    and all must be more alike.
    """
    dwell = s.duration / s.nx if s.duration > 0.0 else s.period / s.line_slots
    most = max(FINEST if 0.1 * dwell > FINEST else 0.0, REGULAR * dwell)
    if s.intervals < FEW:
        most = max(FINEST, 0.25 * most)
        return bool(s.spread <= most and abs(interval - s.period) <= most)
    return bool(s.spread <= most)


@njit(nogil=True, cache=True, cold=True)
def forget_durations(s: Any) -> None:
    """A scan begins: its timing is learnt from its own lines alone."""
    s.timed = 0
    s.duration = s.dwell_given * s.nx


@njit(nogil=True, cache=True, cold=True)
def set_duration(s: Any) -> None:
    """The duration of a line is the median of the newest measured ones."""
    known = min(s.timed, PLACED)
    for k in range(known):
        s.room[k] = s.times[k]
    s.duration = median(s, known)


@njit(nogil=True, cache=True, cold=True)
def add_duration(s: Any, duration: float) -> bool:
    """One more measured duration of a line; whether `s.duration` is known now."""
    s.times[s.timed % PLACED] = duration
    s.timed += 1
    if s.timed < min(3, max(1, s.ny - 1)):
        return False
    set_duration(s)
    return True
