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
from stemd.compilation import njit

NY, NX, FLYBACK_FRAMES, LEADING_FRAMES, SERPENTINE = 0, 1, 2, 3, 4
BASE, TOTAL, END, OPEN = 5, 6, 7, 8
LAST, NUMBER = 9, 10
FIRST, TURN = 11, 12
ZERO, RISES = 13, 14
OFFSET, KNOWN = 15, 16
N_FRAMES, N_FLYBACK, N_LEADING, N_REPEATED, N_PLACED = 17, 18, 19, 20, 21
STATE_SIZE = 22
"""TOTAL: frames of a scan. END: frames after which the scan at hand is complete. OPEN: a scan is
under way. LAST: highest frame number seen, -1 before the first. NUMBER: out, the frame number
that stopped the kernel. FIRST, TURN: the camera's first number, and what its numbers wrap at (0:
never). ZERO: the number that is sent as 0, or left out, see `may_leave_out_0`; 0: none. RISES:
1 where frames come by several links: one link need not bring the first number, so any that is far
behind the others begins again. OFFSET: to be added to the numbers of a camera that has lost its
count. KNOWN: BASE of the newest scan. N_...: counters, the last of all."""

ALL, COMPLETE, OTHER_SCAN, RESTART, BAD, BACK = 0, 1, 2, 3, 4, 5
"""Why `place_live` stopped: nothing left; scan complete with the frame before; the frame belongs
to no open scan; numbers begin again; the bytes are not the expected frame; numbers jump back."""

_REORDER = 8  # number 1 behind no more frames than this is a repeat, behind more a new beginning


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
    state[LAST] = -1
    state[FIRST], state[TURN] = first_number, turn
    state[ZERO] = turn if may_leave_out_0(first_number, turn) else 0
    return state


def may_leave_out_0(first_number: int, turn: int) -> bool:
    """Whether a camera may number 1, ... 999999, 1, ...: one that counts from 1, in digits."""
    return first_number == 1 and turn > 0 and 10 ** (len(str(turn)) - 1) == turn


@njit(inline="always")
def _unwrap(raw: int, first: int, turn: int, expected: int) -> int:
    """The number from 1 that a camera sends as `raw`: of those possible nearest to `expected`."""
    if turn == 0 or raw >= first + turn:
        return raw + 1 - first
    step = (raw + 1 - first - expected) % turn
    if step >= turn // 2:
        step -= turn
    value = expected + step
    return value if value >= 1 else value + turn


@njit(inline="always")
def _position(m: int, state: NDArray[np.int64]) -> int:
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


@njit(nogil=True, cache=True)
def place_live(
    prefixes: NDArray[np.uint8],
    prefix: NDArray[np.uint8],
    numbers: NDArray[np.int64],
    start: int,
    stop: int,
    state: NDArray[np.int64],
    sequence: NDArray[np.int64],
    probe: NDArray[np.int64],
    seen: NDArray[np.uint8],
    marks: NDArray[np.uint64],
    known: NDArray[np.uint64],
) -> tuple[int, int]:
    """Check and place the received frames start..stop-1; returns (why it stopped, at which frame).

    `prefixes` (n, size) are the message prefixes, every one must be `prefix`. `numbers` are as
    sent, -1 for a header that is not the expected one.
    `sequence` and `probe` take the frame number within the scan and the probe position, -1 for
    flyback, leading and repeated frames; `seen` marks the positions of the scan. `marks` are the
    frames' own, `known` those of the newest scan's frames that have come, 0 of others: a frame far
    back that has another mark than the one with its number is no repeated one. Cost: some tens of
    nanoseconds a frame.
    """
    for i in range(start, stop):
        for k in range(prefix.size):
            if prefixes[i, k] != prefix[k]:
                return BAD, i
        raw = numbers[i]
        if raw < 0:
            return BAD, i
        expected = state[LAST] + 2
        if raw == 0:
            state[TURN] = max(state[TURN], state[ZERO])  # it does send a 0
        elif raw == state[FIRST] and expected == state[ZERO] and state[TURN] == state[ZERO]:
            state[TURN] -= 1  # 1 where 0 was due: this camera never sends a 0
        offset = state[OFFSET]
        value = _unwrap(raw, state[FIRST], state[TURN], expected - offset) + offset
        if offset != 0 and value != expected:
            plain = _unwrap(raw, state[FIRST], state[TURN], expected)
            if abs(plain - expected) <= _REORDER:  # the number that made the offset was a lie
                state[OFFSET], value = 0, plain
        back = abs(value - expected)
        if raw == state[FIRST] and back > (_REORDER if state[OPEN] != 0 else 0):
            return RESTART, i
        if state[RISES] != 0 and value < expected - 1 - _REORDER:
            return RESTART, i
        n = value - 1
        m = n - state[BASE]
        k = n - state[KNOWN]
        if value < expected - 1 - _REORDER and (
            k < 0 or k >= known.size or (known[k] != 0 and known[k] != marks[i])
        ):
            state[NUMBER] = n
            return BACK, i
        if state[OPEN] == 0 or m >= state[TOTAL]:
            state[NUMBER] = n
            return OTHER_SCAN, i
        if n > state[LAST]:
            state[LAST] = n
        state[N_FRAMES] += 1
        sequence[i] = m
        probe[i] = -1
        if 0 <= k < known.size and known[k] == 0:
            known[k] = marks[i]
        if m < 0:
            state[N_REPEATED] += 1
        else:
            p = _position(m, state)
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


@njit(inline="always")
def _regular(i: int, start: int, skipping: bool, state: NDArray[np.int64]) -> int:
    """Number of frame i of a file whose numbers are regular."""
    if not skipping:
        return start + i
    lines = (i - state[LEADING_FRAMES]) // state[NX]
    return int(start + i + lines * state[FLYBACK_FRAMES])


@njit(nogil=True, cache=True)
def place_file(
    numbers: NDArray[np.int64],
    first: int,
    state: NDArray[np.int64],
    start: int,
    skipping: bool,
    sequence: NDArray[np.int64],
    probe: NDArray[np.int64],
) -> tuple[int, int]:
    """Check and place frames first, first + 1, ... of a file whose numbers are regular.

    `numbers` are as sent, those of frame `first` and the following, -1: no header. `start` is the
    number of the file's first frame; `skipping` says that numbers jump over flyback frames which
    are not in the file. BASE of `state` is the frame number of the scan's first frame. `sequence`
    (size: how many frames) and `probe` are written as by `place_live`; sequence -1 marks a frame
    whose header is not the expected one.
    Returns how many of those there are, and how many numbers were not regular after all.
    """
    bad, odd = 0, 0
    for k in range(sequence.size):
        i = first + k
        raw = numbers[k]
        probe[k] = -1
        sequence[k] = -1
        if raw < 0:
            bad += 1
            continue
        expected = _regular(i, start, skipping, state)
        value = _unwrap(raw, state[FIRST], state[TURN], expected)
        if value != expected:
            odd += 1
        m = value - 1 - state[BASE]
        sequence[k] = m
        if 0 <= m < state[TOTAL]:
            probe[k] = max(-1, _position(m, state))
    return bad, odd


@njit(nogil=True, cache=True)
def regular_numbers(
    start: int, skipping: bool, state: NDArray[np.int64], out: NDArray[np.int64]
) -> None:
    """The numbers (from 1) that the frames of a file have where they are regular."""
    for i in range(out.size):
        out[i] = _regular(i, start, skipping, state)


@njit(nogil=True, cache=True)
def unwrap_numbers(
    raw: NDArray[np.int64],
    hints: NDArray[np.int64],
    first: int,
    turn: int,
    out: NDArray[np.int64],
) -> None:
    """Numbers from 1 of frames whose numbers were sent as `raw`; 0 where `raw` is -1.

    `hints[i]` is about where the number should be (negative: after the number before).
    """
    before = 0
    for i in range(raw.size):
        if raw[i] < 0:
            out[i] = 0
            continue
        out[i] = _unwrap(raw[i], first, turn, hints[i] if hints[i] >= 0 else before + 1)
        before = out[i]


@njit(nogil=True, cache=True)
def place_numbers(
    numbers: NDArray[np.int64],
    state: NDArray[np.int64],
    probe: NDArray[np.int64],
    seen: NDArray[np.uint8],
) -> None:
    """Probe positions of the frame numbers of one scan (from 0; below 0: not a frame).

    -1 for flyback, leading, repeated frames and those beyond the scan. `seen` marks positions;
    with an array of size 0 repeats are not looked for.
    """
    for i in range(numbers.size):
        m = numbers[i]
        probe[i] = -1
        if 0 <= m < state[TOTAL]:
            p = _position(m, state)
            if p >= 0 and (seen.size == 0 or seen[p] == 0):
                probe[i] = p
                if seen.size:
                    seen[p] = 1
