"""Sequence numbers of a file's frames to probe positions; the state is that of `placing`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.frames.placing import (
    BASE,
    FIRST,
    FLYBACK_FRAMES,
    LEADING_FRAMES,
    NX,
    TOTAL,
    TURN,
    position,
    unwrap,
)
from stemd.compilation import njit


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
        value = unwrap(raw, state[FIRST], state[TURN], expected)
        if value != expected:
            odd += 1
        m = value - 1 - state[BASE]
        sequence[k] = m
        if 0 <= m < state[TOTAL]:
            probe[k] = max(-1, position(m, state))
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
        out[i] = unwrap(raw[i], first, turn, hints[i] if hints[i] >= 0 else before + 1)
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
            p = position(m, state)
            if p >= 0 and (seen.size == 0 or seen[p] == 0):
                probe[i] = p
                if seen.size:
                    seen[p] = 1
