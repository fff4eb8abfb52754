"""Sequence numbers of a file that do not run as they should: what can be placed is placed.

Files are joined, cameras begin to count again, single numbers lie. Order in the file and number
are two witnesses: a number that agrees with those around it is believed, and the order where the
numbers contradict themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.frames.numbers import Ends
from stemd.blocks import Notice

Numbers = NDArray[np.int64]
LONGEST_LIE = 8
"""Frames in a row whose numbers may lie between two that agree."""
MOST_LIES = 0.1
"""Part of all frames whose numbers may lie, the others being believed."""
LATE = 8
"""A number so far behind the last one, or less, is that of a late or repeated frame."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """Numbers (from 1, 0: no header) by which the frames of a file are placed.

    `scans`: how many runs of numbers there are, each from `firsts[k]` (index of a frame) on.
    `by_order`: the numbers are those of the frames' order.
    """

    numbers: Numbers
    firsts: tuple[int, ...] = (0,)
    by_order: bool = False
    notices: Sequence[Notice] = field(default_factory=tuple)

    @property
    def ends(self) -> Ends:
        """Of the first scan, from the frames that have a number."""
        stop = self.firsts[1] if len(self.firsts) > 1 else self.numbers.size
        known = self.numbers[:stop][self.numbers[:stop] > 0]
        if not known.size:
            return Ends(1, self.numbers.size, self.numbers.size)
        return Ends(int(known[0]), max(int(known[0]), int(known.max())), stop)


def sort_out(numbers: Numbers, frames: int | None, declared: int | None = None) -> Numbered:
    """Numbers to place the frames by, from those in their headers.

    `frames` of a scan, `declared` of an acquisition, None where nobody says.
    """
    if numbers.size and not (numbers > 0).any():
        return Numbered(numbers)
    mended, lies = _without_lies(numbers)
    firsts = _beginnings(mended)
    told = [_lie(lies, numbers, mended)] if lies.size else []
    if len(firsts) == 1:
        return Numbered(mended, notices=told)
    lengths = np.diff([*firsts, numbers.size])
    if _are_scans(lengths, frames or declared):
        text = (
            f"the numbers begin again {_times(firsts)}, after {_few(lengths[:-1])} frames: "
            f"{len(firsts)} scans are in the file"
        )
        return Numbered(mended, tuple(firsts), notices=[*told, Notice("joined", text, "info")])
    order = np.arange(1, numbers.size + 1, dtype=np.int64)
    if (lengths == 1).all():
        text = f"all {numbers.size} frames have numbers that do not count up"
    else:
        text = f"the numbers begin again {_times(firsts)}, after {_few(lengths[:-1])} frames"
    notice = Notice(
        "numbers_begin_again",
        f"{text}: the frames are placed by their order in the file",
        remedy="if frames were lost, give the parts of the file one by one",
    )
    return Numbered(order, by_order=True, notices=[notice])


def _without_lies(numbers: Numbers) -> tuple[Numbers, Numbers]:
    """The numbers with those put right that stand alone against all around; which these are.

    A frame's number less its place in the file changes only where frames are missing. Where it is
    the same before and behind a few frames, these frames are where they belong.
    """
    ahead = numbers - np.arange(numbers.size)
    mended = numbers.copy()
    changed: list[int] = []
    steps = np.flatnonzero((np.diff(ahead) != 0) | (numbers[1:] == 0) | (numbers[:-1] == 0)) + 1
    at = 0
    while at < steps.size:
        begin = int(steps[at])
        back = [
            int(end)
            for end in steps[at + 1 :][: LONGEST_LIE + 1]
            if end - begin <= LONGEST_LIE and ahead[end] == ahead[begin - 1] and numbers[end] > 0
        ]
        if back and numbers[begin - 1] > 0:
            expected = ahead[begin - 1] + np.arange(begin, back[0])
            far = np.abs(numbers[begin : back[0]] - expected) > LATE
            lying = [n for n in range(begin, back[0]) if numbers[n] > 0 and far[n - begin]]
            changed += lying
            mended[lying] = ahead[begin - 1] + np.array(lying, np.int64)
            at = int(np.searchsorted(steps, back[0], "right"))
        else:
            at += 1
    changed += _odd_ends(mended)
    if len(changed) > max(2, MOST_LIES * numbers.size):
        return numbers, np.zeros(0, np.int64)
    return mended, np.array(sorted(set(changed)), np.int64)


def _odd_ends(numbers: Numbers) -> list[int]:
    """First and last frames whose numbers lie far from all others; they are put right."""
    found = []
    if numbers.size >= 4:
        for end, inner, step in ((0, 1, -1), (numbers.size - 1, numbers.size - 2, 1)):
            expected = numbers[inner] + step
            far = abs(int(numbers[end] - expected)) > max(LATE, 4 * numbers.size)
            if far and numbers[end] > 0 and numbers[inner] > 0 and expected > 0:
                numbers[end] = expected
                found.append(end)
    return found


def _beginnings(numbers: Numbers) -> list[int]:
    """Frames at which the numbers begin again: back by more than late frames are."""
    valid = np.flatnonzero(numbers > 0)
    known = numbers[valid]
    highest = np.maximum.accumulate(known) if known.size else known
    firsts, top = [0], 0
    if known.size and (known == known[0]).all():
        return valid.tolist() or [0]
    drops = np.flatnonzero(known[1:] <= highest[:-1]) + 1
    top = int(known[0])
    start = 0
    for at in drops.tolist():
        top = int(known[start:at].max()) if at > start else 0
        behind = top - int(known[at])
        again = int(known[at]) == 1 and behind > 0
        follows = at + 1 >= known.size or known[at + 1] == known[at] + 1
        if (behind > LATE or again) and follows:
            firsts.append(int(valid[at]))
            start = at
    return firsts


def _are_scans(lengths: NDArray[np.int64], frames: int | None) -> bool:
    """Whether every run of numbers is about one scan, or several, of so many frames."""
    if frames is None or frames < 2:
        return False
    return bool((lengths >= 0.9 * frames).all())


def _lie(lies: Numbers, numbers: Numbers, mended: Numbers) -> Notice:
    first = int(lies[0])
    text = (
        f"{lies.size} frame numbers do not fit those around them (frame {first} of the file says "
        f"{numbers[first]}, {mended[first]} is expected): these frames are placed by their order"
    )
    return Notice("numbers_lie", text, count=int(lies.size))


def _times(firsts: Sequence[int]) -> str:
    return "once" if len(firsts) == 2 else f"{len(firsts) - 1} times"


def _few(lengths: NDArray[np.int64]) -> str:
    different = np.unique(lengths).tolist()
    return ", ".join(map(str, different[:4])) + (", ..." if len(different) > 4 else "")
