"""Is the number of a frame a lie? The order of the frames is the second witness.

A number that leaves others out, or that another frame has had, is doubtful until the next frames
are here: they count on either from it, or from the frame before it. What more of them do decides;
a few lies side by side may count up, too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit

OPEN, BELIEVED, LEFT_OUT, LOST_COUNT, RETURNED = 0, -1, -2, -3, -4
"""How a number is taken: not decided; as it is; the frame is one too many; from here on the camera
has lost its count; it is right, and those before were too high. Above 0: the number (from 1) that
the frame should have."""


MOST = 5
"""Frames behind that are asked: three lies side by side are outvoted by three true numbers."""
_BORNE_OUT = 3  # frames that count on from a number without a gap bear it out, more are not asked


@njit(cache=True, nogil=True)
def needed(
    value: int, last: int, step: int, rest: int, end: int, late: int, behind: NDArray[np.int64]
) -> int:
    """How many of the frames `behind` are to be asked; more than there are: wait for them.

    `value`, `last`, `step`, `late` as of `judged`; `rest` frames of the scan are behind this one by
    its order, and its last frame has the number `end` (0: unknown).
    """
    n = behind.size
    if n == 0:
        return 1
    if behind[0] == last + 1 or behind[0] == last + 2 or behind[0] == last + 2 * step:
        return 1
    most = MOST if value > end > 0 else max(1, min(MOST, rest))
    rise = behind[0] - value
    if 0 < rise <= late:
        same = 1
        while same < min(n, _BORNE_OUT) and behind[same] - behind[same - 1] == rise:
            same += 1
        if same == _BORNE_OUT or value + same * rise == end:
            return min(same, most)
        if same == n:
            return min(n + 1, most)
    return most


@njit(cache=True, nogil=True)
def _chain(behind: NDArray[np.int64], low: int, high: int, slope: int, apart: int) -> int:
    """The longest run of numbers that count up from `low` + k * `slope` to `high`, not `apart`."""
    longest = np.zeros(behind.size, np.int64)
    most = 0
    for k in range(behind.size):
        if not low + k * slope <= behind[k] <= high or behind[k] == apart:
            continue
        longest[k] = 1
        for j in range(k):
            if 0 < longest[j] >= longest[k] and behind[j] < behind[k]:
                longest[k] = longest[j] + 1
        most = max(most, longest[k])
    return int(most)


@njit(cache=True, nogil=True)
def counts_on(value: int, last: int, behind: NDArray[np.int64]) -> int:
    """Whether the frames `behind` count on from `value` (1) or from `last` (-1); 0: neither does.

    Where both do, those from `last` came last.
    """
    n = behind.size
    if n == 0:
        return 0
    in_order = last + 1 + n
    if n > 1 and behind[n - 1] == in_order and (value > in_order or value <= last):
        return -1
    high = np.iinfo(np.int64).max
    for_order = _chain(behind, last + 2, high, 1, last)
    if value > last:
        for_number = 1 + _chain(behind, value, high, 1, value)  # one of them may be a late one
    else:
        for_number = 1 + _chain(behind, value + 1, last, 0, value)
    if for_number > for_order:
        return 1 if for_number > 1 else 0
    return -1 if for_order else 0


@njit(inline="always")
def judged(
    value: int,
    free: bool,
    last: int,
    step: int,
    before: int,
    unsure: bool,
    follower: int,
    on: int,
    repeats: bool,
    late: int,
) -> int:
    """How the doubtful number `value` is taken, if the frame behind has the number `follower`.

    Numbers count from 1. `last` is the highest so far, `step` above the one before it; `before` is
    what it would be without the newest jump up, `unsure`: no frames have borne that out yet.
    `free`: no frame of the scan has had `value` yet.
    `on`: what `counts_on` says of the frames behind.
    `repeats`: the frame behind has the bytes of this one, or of the one that had its number. Frames
    that are up to `late` numbers too early or too late may have changed places.
    """
    if repeats and follower <= max(value, last):
        return BELIEVED
    due = last + (step if follower - last == 2 * step else 1)
    if value > last:
        if follower == last + 1:
            return BELIEVED if value - last - 1 <= late else LEFT_OUT
        if on > 0:
            return BELIEVED
        if follower > last + 1 or on < 0:
            return int(due)
        return BELIEVED if value - last - 1 <= late else int(due)
    if follower > last + 1:  # a number of a few frames before: only where one fits in between
        fits = value < last - late or follower == 2 * due - last or (on < 0 and value < last)
        return int(due) if fits else BELIEVED
    if follower == last + 1:
        return BELIEVED if free else LEFT_OUT
    if on < 0:
        return int(due)
    if free and value > before:
        return RETURNED
    if unsure and before < follower <= min(last, before + late):
        return BELIEVED  # no count was lost: the jump up was none
    if value < last - late or value < follower <= value + late:
        return LOST_COUNT
    return BELIEVED
