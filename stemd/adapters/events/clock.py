"""The camera's clocks: unwrapping, resets, strays; and the state of the first pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.events.ticks import TICKS_PER_US
from stemd.compilation import njit

STRAYS = 8
"""Hits, all far in the past and close to one another, that mean a clock reset; they come so soon
after one another that words of the old clock may still come between them."""
STRAY_FIELDS = 6
"""Of a time stamp that is kept: raw time, place or fine time, ToT or counter, edge (-1: a hit),
chip, time as the clock goes."""
SAME_PULSE = 64
"""Ticks by which chips differ that tell the same pulse."""

HEADERS_AUTO, HEADERS_REQUIRED = 0, 1

STATE = np.dtype(
    [
        ("now", "i8"),  # latest time seen, ticks, unwrapped
        ("started", "i8"),  # 1 after the first time stamp
        ("back_limit", "i8"),  # a step back by more ticks than this is not disorder
        ("ahead_limit", "i8"),  # a step ahead by more must be confirmed by another word
        ("leaping", "i8"),  # 1: the strays are ahead of all others, not behind
        ("chips", "i8"),
        ("chip", "i8"),  # of the chunk that is being read; -1: skip its words
        ("left", "i8"),  # words of the chunk still to come
        ("bare", "i8"),  # 1 while words come without chunk headers
        ("headers", "i8"),  # HEADERS_AUTO or HEADERS_REQUIRED
        ("tdc_offset", "i8"),  # TDC time minus unwrapped time, modulo 2^36; -1 not known
        ("global_low", "i8"),  # last low word of the global time; -1 none
        ("global_offset", "i8"),  # global time minus unwrapped time, multiple of 2^34
        ("global_known", "i8"),
        ("global_last", "i8"),  # last global time, ticks
        ("strays", "i8"),
        ("skipped", "i8"),  # bytes before a chunk header that were no chunk
        ("old_clock", "i8"),  # what the clock showed before it was reset, -1: long ago
        ("pixels", "i8"),  # counters from here on
        ("masked", "i8"),
        ("pulses", "i8"),
        ("coarse_pulses", "i8"),  # TDC words with the invalid fine time 0
        ("chunks", "i8"),
        ("control", "i8"),
        ("integrated", "i8"),
        ("unknown", "i8"),
        ("foreign_chip", "i8"),
        ("broken_chunks", "i8"),
        ("stray_hits", "i8"),  # far from all others in time, and no reset followed
        ("false_ahead", "i8"),  # hits far ahead of all others, dropped
        ("left_over", "i8"),  # from before a reset, dropped
        ("resets", "i8"),
        ("late_resets", "i8"),  # told by the global time when the words had followed already
    ]
)
COUNTERS = STATE.names[STATE.names.index("pixels") :] if STATE.names else ()

WRAP = (1 << 34) - 1
NEVER = 1 << 62
HALF = 1 << 33


AHEAD_US = 2000.0
"""Least silence after which a time stamp must be confirmed by another."""


def new_state(
    chips: int, back_limit_us: float, window_us: float, headers: int = HEADERS_AUTO
) -> NDArray[Any]:
    """A decoder's state at the beginning of a stream."""
    state = np.zeros(1, STATE)
    state["chips"], state["headers"] = chips, headers
    state["back_limit"] = int(back_limit_us * TICKS_PER_US)
    state["ahead_limit"] = int(max(window_us, AHEAD_US) * TICKS_PER_US)
    state["bare"] = headers == HEADERS_AUTO
    state["tdc_offset"] = state["global_low"] = state["old_clock"] = -1
    return state


@njit(nogil=True, cache=True, cold=True)
def forget_clock(s: Any, now: int) -> None:
    """The clock began again and shows `now`."""
    s.old_clock = s.now & WRAP
    s.now = now
    s.tdc_offset = -1
    s.global_low = -1
    s.global_known = 0
    s.strays = 0
    s.resets += 1


@njit(nogil=True, cache=True, cold=True)
def put_item(items: Any, m: int, at: int, kind: Any, sixths: Any, counter: Any, chip: Any) -> int:
    """Append a pulse or a mark to the items; returns items."""
    items[m, 0] = at
    items[m, 1] = kind
    items[m, 2] = sixths
    items[m, 3] = counter
    items[m, 4] = chip
    return m + 1


@njit(nogil=True, cache=True, cold=True)
def signed34(step: Any) -> Any:
    """A difference of two clock readings as the shortest step, forward or back."""
    return ((step & WRAP) ^ HALF) - HALF


@njit(nogil=True, cache=True, cold=True)
def is_left_over(s: Any, raw: Any, step: Any) -> bool:
    """Whether a leap forward is a word from before a clock reset that another chip sent late."""
    if s.old_clock < 0 or step <= s.back_limit:
        return False
    if s.now > 10 * s.back_limit:
        s.old_clock = -1
        return False
    return bool(abs(signed34(raw - s.old_clock)) <= s.back_limit)
