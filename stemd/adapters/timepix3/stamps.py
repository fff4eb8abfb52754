"""Words of a Timepix3 stream that tell a time but are no hits: TDC edges and the global time."""

from __future__ import annotations

from typing import Any

from stemd.adapters.events.clock import HALF, WRAP, is_left_over, put_item, signed34
from stemd.adapters.events.strays import keep_stray, leap, release_strays, reset
from stemd.compilation import njit

_TDC_WRAP = (1 << 36) - 1
_TDC_HALF = 1 << 35


@njit(nogil=True, cache=True, cold=True)
def tdc_pulse(
    s: Any,
    word: Any,
    chip: Any,
    strays: Any,
    times: Any,
    places: Any,
    tots: Any,
    n: int,
    items: Any,
    m: int,
) -> Any:
    """Unwrap a TDC word and append it to the items."""
    ticks = 2 * (word >> 9 & (1 << 35) - 1)
    fine = (word >> 5 & 15) - 1
    s.pulses += 1
    if fine < 0:
        s.coarse_pulses += 1
        fine = 0
    if s.started == 0:
        s.now = ticks & WRAP
        s.started = 1
    edge, counter = word >> 56 & 15, word >> 44 & 0xFFF
    if s.tdc_offset < 0:
        step = signed34(ticks - s.now)
    else:
        step = (((ticks - s.tdc_offset - s.now) & _TDC_WRAP) ^ _TDC_HALF) - _TDC_HALF
    if step < -s.back_limit:
        return keep_stray(
            s, ticks & WRAP, fine, counter, edge, chip, strays, times, places, tots, n, items, m
        )
    if is_left_over(s, ticks & WRAP, step):
        return n, m
    time = s.now + step
    if step > s.ahead_limit:
        n, m, kept = leap(
            s, ticks & WRAP, time, fine, counter, edge, chip,
            strays, times, places, tots, n, items, m,
        )  # fmt: skip
        if kept:
            return n, m
    elif s.strays > 0:
        n, m = release_strays(s, time, strays, times, places, tots, n, items, m)
    s.tdc_offset = (ticks - time) & _TDC_WRAP
    s.now = max(s.now, time)
    return n, put_item(items, m, n, edge, time * 6 + fine, counter, chip)


@njit(nogil=True, cache=True, cold=True)
def global_time(
    s: Any,
    word: Any,
    chip: Any,
    strays: Any,
    times: Any,
    places: Any,
    tots: Any,
    n: int,
    items: Any,
    m: int,
) -> Any:
    """Use the 48-bit time: it tells a clock reset from silence longer than a rollover."""
    if word >> 56 == 0x44:
        s.global_low = word >> 16 & 0xFFFFFFFF
        return n, m
    if word >> 56 != 0x45 or s.global_low < 0:
        return n, m
    ticks = ((word >> 16 & 0xFFFF) << 32 | s.global_low) << 4
    s.global_low = -1
    if s.started == 0:
        s.now = ticks & WRAP
        s.started = 1
    if s.global_known and ticks < s.global_last - s.back_limit:
        if abs(signed34(ticks - s.now)) <= s.back_limit:
            # what came before it is on the new clock already: a step that looked like silence
            s.late_resets += 1
            s.global_known = 0
        else:
            n, m = reset(s, ticks & WRAP, chip, strays, times, places, tots, n, items, m)
    s.global_last = ticks
    if s.global_known == 0:
        near = signed34(ticks - s.now)
        s.global_offset = ticks - (s.now + near)
        s.global_known = 1
    elif ticks - s.global_offset - s.now > HALF:
        # silence longer than half a rollover: pixel words alone could not tell how long
        s.now = ticks - s.global_offset
    return n, m
