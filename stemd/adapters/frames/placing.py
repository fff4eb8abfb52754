"""Sequence numbers to probe positions, a whole block of frames in one call.

The kernels read what they need from a small int64 state array, whose places are named here.
Frame numbers count from 0 over the whole acquisition; `BASE` is the number of the first frame of
the scan at hand. Sequence numbers are the camera's: six digits from 1, which wrap at a million
or take a seventh digit.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stemd.acquisition import Scan

NY, NX, FLYBACK_FRAMES, LEADING_FRAMES, SERPENTINE = 0, 1, 2, 3, 4
BASE, TOTAL, END, OPEN = 5, 6, 7, 8
LAST, NUMBER = 9, 10
N_FRAMES, N_FLYBACK, N_LEADING, N_REPEATED, N_PLACED = 11, 12, 13, 14, 15
STATE_SIZE = 16
"""TOTAL: frames of a scan. END: frames after which the scan at hand is complete. OPEN: a scan is
under way. LAST: highest frame number seen, -1 before the first. NUMBER: out, the frame number
that stopped the kernel. N_...: counters."""

ALL, COMPLETE, OTHER_SCAN, RESTART, BAD = 0, 1, 2, 3, 4
"""Why `place_live` stopped: nothing left; scan complete with the frame before; the frame belongs
to no open scan; numbers begin again; the bytes are not the expected frame."""

_TURN = 1_000_000
_REORDER = 8  # number 1 behind no more frames than this is a repeat, behind more a new beginning


def set_scan(state: NDArray[np.int64], scan: Scan) -> None:
    """Write the geometry of a scan into the state."""
    state[NY], state[NX] = scan.shape
    state[FLYBACK_FRAMES] = scan.flyback_frames
    state[LEADING_FRAMES] = scan.leading
    state[SERPENTINE] = scan.serpentine
    state[TOTAL] = scan.frames


@njit(inline="always")
def _sequence(data: NDArray[np.uint8], at: int, invariant: NDArray[np.uint8]) -> tuple[int, int]:
    """(sequence number, its digits), or (-1, 0) where the header is not the expected one.

    `invariant` is what must follow the number: ",header length,chips,...,chip mask,".
    """
    if (
        data[at] != 77  # "MQ1,"
        or data[at + 1] != 81
        or data[at + 2] != 49
        or data[at + 3] != 44
    ):
        return -1, 0
    value, digits = 0, 0
    while digits < 12:
        d = int(np.int64(data[at + 4 + digits])) - 48
        if d < 0 or d > 9:
            break
        value = value * 10 + d
        digits += 1
    if digits == 0:
        return -1, 0
    start = at + 4 + digits
    for k in range(invariant.size):
        if data[start + k] != invariant[k]:
            return -1, 0
    return value, digits


@njit(inline="always")
def _unwrap(raw: int, digits: int, expected: int) -> int:
    """The number from 1 that is `raw` modulo a million and nearest to `expected`."""
    if digits > 6:
        return raw
    step = (raw - expected) % _TURN
    if step >= _TURN // 2:
        step -= _TURN
    value = expected + step
    return value if value >= 1 else value + _TURN


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
    frames: NDArray[np.uint8],
    stride: int,
    start: int,
    stop: int,
    reference: NDArray[np.uint8],
    state: NDArray[np.int64],
    sequence: NDArray[np.int64],
    probe: NDArray[np.int64],
    seen: NDArray[np.uint8],
) -> tuple[int, int]:
    """Check and place the received frames start..stop-1; returns (why it stopped, at which frame).

    `prefixes` (n, 15) are the message prefixes, frame i begins at byte i * stride of `frames`.
    `reference` is the prefix every message must have, then the invariant part of the header.
    `sequence` and `probe` take the frame number within the scan and the probe position, -1 for
    flyback, leading and repeated frames; `seen` marks the positions of the scan. Cost: some
    tens of nanoseconds a frame.
    """
    invariant = reference[15:]
    for i in range(start, stop):
        for k in range(15):
            if prefixes[i, k] != reference[k]:
                return BAD, i
        raw, digits = _sequence(frames, i * stride, invariant)
        if raw < 0:
            return BAD, i
        expected = state[LAST] + 2
        value = _unwrap(raw, digits, expected)
        back = abs(value - expected)
        if raw == 1 and back > (_REORDER if state[OPEN] != 0 else 0):
            return RESTART, i
        n = value - 1
        m = n - state[BASE]
        if state[OPEN] == 0 or m >= state[TOTAL]:
            state[NUMBER] = n
            return OTHER_SCAN, i
        if n > state[LAST]:
            state[LAST] = n
        state[N_FRAMES] += 1
        sequence[i] = m
        probe[i] = -1
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
    frames: NDArray[np.uint8],
    stride: int,
    first: int,
    invariant: NDArray[np.uint8],
    state: NDArray[np.int64],
    start: int,
    skipping: bool,
    sequence: NDArray[np.int64],
    probe: NDArray[np.int64],
) -> tuple[int, int]:
    """Check and place frames first, first + 1, ... of a file whose numbers are regular.

    `frames` begins with frame `first`, `start` is the sequence number of the file's first frame;
    `skipping` says that numbers jump over flyback frames which are not in the file. BASE of `state`
    is the frame number of the scan's first frame. `sequence` (size: how many frames) and `probe`
    are written as by `place_live`; sequence -1 marks a frame whose header is not the expected one.
    Returns how many of those there are, and how many numbers were not regular after all.
    """
    bad, odd = 0, 0
    for k in range(sequence.size):
        i = first + k
        raw, digits = _sequence(frames, k * stride, invariant)
        probe[k] = -1
        sequence[k] = -1
        if raw < 0:
            bad += 1
            continue
        expected = _regular(i, start, skipping, state)
        value = _unwrap(raw, digits, expected)
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
def read_sequences(
    frames: NDArray[np.uint8],
    stride: int,
    indices: NDArray[np.int64],
    hints: NDArray[np.int64],
    invariant: NDArray[np.uint8],
    out: NDArray[np.int64],
) -> int:
    """Unwrapped sequence numbers (from 1) of the frames `indices` of a file.

    `hints[i]` is about where the number should be (a negative hint: after the number before).
    Returns the first i whose header is not the expected one (out[i] is 0 for each such), or the
    size of `indices`.
    """
    bad = indices.size
    before = 0
    for i in range(indices.size):
        raw, digits = _sequence(frames, indices[i] * stride, invariant)
        if raw < 0:
            out[i] = 0
            if i < bad:
                bad = i
            continue
        out[i] = _unwrap(raw, digits, hints[i] if hints[i] >= 0 else before + 1)
        before = out[i]
    return bad


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
