"""Sequence numbers of a file that do not run as they should: what can be placed is placed.

Files are joined, cameras begin to count again, single numbers lie. Order in the file and number
are two witnesses: a number that counts up with the others is believed, and the order where the
numbers contradict themselves.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.frames.jumps import LATE, Judged, Same, judge, never
from stemd.adapters.frames.numbers import Ends
from stemd.blocks import Notice

Numbers = NDArray[np.int64]
MOST_LIES = 0.1
"""Part of all frames whose numbers may lie, the others being believed."""


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
        """Of one scan, from the frames that have a number."""
        known = self.numbers[self.numbers > 0]
        if not known.size:
            return Ends(1, self.numbers.size, self.numbers.size)
        return Ends(int(known[0]), max(int(known[0]), int(known.max())), self.numbers.size)

    def part(self, scan: int) -> tuple[Numbered, int]:
        """One of the scans (from 1), and the frame of the file at which it begins."""
        begin, stop = [*self.firsts, self.numbers.size][scan - 1 : scan + 1]
        part = replace(self, numbers=self.numbers[begin:stop], firsts=(0,))
        return part, begin


def sort_out(
    numbers: Numbers, frames: int | None, declared: int | None = None, same: Same = never
) -> Numbered:
    """Numbers to place the frames by, from those in their headers.

    `frames` of a scan, `declared` of an acquisition, None where nobody says. `same` says whether
    two frames have the same bytes.
    """
    if numbers.size and not (numbers > 0).any():
        return Numbered(numbers)
    shared = _share_numbers(numbers, frames)
    found = Judged(numbers) if shared else judge(numbers, same)
    if len(found.lies) > max(2, MOST_LIES * numbers.size):
        found = Judged(numbers)  # so many cannot be judged by each other
    told = found.told
    mended, lies = found.numbers, np.array(found.lies, np.int64)
    if not found.again:
        mended, others = _without_lies(found.numbers)
        lies = np.union1d(lies, others)
    told += [_lie(lies, numbers, mended)] if lies.size else []
    if found.again:
        return Numbered(mended, notices=told)
    firsts = _beginnings(mended)
    if len(firsts) == 1 and not shared:
        return Numbered(mended, notices=told)
    lengths = np.diff([*firsts, numbers.size])
    if len(firsts) > 1 and _are_scans(lengths, frames or declared):
        text = (
            f"the numbers begin again {_times(firsts)}, after {_few(lengths[:-1])} frames: "
            f"{len(firsts)} scans are in the file"
        )
        return Numbered(mended, tuple(firsts), notices=[*told, Notice("joined", text, "info")])
    if len(firsts) == 1:
        begun = f"the {numbers.size} frames share {np.unique(mended).size} numbers"
    elif (lengths == 1).all():
        begun = f"all {numbers.size} frames have numbers that do not count up"
    else:
        begun = f"the numbers begin again {_times(firsts)}, after {_few(lengths[:-1])} frames"
    order = np.arange(1, numbers.size + 1, dtype=np.int64)
    placed = _part_by_part(mended, firsts, frames or declared)
    how, remedy = "by their order in the file", "if frames were lost, give the parts one by one"
    if placed is not None:
        order, lost = placed
        how, remedy = f"part by part, by their numbers, and {lost} are missing", ""
    notice = Notice("numbers_begin_again", f"{begun}: the frames are placed {how}", remedy=remedy)
    return Numbered(order, by_order=True, notices=[*told, notice])


def _share_numbers(numbers: Numbers, frames: int | None) -> bool:
    """Whether a number stands for more than two frames each, as where those of a line have one.

    Not so where nearly each of the scan's `frames` has a number: it was written again and again.
    """
    known = numbers[numbers > 0]
    alone = np.unique(known).size
    enough = frames is not None and alone >= (1 - MOST_LIES) * frames
    return 2 * alone < known.size and not enough


def _part_by_part(
    numbers: Numbers, firsts: Sequence[int], frames: int | None
) -> tuple[Numbers, int] | None:
    """Numbers that count on from each part of the file to the next, and how many are left out.

    None where no frame is missing, or where the frames would not fit into a scan then. A part is
    as long as most are, or as its last number says.
    """
    known = numbers > 0
    stops = [*firsts[1:], numbers.size]
    parts = [numbers[a:b][known[a:b]] for a, b in zip(firsts, stops, strict=True)]
    if any(part[0] > 1 + LATE or (np.diff(part) <= 0).any() for part in parts):
        return None
    ends = np.array([int(part[-1]) for part in parts])
    values, counts = np.unique(ends[:-1], return_counts=True)
    usual = int(values[np.argmax(counts)])
    if counts.max() > 1 or (len(parts) == 2 and ends[-1] - LATE <= usual <= ends[-1]):
        short = (ends[:-1] < usual) & (ends[:-1] >= usual - LATE)
        ends[:-1][short] = usual
    total = int(ends.sum())
    if total == numbers.size or total > max(frames or 0, (1 + MOST_LIES) * numbers.size):
        return None
    if frames is not None and total > frames:
        return None
    before = np.repeat(np.cumsum([0, *ends[:-1]]), np.diff([*firsts, numbers.size]))
    return np.where(known, numbers + before, 0), total - int(known.sum())


def _without_lies(numbers: Numbers) -> tuple[Numbers, Numbers]:
    """The numbers with those put right that stand against all others; which these are.

    All that count up are believed. Of the others, those that are only late or repeated stay.
    """
    rising = _rising(numbers)
    mended = numbers.copy()
    others = np.setdiff1d(np.flatnonzero(numbers > 0), rising)
    if not rising.size or others.size > max(2, MOST_LIES * numbers.size):
        return numbers, np.zeros(0, np.int64)
    after = np.searchsorted(rising, others)
    changed: list[int] = []
    for at, index in zip(others.tolist(), after.tolist(), strict=True):
        low = int(rising[index - 1]) if index else None
        high = int(rising[index]) if index < rising.size else None
        expected = _between(numbers, at, low, high)
        ahead = int(numbers[at]) - expected
        if ahead > LATE or ahead < -1 - LATE:  # late is what is so far behind the last one
            mended[at] = expected
            changed.append(at)
    changed += _odd_ends(mended)
    return mended, np.array(sorted(set(changed)), np.int64)


def _between(numbers: Numbers, at: int, low: int | None, high: int | None) -> int:
    """The number of frame `at` by its order, between those of the frames `low` and `high`."""
    if low is not None:
        expected = int(numbers[low]) + at - low
        if high is None or expected < numbers[high]:
            return expected
    if high is not None:
        expected = int(numbers[high]) - (high - at)
        if expected > (0 if low is None else numbers[low]):
            return expected
    return 0 if low is None else int(numbers[low])  # there is no room: it repeats that one


def _rising(numbers: Numbers) -> Numbers:
    """Indices of the longest run of numbers that count up, others between them left out."""
    ends: list[int] = []
    tails: list[int] = []
    before = np.full(numbers.size, -1, np.int64)
    for at, number in enumerate(numbers.tolist()):
        if number <= 0:
            continue
        place = bisect.bisect_left(tails, number)
        if place:
            before[at] = ends[place - 1]
        if place == len(tails):
            tails.append(number)
            ends.append(at)
        else:
            tails[place], ends[place] = number, at
    chain = []
    at = ends[-1] if ends else -1
    while at >= 0:
        chain.append(at)
        at = int(before[at])
    return np.array(chain[::-1], np.int64)


def _odd_ends(numbers: Numbers) -> list[int]:
    """First and last frames whose numbers lie far from all others; they are put right.

    Far is also what lies many times the usual step away: of some files most frames are lost.
    """
    found = []
    if numbers.size >= 4:
        usual = float(np.median(np.abs(np.diff(numbers))))
        for end, inner, step in ((0, 1, -1), (numbers.size - 1, numbers.size - 2, 1)):
            expected = numbers[inner] + step
            far = abs(int(numbers[end] - expected)) > max(LATE, 4 * numbers.size, 16 * usual)
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
        follows = at + 1 >= known.size or 0 < known[at + 1] - known[at] <= LATE
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
