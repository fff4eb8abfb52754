"""Stretches of pixel words whose times need no second look: decoded many at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.events.clock import HALF, WRAP
from stemd.adapters.timepix3.words import KIND_PIXEL
from stemd.compilation import njit

LONGEST = 256
"""Words decoded at a time: the words of one chunk, and few again where one of them is not plain."""
SHORTEST = 8
"""Fewer are decoded word by word."""


@njit(nogil=True, cache=True)
def _plain_words(words: NDArray[np.uint64], first: int, count: int) -> int:
    """How many of these words come before one that is not a pixel's."""
    for k in range(count):
        if words[np.uintp(first + k)] >> np.uint64(60) != np.uint64(KIND_PIXEL):
            return k
    return count


@njit(nogil=True, cache=True)
def _correct(
    words: NDArray[np.uint64],
    first: Any,
    count: int,
    chip: Any,
    correction: NDArray[np.int32],
    times: NDArray[np.int64],
    to: Any,
) -> None:
    """Add each column's correction."""
    for k in range(np.uintp(count)):
        address = (np.int64(words[first + k]) >> 44) & 0xFFFF
        column = (chip << 8) | ((address >> 9) << 1) | ((address >> 2) & 1)
        times[to + k] += correction[np.uintp(column)]


@njit(nogil=True, cache=True)
def _drop_masked(
    words: NDArray[np.uint64],
    first: int,
    count: int,
    base: Any,
    mask: NDArray[np.uint8],
    times: NDArray[np.int64],
    places: NDArray[np.uint32],
    tots: NDArray[np.uint16],
    n: int,
) -> int:
    """Close the gaps that masked pixels leave among hits from n on; returns those that stay."""
    kept = 0
    for k in range(count):
        bit = base | (np.int64(words[np.uintp(first + k)]) >> 44) & 0xFFFF
        to, of = np.uintp(n + kept), np.uintp(n + k)
        times[to], places[to], tots[to] = times[of], places[of], tots[of]
        kept += 1 - (mask[np.uintp(bit >> 3)] >> (bit & 7) & 1)
    return kept


@njit(nogil=True, cache=True)
def decode_stretch(
    words: NDArray[np.uint64],
    first: int,
    stop: int,
    s: Any,
    flips: NDArray[np.int64],
    mask: NDArray[np.uint8],
    correction: NDArray[np.int32],
    times: NDArray[np.int64],
    places: NDArray[np.uint32],
    tots: NDArray[np.uint16],
    n: int,
) -> tuple[int, int, int]:
    """Decode words first..stop-1 of chip `s.chip` as far as they are plain pixel words.

    Returns (next word, hits, word up to which the others go one by one). Plain: the clock has
    begun, nothing is kept back, and no step of the time is so long, ahead or back, that `decode`
    would look twice. Then the order does not matter: each time is the clock's plus the step from
    it, and the clock is at the latest. The steps of word k from the clock as it is there lie
    between d_k - max(0, d_0 .. d_last) and d_k, where d is the step from the clock at the first
    word. Arguments as in `decode`, whose hits these are; about 1 ns a word with 512-bit vectors.
    """
    if s.strays > 0 or s.started == 0:
        # with no room for hits `stop` is `first`: that is found out one by one
        return first, n, max(stop, first + SHORTEST)
    count = min(stop - first, LONGEST)
    if count < SHORTEST:
        return first, n, first + SHORTEST
    now, chip = s.now, s.chip
    flip_y, first_y, flip_x, first_x = flips[0], flips[1], flips[2], flips[3]
    other = np.int64(0)
    of, to = np.uintp(first), np.uintp(n)
    # indices have no sign, and what is looked up stands apart: else these are no vector loops
    for k in range(np.uintp(count)):
        word = np.int64(words[of + k])
        other |= (word >> 60 & 15) ^ KIND_PIXEL
        address = (word >> 44) & 0xFFFF
        y = (((address >> 1) & 0xFC | address & 3) ^ flip_y) + first_y
        x = (((address >> 8) & 0xFE | (address >> 2) & 1) ^ flip_x) + first_x
        coarse = (word & 0xFFFF) << 18 | ((word >> 30) & 0x3FFF) << 4
        times[to + k] = coarse - ((word >> 16) & 15)
        places[to + k] = np.uint32(y << 16 | x)
        tots[to + k] = np.uint16((word >> 20) & 0x3FF)
    if other:
        count = _plain_words(words, first, count)
        if count < SHORTEST:
            return first, n, first + count + 1
    if correction.size > 0:
        _correct(words, of, count, chip, correction, times, to)
    least = latest = np.int64(0)
    for k in range(np.uintp(count)):
        step = (((times[to + k] - now) & WRAP) ^ HALF) - HALF
        times[to + k] = now + step
        if step < least:
            least = step
        if step > latest:
            latest = step
    if latest > s.ahead_limit or least - latest < max(-s.back_limit, -HALF):
        return first, n, first + count
    s.now = now + latest
    s.pixels += count
    kept = count
    if mask.size > 0:
        kept = _drop_masked(words, first, count, chip << 16, mask, times, places, tots, n)
        s.masked += count - kept
    return first + count, n + kept, first + count
