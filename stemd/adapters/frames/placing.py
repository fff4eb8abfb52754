"""Sequence numbers to probe positions, a whole block of frames in one call.

The kernels read what they need from a small int64 state array, whose places are named here.
Frame numbers count from 0 over the whole acquisition; `BASE` is the number of the first frame of
the scan at hand. Numbers are read from the headers by the camera's own kernel; here they count
from 1, as `unwrap` makes them of the camera's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Scan
from stemd.adapters.frames import doubt
from stemd.compilation import njit

NY, NX, FLYBACK_FRAMES, LEADING_FRAMES, SERPENTINE = 0, 1, 2, 3, 4
BASE, TOTAL, END, OPEN = 5, 6, 7, 8
LAST, NUMBER = 9, 10
FIRST, TURN = 11, 12
ZERO, RISES = 13, 14
OFFSET, KNOWN = 15, 16
STEP, BEFORE, SINCE, NO_MORE, SAID, PUT = 17, 18, 19, 20, 21, 22
N_FRAMES, N_FLYBACK, N_LEADING, N_REPEATED, N_PLACED = 23, 24, 25, 26, 27
N_LIES, N_NO_ROOM = 28, 29
STATE_SIZE = 30
"""TOTAL: frames of a scan. END: frames after which the scan at hand is complete. OPEN: a scan is
under way. LAST: highest frame number seen, -1 before the first. NUMBER: out, the frame number
that stopped the kernel. FIRST, TURN: the camera's first number, and what its numbers wrap at (0:
never). ZERO: the number that is sent as 0, or left out, see `may_leave_out_0`; 0: none. RISES:
1 where frames come by several links: one link need not bring the first number, so any that is far
behind the others begins again. OFFSET: to be added to the numbers of a camera that has lost its
count. KNOWN: BASE of the newest scan. STEP: by how much the number of the newest frame is above
the one before it. BEFORE: what LAST would be without the newest jump up that was borne out before
by SINCE frames. NO_MORE: 1 where no frames are waited for that would tell of a doubtful one. SAID,
PUT: out, the newest number that lied, and that of its place or of the frame before it. N_...:
counters, the last of all."""

ALL, COMPLETE, OTHER_SCAN, RESTART, BAD, BACK, DOUBTFUL = 0, 1, 2, 3, 4, 5, 6
"""Why `place_live` stopped: nothing left; scan complete with the frame before; the frame belongs
to no open scan; numbers begin again; the bytes are not the expected frame; numbers jump back; only
frames behind that have not come can tell whether this one's number lies."""

BEAR_OUT = 3
"""Frames behind a jump up that make it part of what is believed."""
_REORDER = 8  # number 1 behind no more frames than this is a repeat, behind more a new beginning
_LINKS_REACH = 64  # what one of several links leaves out is with the others


def set_scan(state: NDArray[np.int64], scan: Scan) -> None:
    """Write the geometry of a scan into the state."""
    state[NY], state[NX] = scan.lines, scan.shape[1]
    state[FLYBACK_FRAMES] = scan.flyback_frames
    state[LEADING_FRAMES] = scan.leading
    state[SERPENTINE] = scan.serpentine
    state[TOTAL] = scan.frames


def new_state(first_number: int, turn: int) -> NDArray[np.int64]:
    """The state of a camera whose numbers begin at `first_number` and wrap at `turn`."""
    state = np.zeros(STATE_SIZE, np.int64)
    state[LAST] = state[BEFORE] = -1
    state[STEP], state[SINCE] = 1, BEAR_OUT
    state[FIRST], state[TURN] = first_number, turn
    state[ZERO] = turn if may_leave_out_0(first_number, turn) else 0
    return state


def may_leave_out_0(first_number: int, turn: int) -> bool:
    """Whether a camera may number 1, ... 999999, 1, ...: one that counts from 1, in digits."""
    return first_number == 1 and turn > 0 and 10 ** (len(str(turn)) - 1) == turn


@njit(inline="always")
def unwrap(raw: int, first: int, turn: int, expected: int) -> int:
    """The number from 1 that a camera sends as `raw`: of those possible nearest to `expected`."""
    if turn == 0 or raw >= first + turn:
        return raw + 1 - first
    step = (raw + 1 - first - expected) % turn
    if step >= turn // 2:
        step -= turn
    value = expected + step
    return value if value >= 1 else value + turn


@njit(inline="always")
def _plain(raw: int, value: int, expected: int, state: NDArray[np.int64]) -> int:
    """The number without OFFSET, where it then is nearer to the one expected; else `value`."""
    if state[OFFSET] == 0 or value == expected:
        return int(value)
    plain = unwrap(raw, state[FIRST], state[TURN], expected)
    far = abs(plain - expected)
    return int(plain) if far <= _REORDER and far < abs(value - expected) else value


@njit(inline="always")
def _number(raw: int, expected: int, state: NDArray[np.int64]) -> int:
    """The number from 1, with what a camera that lost its count has to be given."""
    offset = state[OFFSET]
    value = unwrap(raw, state[FIRST], state[TURN], expected - offset) + offset
    return int(_plain(raw, value, expected, state))


@njit(inline="always")
def _is_doubtful(
    value: int, mark: int, state: NDArray[np.int64], known: NDArray[np.uint16]
) -> bool:
    """Whether a number (from 1) may be a lie: others are left out, or its frame has come."""
    last = state[LAST] + 1
    if value > last:
        reach = _LINKS_REACH if state[RISES] != 0 else state[STEP]
        return bool(value - last > reach)
    k = value - 1 - state[KNOWN]
    if k < 0 or k >= known.size or known[k] == 0:
        return bool(value < last - _REORDER)
    return bool(known[k] != mark)


@njit(cache=True, nogil=True)
def _verdict(
    i: int,
    stop: int,
    waits: bool,
    numbers: NDArray[np.int64],
    marks: NDArray[np.uint16],
    state: NDArray[np.int64],
    known: NDArray[np.uint16],
) -> int:
    """How the doubtful number of frame i is taken, see `doubt`, if those up to `stop` follow.

    OPEN: more of them are needed, and `waits`.
    """
    last = state[LAST] + 1
    value = _number(numbers[i], last + 1, state)
    n = min(stop - i - 1, doubt.MOST)
    behind = np.empty(n, np.int64)
    for k in range(n):
        behind[k] = _number(numbers[i + 1 + k], last + 2 + k, state)
    step = state[STEP]
    frames = state[END] if state[OPEN] != 0 else state[TOTAL]
    end = state[BASE] + frames
    used = doubt.needed(value, last, step, end - last - 1, end if frames else 0, _REORDER, behind)
    if waits and used > n:
        return int(doubt.OPEN)
    behind = behind[:used]
    k = value - 1 - state[KNOWN]
    free = 0 <= k < known.size and known[k] == 0
    if behind.size == 0:
        return int(doubt.LOST_COUNT if value < last - _REORDER and not free else doubt.BELIEVED)
    follower = behind[0]
    k = follower - 1 - state[KNOWN]
    again = 0 <= k < known.size and known[k] == marks[i + 1]
    same = marks[i] == marks[i + 1]
    same |= again
    before = state[BEFORE] + 1
    on = doubt.counts_on(value, last, behind)
    unsure = state[SINCE] <= BEAR_OUT
    return int(doubt.judged(value, free, last, step, before, unsure, follower, on, same, _REORDER))


@njit(inline="always")
def position(m: int, state: NDArray[np.int64]) -> int:
    """Probe position of frame m of a scan as `Scan.probes`; -2 for flyback, -3 for leading."""
    m -= state[LEADING_FRAMES]
    if m < 0:
        return -3
    nx = state[NX]
    line_frames = nx + state[FLYBACK_FRAMES]
    line, column = m // line_frames, m % line_frames
    if column >= nx:
        return -2
    if state[SERPENTINE] != 0 and line % 2 == 1:
        column = nx - 1 - column
    return int(line * nx + column)


@njit(inline="always")
def _is_like(prefixes: NDArray[np.uint8], prefix: NDArray[np.uint8], i: int) -> bool:
    like = True
    for k in range(prefix.size):
        like &= prefixes[i, k] == prefix[k]
    return like


@njit(nogil=True, cache=True)
def place_live(
    prefixes: NDArray[np.uint8],
    prefix: NDArray[np.uint8],
    numbers: NDArray[np.int64],
    start: int,
    stop: int,
    ahead: int,
    state: NDArray[np.int64],
    sequence: NDArray[np.int64],
    probe: NDArray[np.int64],
    seen: NDArray[np.uint8],
    marks: NDArray[np.uint16],
    known: NDArray[np.uint16],
) -> tuple[int, int]:
    """Check and place the received frames start..stop-1; returns (why it stopped, at which frame).

    Those up to `ahead` - 1 are known, too, and tell whether the numbers of those before them lie.
    `prefixes` (n, size) are the message prefixes, every one must be `prefix`. `numbers` are as
    sent, -1 for a header that is not the expected one.
    `sequence` and `probe` take the frame number within the scan and the probe position, -1 for
    flyback, leading and repeated frames; `seen` marks the positions of the scan. `marks` are the
    frames' own, `known` those of the newest scan's frames that have come, 0 of others: a frame
    that has another mark than the one with its number is no repeated one. Cost: some tens of
    nanoseconds a frame.
    """
    for i in range(start, stop):
        raw = numbers[i]
        if raw < 0 or not _is_like(prefixes, prefix, i):
            return BAD, i
        expected = state[LAST] + 2
        if raw == 0:
            state[TURN] = max(state[TURN], state[ZERO])  # it does send a 0
        elif raw == state[FIRST] and expected == state[ZERO] and state[TURN] == state[ZERO]:
            state[TURN] -= 1  # 1 where 0 was due: this camera never sends a 0
        offset = state[OFFSET]
        value = unwrap(raw, state[FIRST], state[TURN], expected - offset) + offset
        plain = _plain(raw, value, expected, state)
        if plain != value:
            state[OFFSET], value = 0, plain  # the number that made the offset was a lie
        back = abs(value - expected)
        if raw == state[FIRST] and back > (_REORDER if state[OPEN] != 0 else 0):
            return RESTART, i
        if state[RISES] != 0 and value < expected - 1 - _REORDER:
            return RESTART, i
        taken = doubt.OPEN
        if value != expected and _is_doubtful(value, marks[i], state, known):
            if state[OPEN] != 0:  # the last frame of a scan is not waited for
                last_one = value - state[BASE] == state[END] and state[N_FRAMES] > 0
                asks = back > _REORDER or not last_one
            else:
                asks = value > expected
            good = i + 1
            if asks:
                most = min(ahead, good + doubt.MOST)
                while good < most and numbers[good] >= 0 and _is_like(prefixes, prefix, good):
                    good += 1
            waits = asks and state[NO_MORE] == 0
            taken = _verdict(i, good, waits, numbers, marks, state, known)
            if taken == doubt.OPEN:
                return DOUBTFUL, i
        if taken == doubt.LOST_COUNT:
            state[NUMBER] = value - 1
            return BACK, i
        said = value - 1
        n = taken - 1 if taken > 0 else said
        left_out = taken == doubt.LEFT_OUT and state[OPEN] != 0
        if left_out:
            n = state[LAST]
        m = n - state[BASE]
        k = n - state[KNOWN]
        if state[OPEN] == 0 or m >= state[TOTAL]:
            state[NUMBER] = n
            return OTHER_SCAN, i
        if n > state[LAST] or taken == doubt.RETURNED:
            state[SINCE] += 1
            if n > state[LAST] + state[STEP] and state[SINCE] > BEAR_OUT:
                state[BEFORE] = state[LAST]
                state[SINCE] = 0
            state[BEFORE] += 1
            state[STEP] = max(1, min(n - state[LAST], _REORDER))
            state[LAST] = n
        state[N_FRAMES] += 1
        if taken > 0 or left_out:
            state[SAID], state[PUT] = said, n
            state[N_LIES] += taken > 0
            state[N_NO_ROOM] += left_out
        sequence[i] = m
        probe[i] = -1
        if 0 <= k < known.size and known[k] == 0 and not left_out:
            known[k] = marks[i]
        if m < 0:
            state[N_REPEATED] += 1
        elif not left_out:
            p = position(m, state)
            if p == -2:
                state[N_FLYBACK] += 1
            elif p == -3:
                state[N_LEADING] += 1
            elif seen[p] != 0:
                state[N_REPEATED] += 1
            else:
                seen[p] = 1
                probe[i] = p
                state[N_PLACED] += 1
        if m == state[END] - 1:
            return COMPLETE, i + 1
    return ALL, stop
