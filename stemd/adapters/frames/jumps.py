"""Numbers of a file that jump back in mid scan: of frames that come again, or of others?

The live decoder decides likewise, see `placing.place_live`: what it placed, a file of its frames
places.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.frames.told import jumped_back
from stemd.blocks import Notice

Numbers = NDArray[np.int64]
Same = Callable[[int, int], bool]
LATE = 8
"""A number so far behind the last one, or less, is that of a late or repeated frame."""


def never(one: int, other: int) -> bool:
    """Of numbers without frames."""
    return False


def continued(numbers: Numbers, same: Same) -> tuple[Numbers, list[Notice], bool]:
    """Numbers (from 1, 0: no header) that go on where they jump back, and what is told of it.

    The third is True where frames come again: then all numbers are as they should be.
    They do where the frames count up before and behind, and the first behind is not the `same` as
    the one that had its number before. Numbers that begin again from 1 are another thing.
    """
    told: list[Notice] = []
    again = False
    for at in _jumps(numbers):
        before = numbers[:at]
        had = np.flatnonzero(before == numbers[at])
        last = int(before.max())
        if not had.size:
            continue
        if same(int(had[-1]), at):
            again = True
            continue
        kind, text, count, remedy = jumped_back(last - 1, int(numbers[at]) - 1)
        told.append(Notice(kind, text, count=count, remedy=remedy))
        numbers = np.concatenate([before, _going_on(numbers[at:], last)])
    return numbers, told, again


def _going_on(behind: Numbers, last: int) -> Numbers:
    """Numbers behind a jump that go on from `last`, until they are as they should be again."""
    on = np.where(behind > 0, behind + last + 1 - int(behind[0]), 0)
    expected = np.concatenate([[last], np.maximum.accumulate(on)[:-1]]) + 1
    found = (behind > 0) & (on != expected) & (np.abs(behind - expected) <= LATE)
    stop = int(np.argmax(found)) if found.any() else behind.size
    return np.concatenate([on[:stop], behind[stop:]])


def _jumps(numbers: Numbers) -> list[int]:
    """Frames at which numbers that count up jump back, and count up again."""
    steps = np.diff(numbers)
    if steps.size < 3:
        return []
    back = np.flatnonzero(steps[1:-1] < -LATE) + 2
    rises = (steps > 0) & (steps <= LATE)  # a few frames may be lost
    good = rises[back - 2] & rises[back] & (numbers[back] > 1 + LATE)
    return [int(at) for at in back[good]]
