"""The first pass over a block of words: times on one unwrapped clock, pixel places, pulses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stemd.adapters.events.clock import HALF, STRAYS, WRAP, is_left_over, keep_stray, release_strays
from stemd.adapters.events.front import DONE, FULL, GARBAGE
from stemd.adapters.events.layout import MASKED
from stemd.adapters.timepix3.stamps import global_time, tdc_pulse
from stemd.adapters.timepix3.words import MAGIC


@njit(nogil=True, cache=True)
def decode(
    words: NDArray[np.uint64],
    first: int,
    s_array: NDArray[Any],
    orientation: NDArray[np.int64],
    mask: NDArray[np.uint8],
    correction: NDArray[np.int32],
    strays: NDArray[np.int64],
    limit: int,
    times: NDArray[np.int64],
    places: NDArray[np.uint32],
    tots: NDArray[np.uint16],
    items: NDArray[np.int64],
) -> tuple[int, int, int, int]:
    """Decode words[first:] into hits and pulses; returns (next word, hits, items, why).

    Hit i: `times[i]` in ticks of 1.5625 ns on one clock that never wraps, `places[i]` =
    y << 16 | x, `tots[i]` in 25 ns. `items` (m, 5) int64 are TDC edges and clock resets: hits
    that came before it, kind, time in sixths of a tick, counter, chip. `orientation`, `mask`:
    see `Layout`; `correction`: ticks to add by chip * 256 + column (size 0: none); `strays`
    (STRAYS, 5): scratch that belongs to the state. Stops FULL at `limit` hits or at most STRAYS
    more: the output must hold limit + STRAYS + 1. About 5 ns a word; state in `s_array[0]`.
    """
    s = s_array[0]
    n = m = 0
    i = first
    end = words.size
    room = items.shape[0] - STRAYS - 2
    corrected = correction.size > 0
    masking = mask.size > 0
    back = -s.back_limit
    while i < end:
        if s.left == 0:
            head = np.int64(words[i])
            # among bare words only a short chunk can be told from a pixel
            likely = s.bare == 0 or ((head >> 60) & 15) < 0xA
            if likely and head & 0xFFFFFFFF == MAGIC and (head >> 40) & 0xFF == 0:
                size = (head >> 48) & 0xFFFF
                if size & 7:
                    return i, n, m, GARBAGE
                s.left = size >> 3
                s.chip = (head >> 32) & 0xFF
                s.chunks += 1
                s.bare = 0
                if s.chip >= s.chips:
                    s.foreign_chip += s.left
                    s.chip = -1
                i += 1
                continue
            if s.bare == 0:
                return i, n, m, GARBAGE
            stop = end
        else:
            stop = min(end, i + s.left)
            if s.chip < 0:
                s.left -= stop - i
                i = stop
                continue
        begin = i
        base = s.chip << 16
        flip_y, first_y, flip_x, first_x = orientation[s.chip]
        now = s.now
        masked = pixels = 0
        started = s.started == 1
        status = -1
        while i < stop:
            word = np.int64(words[i])
            kind = (word >> 60) & 15
            if kind == 0xB:
                if n >= limit:
                    status = FULL
                    break
                raw = ((word & 0xFFFF) << 18 | ((word >> 30) & 0x3FFF) << 4) - ((word >> 16) & 15)
                address = (word >> 44) & 0xFFFF
                y = (((address >> 1) & 0xFC | address & 3) ^ flip_y) + first_y
                x = (((address >> 8) & 0xFE | (address >> 2) & 1) ^ flip_x) + first_x
                place = y << 16 | x
                if masking and mask[(base | address) >> 3] >> (address & 7) & 1:
                    place = np.int64(MASKED)
                if corrected:
                    raw += correction[(s.chip << 8) | ((address >> 9) << 1) | ((address >> 2) & 1)]
                if not started:
                    started = True
                    s.started = 1
                    now = raw & WRAP
                step = (((raw - now) & WRAP) ^ HALF) - HALF
                pixels += 1
                time = now + step
                if step > 0:
                    if step > -back:
                        s.now = now
                        if is_left_over(s, raw, step):
                            s.left_over += 1
                            i += 1
                            continue
                    now = time
                elif step < back:
                    s.now = now
                    n, m = keep_stray(
                        s,
                        raw & WRAP,
                        place,
                        (word >> 20) & 0x3FF,
                        -1,
                        s.chip,
                        strays,
                        times,
                        places,
                        tots,
                        n,
                        items,
                        m,
                    )
                    now = s.now
                    i += 1
                    if m >= room or n >= limit:
                        status = FULL
                        break
                    continue
                if s.strays > 0:
                    n = release_strays(s, strays, times, places, tots, n)
                if place == MASKED:
                    masked += 1
                else:
                    times[n] = time
                    places[n] = place
                    tots[n] = (word >> 20) & 0x3FF
                    n += 1
            elif kind == 0x6:
                s.now = now
                n, m = tdc_pulse(s, word, s.chip, strays, times, places, tots, n, items, m)
                now, started = s.now, True
                if m >= room or n >= limit:
                    i += 1
                    status = FULL
                    break
            elif kind == 0x4:
                s.now = now
                s.control += 1
                n, m = global_time(s, word, s.chip, strays, times, places, tots, n, items, m)
                now, started = s.now, s.started == 1
                if m >= room or n >= limit:
                    i += 1
                    status = FULL
                    break
            elif kind < 0xA and word & 0xFFFFFFFF == MAGIC and (word >> 40) & 0xFF == 0:
                # a header inside a chunk or between bare words: the size before it was wrong
                if s.bare == 0:
                    s.broken_chunks += 1
                status = -2
                break
            elif kind == 0x5 or kind == 0x7 or kind == 0x2:
                s.control += 1
            elif kind == 0xA:
                s.integrated += 1
            else:
                s.unknown += 1
            i += 1
        s.now = now
        s.masked += masked
        s.pixels += pixels
        if s.left > 0:
            s.left -= i - begin
        if status == -2:
            s.left = 0
            s.bare = 0
        elif status >= 0:
            return i, n, m, status
    return i, n, m, DONE
