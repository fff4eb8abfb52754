"""Time stamps far from all others: kept until what follows tells whether the clock has moved."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.events.clock import NEVER, SAME_PULSE, STRAYS, forget_clock, put_item, signed34
from stemd.adapters.events.layout import MASKED
from stemd.adapters.events.ticks import CLOCK_RESET
from stemd.compilation import njit


@njit(nogil=True, cache=True, cold=True)
def give_out(
    s: Any, strays: Any, k: int, time: int, times: Any, places: Any, tots: Any, n: int,
    items: Any, m: int,
) -> Any:  # fmt: skip
    """Append a kept time stamp to the hits or to the items."""
    if strays[k, 3] >= 0:
        m = put_item(items, m, n, strays[k, 3], time * 6 + strays[k, 1], strays[k, 2], strays[k, 4])
    elif strays[k, 1] != MASKED:
        times[n] = time
        places[n] = strays[k, 1]
        tots[n] = strays[k, 2]
        n += 1
    return n, m


@njit(nogil=True, cache=True, cold=True)
def believe_strays(
    s: Any, strays: Any, times: Any, places: Any, tots: Any, n: int, items: Any, m: int
) -> Any:
    """The clock has leapt ahead: what was kept goes out and the clock follows."""
    for k in range(s.strays):
        s.now = max(s.now, strays[k, 5])
        n, m = give_out(s, strays, k, strays[k, 5], times, places, tots, n, items, m)
    s.strays = 0
    s.leaping = 0
    return n, m


@njit(nogil=True, cache=True, cold=True)
def release_strays(
    s: Any, time: int, strays: Any, times: Any, places: Any, tots: Any, n: int, items: Any, m: int
) -> Any:
    """A word has come at this time: what was kept goes out.

    Those in the past as they are, once the time has gone on for longer than words are late: till
    then words of the old clock may come between those of one that began again. Those ahead are
    believed if no word comes that much later than others; else the hits are dropped, and of a
    pulse the counter still tells something.
    """
    if s.leaping == 0 and time != -NEVER and time <= strays[0, 5] + s.ahead_limit:
        return n, m
    if s.leaping and time >= strays[0, 5] - s.ahead_limit:
        return believe_strays(s, strays, times, places, tots, n, items, m)
    for k in range(s.strays):
        if s.leaping and strays[k, 3] < 0:
            s.false_ahead += strays[k, 1] != MASKED
            continue
        own = strays[k, 5] if s.leaping else s.now + signed34(strays[k, 0] - s.now)
        n, m = give_out(s, strays, k, own, times, places, tots, n, items, m)
    if s.leaping:
        s.stray_hits += s.strays
    s.strays = 0
    s.leaping = 0
    return n, m


@njit(nogil=True, cache=True, cold=True)
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
) -> Any:
    """The clock began again and shows `raw`: mark it, and give out again what was kept."""
    kept = s.strays
    m = put_item(items, m, n, CLOCK_RESET, 0, 0, chip)
    forget_clock(s, raw)
    if s.leaping == 0:
        s.stray_hits -= kept
    s.leaping = 0
    for k in range(kept):
        time = s.now + signed34(strays[k, 0] - s.now)
        s.now = max(s.now, time)
        n, m = give_out(s, strays, k, time, times, places, tots, n, items, m)
    return n, m


@njit(nogil=True, cache=True, cold=True)
def _keep(s: Any, strays: Any, raw: int, what: int, detail: int, edge: int, chip: int) -> None:
    row = strays[s.strays]
    row[0], row[1], row[2], row[3], row[4] = raw, what, detail, edge, chip
    s.strays += 1
    if edge < 0 and what == MASKED:
        s.masked += 1


@njit(nogil=True, cache=True, cold=True)
def _is_copy(s: Any, strays: Any, raw: int, edge: int, upto: int) -> bool:
    """Whether a kept pulse is the same as this one: it proves nothing."""
    for k in range(upto):
        if edge >= 0 and strays[k, 3] >= 0 and abs(signed34(raw - strays[k, 0])) <= SAME_PULSE:
            return True
    return False


@njit(nogil=True, cache=True, cold=True)
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
) -> Any:
    """Keep a time stamp from far in the past; enough of them that agree are a clock reset.

    A hit counts one (what = place, detail = ToT, edge -1), a TDC edge half of what is needed
    (what = fine time, detail = counter), its copies on other chips nothing. On a reset
    everything kept is given out again.
    """
    away = signed34(raw - strays[0, 0]) if s.strays > 0 else 0
    if s.leaping and -s.ahead_limit <= away <= s.back_limit:
        # a pulse's clock is longer than a hit's: it has told how far the time has gone
        n, m = believe_strays(s, strays, times, places, tots, n, items, m)
        time = s.now + signed34(raw - s.now)
        s.now = max(s.now, time)
        _keep(s, strays, raw, what, detail, edge, chip)
        s.strays = 0
        return give_out(s, strays, 0, time, times, places, tots, n, items, m)
    far = abs(away) > s.back_limit
    if s.leaping or far or s.strays == STRAYS:
        n, m = release_strays(s, -NEVER, strays, times, places, tots, n, items, m)
    _keep(s, strays, raw, what, detail, edge, chip)
    if s.strays == 1:
        strays[0, 5] = s.now
    s.stray_hits += 1
    weight = 0
    for k in range(s.strays):
        if strays[k, 3] < 0:
            weight += 1
        elif not _is_copy(s, strays, strays[k, 0], strays[k, 3], k):
            weight += STRAYS // 2
    if weight < STRAYS:
        return n, m
    return reset(s, strays[0, 0], chip, strays, times, places, tots, n, items, m)


@njit(nogil=True, cache=True, cold=True)
def leap(
    s: Any,
    raw: Any,
    time: Any,
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
) -> Any:
    """A time stamp far ahead of all others: kept until the next word confirms it.

    True: it is kept. False: it confirms those before it, which have gone out; the clock is there.
    A word that is earlier contradicts them: no word comes later than the reorder window. One that
    is far ahead of those that it confirms has to be confirmed itself.
    """
    if s.strays > 0 and s.leaping and time >= strays[0, 5] - s.ahead_limit:
        if not _is_copy(s, strays, raw, edge, s.strays):
            n, m = believe_strays(s, strays, times, places, tots, n, items, m)
            if time - s.now > s.ahead_limit:
                s.leaping = 1
                _keep(s, strays, raw, what, detail, edge, chip)
                strays[s.strays - 1, 5] = time
                return n, m, True
            return n, m, False
        if s.strays == STRAYS:
            return n, m, True
    elif s.strays > 0 and not s.leaping and abs(signed34(raw - strays[0, 0])) <= s.back_limit:
        for k in range(s.strays):
            strays[k, 5] = time + signed34(strays[k, 0] - raw)
        s.stray_hits -= s.strays
        n, m = believe_strays(s, strays, times, places, tots, n, items, m)
        return n, m, False
    elif s.strays > 0:
        n, m = release_strays(s, time, strays, times, places, tots, n, items, m)
    s.leaping = 1
    _keep(s, strays, raw, what, detail, edge, chip)
    strays[s.strays - 1, 5] = time
    return n, m, True


class Scratch(Protocol):
    """Where kept hits and pulses go at the end of a stream."""

    times: NDArray[np.int64]
    places: NDArray[np.uint32]
    tots: NDArray[np.uint16]
    items: NDArray[np.int64]


def finish(state: Any, strays: NDArray[np.int64], hits: Scratch) -> tuple[int, int]:
    """The stream is over: what was kept goes out as it is; returns (hits, items)."""
    count, items = release_strays(
        state, NEVER, strays, hits.times, hits.places, hits.tots, 0, hits.items, 0
    )
    return int(count), int(items)
