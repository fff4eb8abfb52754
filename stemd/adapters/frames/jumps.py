"""Numbers of a file that lie or jump back in mid scan, judged as those of a live scan are.

What `placing.place_live` placed, a file of its frames places: see `doubt`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.frames import doubt, placing
from stemd.adapters.frames.told import jumped_back
from stemd.blocks import Notice

Numbers = NDArray[np.int64]
Same = Callable[[int, int], bool]
LATE = 8
"""A number so far behind the last one, or less, is that of a late or repeated frame."""


def never(one: int, other: int) -> bool:
    """Of numbers without frames."""
    return False


@dataclass(slots=True)
class Judged:
    """Numbers (from 1, 0: no header) as they are taken, and what is told of the jumps back.

    `lies`: frames whose own numbers lie. `again`: frames come again, and nothing begins again: all
    numbers are as they should be.
    """

    numbers: Numbers
    lies: list[int] = field(default_factory=list)
    told: list[Notice] = field(default_factory=list)
    again: bool = False


def judge(numbers: Numbers, same: Same) -> Judged:
    """Take the numbers in turn until they begin again; `same`: two frames have the same bytes."""
    found = Judged(numbers.copy())
    with_header = np.flatnonzero(numbers > 0)
    rises = np.diff(numbers[with_header])
    good = (rises > 0) & (rises <= LATE)
    if not good.any():
        return found
    start = _start(numbers[with_header], good)
    _Taking(found, numbers, _compact(with_header[start:]), same).all()
    return found


def _compact(values: Numbers) -> Sequence[int]:
    """Integers that are read one by one, in an eighth of a list's memory."""
    return array("q", np.asarray(values, np.int64).tobytes())


class _FirstFrames:
    """The first frame that had a number; of each frame of a file one, in 8 bytes."""

    def __init__(self, frames: int) -> None:
        self._near = array("q", [-1]) * (2 * frames)
        self._far: dict[int, int] = {}

    def add(self, number: int, frame: int) -> None:
        """A frame has this number, from 0 on."""
        if number >= len(self._near):
            self._far.setdefault(number, frame)
        elif self._near[number] < 0:
            self._near[number] = frame

    def get(self, number: int) -> int | None:
        """The first frame of a number, None where none had it."""
        if not 0 <= number < len(self._near):
            return self._far.get(number)
        found = self._near[number]
        return None if found < 0 else found


def _start(numbers: Numbers, good: NDArray[np.bool_]) -> int:
    """The first of the numbers that the one behind, and more than not of the next, count on from.

    `good`: the number behind is a little higher.
    """
    for k in np.flatnonzero(good):
        behind = numbers[k + 1 : k + 1 + doubt.MOST]
        if doubt.counts_on(int(numbers[k]), 0, behind) > 0:
            return int(k)
    return int(np.argmax(good))


class _Taking:
    """The pass through the frames `order`, of which the first is believed."""

    def __init__(self, found: Judged, numbers: Numbers, order: Sequence[int], same: Same) -> None:
        self._found, self._order, self._same = found, order, same
        self._raw = _compact(numbers)
        first = self._raw[order[0]]
        self._last, self._step, self._offset = first, 1, 0
        self._before, self._since = 0, placing.BEAR_OUT
        self._returned = False
        self._had = _FirstFrames(numbers.size)
        self._had.add(first, order[0])
        self._lowest = first

    def all(self) -> None:
        """Take them."""
        order, raw, had, out = self._order, self._raw, self._had, self._found.numbers
        for k in range(1, len(order)):
            at = order[k]
            number = raw[at] + self._offset
            if number != self._last + 1:
                low = raw[at] <= 1 + LATE and raw[at] < self._last - LATE
                if low and not self._returns(k, number):
                    self._found.again = False
                    return
                number = self._taken(k, self._plain(raw[at]))
                if number < self._lowest:
                    self._found.again = False
                    return
            out[at] = number
            had.add(number, at)
            if number > self._last or self._returned:
                self._since += 1
                if number > self._last + self._step and self._since > placing.BEAR_OUT:
                    self._before, self._since = self._last, 0
                self._before += 1
                self._step = max(1, min(number - self._last, LATE))
                self._last, self._returned = number, False

    def _plain(self, raw: int) -> int:
        """The number without the offset, which ends where it then is nearer to what is due."""
        due = self._last + 1
        if (
            self._offset
            and abs(raw - due) <= LATE
            and abs(raw - due) < abs(raw + self._offset - due)
        ):
            self._offset = 0
        return raw + self._offset

    def _behind(self, k: int) -> Numbers:
        """The numbers of the next frames behind frame `order[k]`."""
        found: list[int] = []
        for at in self._order[k + 1 : k + 1 + doubt.MOST]:
            raw, due = self._raw[at], self._last + 2 + len(found)
            number = raw + self._offset
            plain = abs(raw - due) <= LATE and abs(raw - due) < abs(number - due)
            found.append(raw if plain else number)
        return np.array(found, np.int64)

    def _returns(self, k: int, number: int) -> bool:
        """Whether the frames behind frame `order[k]`, of a low number, count on from before it."""
        return bool(doubt.counts_on(number, self._last, self._behind(k)) < 0)

    def _taken(self, k: int, number: int) -> int:
        """The number that counts, of frame `order[k]`."""
        at, last, had = self._order[k], self._last, self._had
        one = had.get(number)
        again = one is not None and self._same(one, at)
        self._found.again |= again
        if number > last:
            doubtful = number - last > self._step
        else:
            doubtful = number < last - LATE if one is None else not again
        if not doubtful:
            return number
        asked = self._behind(k)
        asked = asked[: doubt.needed(number, last, self._step, len(self._order), 0, LATE, asked)]
        if not asked.size:
            verdict = doubt.BELIEVED
            if number < last - LATE and one is not None:
                verdict = doubt.LOST_COUNT
        else:
            follower, behind = int(asked[0]), self._order[k + 1]
            on = doubt.counts_on(number, last, asked)
            other = had.get(follower)
            repeats = (follower == number and self._same(at, behind)) or (
                other is not None and self._same(other, behind)
            )
            free, step, before = one is None, self._step, self._before
            unsure = self._since <= placing.BEAR_OUT
            verdict = doubt.judged(
                number, free, last, step, before, unsure, follower, on, repeats, LATE
            )
        if verdict == doubt.LOST_COUNT:
            kind, text, count, remedy = jumped_back(last - 1, number - 1)
            self._found.told.append(Notice(kind, text, count=count, remedy=remedy))
            self._offset += last + 1 - number
            return int(last) + 1
        self._returned = verdict == doubt.RETURNED
        if verdict in (doubt.BELIEVED, doubt.RETURNED):
            return number
        self._found.lies.append(at)
        return last if verdict == doubt.LEFT_OUT else int(verdict)
