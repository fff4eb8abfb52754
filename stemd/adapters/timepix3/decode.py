"""The first pass over a block of words: times on one unwrapped clock, pixel places, pulses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.events.clock import HALF, STRAYS, WRAP, is_left_over
from stemd.adapters.events.front import DONE, FULL, GARBAGE
from stemd.adapters.events.layout import MASKED
from stemd.adapters.events.strays import keep_stray, leap, release_strays
from stemd.adapters.timepix3.stamps import global_time, tdc_pulse
from stemd.adapters.timepix3.stretch import decode_stretch
from stemd.adapters.timepix3.words import MAGIC
from stemd.compilation import njit

_HEADER = -1


@njit(nogil=True, cache=True)
def _is_header(word: Any) -> bool:
    return bool(word & 0xFFFFFFFF == MAGIC and (word >> 40) & 0xFF == 0)


@njit(nogil=True, cache=True)
def _next_chunk(words: NDArray[np.uint64], i: int) -> int:
    """Byte at which the next plausible chunk header begins, from words[i] on; -1: none."""
    for k in range(i, words.size):
        for b in range(8):
            word = words[k] >> np.uint64(8 * b)
            if b > 0:
                if k + 1 == words.size:
                    return -1
                word |= words[k + 1] << np.uint64(64 - 8 * b)
            if word & np.uint64(0xFFFFFFFF) == np.uint64(MAGIC) and (
                word >> np.uint64(32)
            ) & np.uint64(0x0007FFC0) == np.uint64(0):
                return 8 * k + b
    return -1


@njit(nogil=True, cache=True)
def _resynced(s: Any, words: NDArray[np.uint64], i: int) -> int:
    """The word behind words[i] at which the next chunk begins; -1 where none begins at a word."""
    at = _next_chunk(words, i)
    if at < 0 or at & 7:
        return -1
    s.skipped += at - 8 * i
    word: int = at >> 3
    return word


@njit(nogil=True, cache=True)
def _begin_chunk(s: Any, word: Any) -> bool:
    """Take a chunk header; False where its size cannot be."""
    size = (word >> 48) & 0xFFFF
    if size & 7:
        return False
    s.left = size >> 3
    s.chip = (word >> 32) & 0xFF
    s.chunks += 1
    s.bare = 0
    if s.chip >= s.chips:
        s.foreign_chip += s.left
        s.chip = -1
    return True


@njit(nogil=True, cache=True)
def _place(address: Any, flip_y: Any, first_y: Any, flip_x: Any, first_x: Any) -> Any:
    """y << 16 | x on the detector of an address on a chip, see `Layout.orientation`."""
    y = (((address >> 1) & 0xFC | address & 3) ^ flip_y) + first_y
    x = (((address >> 8) & 0xFE | (address >> 2) & 1) ^ flip_x) + first_x
    return y << 16 | x


@njit(nogil=True, cache=True)
def _is_masked(mask: Any, bit: Any) -> bool:
    return bool(mask[bit >> 3] >> (bit & 7) & 1)


@njit(nogil=True, cache=True)
def _stamp(word: Any) -> Any:
    """The time of a pixel word, modulo 2^34 ticks; its fine time may make it negative."""
    return ((word & 0xFFFF) << 18 | ((word >> 30) & 0x3FFF) << 4) - ((word >> 16) & 15)


@njit(nogil=True, cache=True)
def _count_other(s: Any, kind: int) -> None:
    """A word that gives neither hit nor time."""
    if kind == 0x5 or kind == 0x7 or kind == 0x2:
        s.control += 1
    elif kind == 0xA:
        s.integrated += 1
    else:
        s.unknown += 1


@njit(inline="always")
def _decode_run(
    words: NDArray[np.uint64],
    i: int,
    stop: int,
    s: Any,
    flips: NDArray[np.int64],
    mask: NDArray[np.uint8],
    correction: NDArray[np.int32],
    strays: NDArray[np.int64],
    limit: int,
    times: NDArray[np.int64],
    places: NDArray[np.uint32],
    tots: NDArray[np.uint16],
    n: int,
    items: NDArray[np.int64],
    m: int,
) -> tuple[int, int, int, int]:
    """Words i..stop-1, all of chip `s.chip`; returns as `decode`, _HEADER at a chunk header.

    Time and counts are local variables; the state has them again where a helper reads it.
    """
    room = items.shape[0] - STRAYS - 2
    corrected = correction.size > 0
    masking = mask.size > 0
    back, ahead = -s.back_limit, s.ahead_limit
    chip = s.chip
    base = chip << 16
    flip_y, first_y, flip_x, first_x = flips[0], flips[1], flips[2], flips[3]
    now, started = s.now, s.started == 1
    masked = pixels = 0
    why = DONE
    while i < stop:
        word = np.int64(words[i])
        kind = (word >> 60) & 15
        if kind == 0xB:
            if n >= limit:
                why = FULL
                break
            raw = _stamp(word)
            address = (word >> 44) & 0xFFFF
            place = _place(address, flip_y, first_y, flip_x, first_x)
            if masking and _is_masked(mask, base | address):
                place = np.int64(MASKED)
            if corrected:
                raw += correction[(chip << 8) | ((address >> 9) << 1) | ((address >> 2) & 1)]
            if not started:
                started = True
                s.started = 1
                now = raw  # a little below zero where the clock begins with a fine time
            step = (((raw - now) & WRAP) ^ HALF) - HALF
            pixels += 1
            time = now + step
            if step > 0:
                if step > ahead:
                    s.now = now
                    if is_left_over(s, raw, step):
                        s.left_over += 1
                        i += 1
                        continue
                    tot = (word >> 20) & 0x3FF
                    n, m, kept = leap(
                        s, raw, time, place, tot, -1, chip,
                        strays, times, places, tots, n, items, m,
                    )  # fmt: skip
                    now = s.now
                    if kept:
                        i += 1
                        if m >= room or n >= limit:
                            why = FULL
                            break
                        continue
                    now = max(now, time)
                else:
                    now = time
            elif step < back:
                s.now = now
                tot = (word >> 20) & 0x3FF
                n, m = keep_stray(
                    s, raw, place, tot, -1, chip, strays, times, places, tots, n, items, m
                )
                now = s.now
                i += 1
                if m >= room or n >= limit:
                    why = FULL
                    break
                continue
            if s.strays > 0:
                s.now = now
                n, m = release_strays(s, time, strays, times, places, tots, n, items, m)
                now = s.now
            if place == MASKED:
                masked += 1
            else:
                times[n] = time
                places[n] = place
                tots[n] = (word >> 20) & 0x3FF
                n += 1
        elif kind == 0x6 or kind == 0x4:
            s.now = now
            if kind == 0x6:
                n, m = tdc_pulse(s, word, chip, strays, times, places, tots, n, items, m)
            else:
                s.control += 1
                n, m = global_time(s, word, chip, strays, times, places, tots, n, items, m)
            now, started = s.now, s.started == 1
            if m >= room or n >= limit:
                i += 1
                why = FULL
                break
        elif kind < 0xA and _is_header(word):
            why = _HEADER
            break
        else:
            _count_other(s, int(kind))
        i += 1
    s.now = now
    s.masked += masked
    s.pixels += pixels
    return i, n, m, why


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
    (STRAYS, STRAY_FIELDS): scratch that belongs to the state. Stops FULL at `limit` hits or at
    most STRAYS more: the output must hold limit + STRAYS + 1. About 5 ns a word; state in
    `s_array[0]`.
    """
    s = s_array[0]
    # a plain 0 has what is called compiled for that very number, too
    zero: Any = np.int64(0)
    n = m = zero
    i = first
    while i < words.size:
        stop = words.size
        if s.left == 0:
            head = np.int64(words[i])
            # among bare words only a short chunk can be told from a pixel
            if (s.bare == 0 or ((head >> 60) & 15) < 0xA) and _is_header(head):
                if _begin_chunk(s, head):
                    i += 1
                    continue
                garbage = True
            else:
                garbage = s.bare == 0
            if garbage:
                following = _resynced(s, words, i)
                if following < 0:
                    return i, n, m, GARBAGE
                i = following
                continue
        else:
            stop = min(stop, i + s.left)
            if s.chip < 0:
                s.left -= stop - i
                i = stop
                continue
        begin = i
        i, n, one_by_one = decode_stretch(
            words, i, min(stop, i + limit - n), s, orientation[s.chip], mask, correction,
            times, places, tots, n,
        )  # fmt: skip
        why = DONE
        if i < one_by_one:
            i, n, m, why = _decode_run(
                words, i, min(stop, one_by_one), s, orientation[s.chip], mask, correction, strays,
                limit, times, places, tots, n, items, m,
            )  # fmt: skip
        if s.left > 0:
            s.left -= i - begin
        if why == _HEADER:
            # a header inside a chunk or between bare words: the size before it was wrong
            if s.bare == 0:
                s.broken_chunks += 1
            s.left = 0
            s.bare = 0
        elif why != DONE:
            return i, n, m, why
    return i, n, m, DONE
