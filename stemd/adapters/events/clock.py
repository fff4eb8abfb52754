"""The camera's clocks: unwrapping, resets, strays; and the state of the first pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.events.layout import MASKED
from stemd.adapters.events.ticks import CLOCK_RESET
from stemd.compilation import njit

STRAYS = 8
"""Hits in a row, all far in the past and close to one another, that mean a clock reset."""

HEADERS_AUTO, HEADERS_REQUIRED = 0, 1

STATE = np.dtype(
    [
        ("now", "i8"),  # latest time seen, ticks, unwrapped
        ("started", "i8"),  # 1 after the first time stamp
        ("back_limit", "i8"),  # a step back by more ticks than this is not disorder
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
        ("stray_hits", "i8"),  # far in the past, and no reset followed
        ("left_over", "i8"),  # from before a reset, dropped
        ("resets", "i8"),
    ]
)
COUNTERS = STATE.names[STATE.names.index("pixels") :] if STATE.names else ()

WRAP = (1 << 34) - 1
HALF = 1 << 33


def new_state(chips: int, back_limit: int, headers: int = HEADERS_AUTO) -> NDArray[Any]:
    """A decoder's state at the beginning of a stream."""
    state = np.zeros(1, STATE)
    state["chips"], state["back_limit"], state["headers"] = chips, back_limit, headers
    state["bare"] = headers == HEADERS_AUTO
    state["tdc_offset"] = state["global_low"] = state["old_clock"] = -1
    return state


@njit(nogil=True, cache=True)
def _forget_clock(s: Any, now: int) -> None:
    s.old_clock = s.now & WRAP
    s.now = now
    s.tdc_offset = -1
    s.global_low = -1
    s.global_known = 0
    s.strays = 0
    s.resets += 1


@njit(nogil=True, cache=True)
def put_item(items: Any, m: int, at: int, kind: Any, sixths: Any, counter: Any, chip: Any) -> int:
    """Append a pulse or a mark to the items; returns items."""
    items[m, 0] = at
    items[m, 1] = kind
    items[m, 2] = sixths
    items[m, 3] = counter
    items[m, 4] = chip
    return m + 1


@njit(nogil=True, cache=True)
def signed34(step: Any) -> Any:
    """A difference of two clock readings as the shortest step, forward or back."""
    return ((step & WRAP) ^ HALF) - HALF


@njit(nogil=True, cache=True)
def is_left_over(s: Any, raw: Any, step: Any) -> bool:
    """Whether a leap forward is a word from before a clock reset that another chip sent late."""
    if s.old_clock < 0 or step <= s.back_limit:
        return False
    if s.now > 10 * s.back_limit:
        s.old_clock = -1
        return False
    return bool(abs(signed34(raw - s.old_clock)) <= s.back_limit)


@njit(nogil=True, cache=True)
def release_strays(s: Any, strays: Any, times: Any, places: Any, tots: Any, n: int) -> int:
    """No reset after all: give kept hits out with their times in the past; returns hits."""
    for k in range(s.strays):
        if strays[k, 3] < 0 and strays[k, 1] != MASKED:
            times[n] = s.now + signed34(strays[k, 0] - s.now)
            places[n] = strays[k, 1]
            tots[n] = strays[k, 2]
            n += 1
    s.strays = 0
    return n


@njit(nogil=True, cache=True)
def reset(
    s: Any,
    raw: Any,
    chip: Any,
    strays: Any,
    times: Any,
    places: Any,
    tots: Any,
    n: int,
    items: Any,
    m: int,
) -> tuple[int, int]:
    """The clock began again and shows `raw`: mark it, and give out again what was kept."""
    kept = s.strays
    m = put_item(items, m, n, CLOCK_RESET, 0, 0, chip)
    _forget_clock(s, raw)
    s.stray_hits -= kept
    for k in range(kept):
        time = s.now + signed34(strays[k, 0] - s.now)
        s.now = max(s.now, time)
        if strays[k, 3] >= 0:
            m = put_item(
                items, m, n, strays[k, 3], time * 6 + strays[k, 1], strays[k, 2], strays[k, 4]
            )
        elif strays[k, 1] != MASKED:
            times[n] = time
            places[n] = strays[k, 1]
            tots[n] = strays[k, 2]
            n += 1
    return n, m


@njit(nogil=True, cache=True)
def keep_stray(
    s: Any,
    raw: Any,
    what: Any,
    detail: Any,
    edge: Any,
    chip: Any,
    strays: Any,
    times: Any,
    places: Any,
    tots: Any,
    n: int,
    items: Any,
    m: int,
) -> tuple[int, int]:
    """Keep a time stamp from far in the past; enough of them that agree are a clock reset.

    A hit counts one (what = place, detail = ToT, edge -1), a TDC edge half of what is needed
    (what = fine time, detail = counter). On a reset everything kept is given out again.
    """
    if s.strays > 0 and abs(signed34(raw - strays[0, 0])) > s.back_limit:
        n = release_strays(s, strays, times, places, tots, n)
    row = strays[s.strays]
    row[0], row[1], row[2], row[3], row[4] = raw, what, detail, edge, chip
    s.strays += 1
    s.stray_hits += 1
    if edge < 0 and what == MASKED:
        s.masked += 1
    weight = 0
    for k in range(s.strays):
        weight += 1 if strays[k, 3] < 0 else STRAYS // 2
    if weight < STRAYS:
        return n, m
    made: tuple[int, int] = reset(s, strays[0, 0], chip, strays, times, places, tots, n, items, m)
    return made
