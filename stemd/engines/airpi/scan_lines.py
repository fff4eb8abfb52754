"""The few scan lines of binned patterns that a method of neighbouring positions needs.

A line is made as soon as all lines that its groups reach into are known to be over, and lines
that no other needs are let go, so that memory does not grow with the scan. Of a part of a scan
the lines at its rim are kept: they are made when the parts are merged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

I32 = NDArray[np.int32]
Bool = NDArray[np.bool_]
NO_ROOM, TOO_LATE = -1, -2
"""In the place of a line's slot."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How many lines before and after its own a line's groups reach."""

    before: int
    after: int

    @property
    def lines(self) -> int:
        """Lines that one line needs, its own included."""
        return self.before + 1 + self.after


class ScanLines:
    """Binned patterns of some lines of a scan of `shape` (ny, nx), `pixels` numbers each.

    Memory for `held` lines is allocated here; what was never used takes none, and what was is used
    again first. With `grows` more is allocated when it does not
    suffice, as for the rims of parts; else a line that finds no room is refused. Patterns must
    come in the order of the lines; `begins` says that they are the scan's first ones, so that
    what is missing before the first one is missing for good. Not locked: see the engine.
    """

    def __init__(
        self, shape: tuple[int, int], pixels: int, held: int, *, grows: bool, begins: bool = True
    ) -> None:
        ny, nx = shape
        self.shape = shape
        self.begins = begins
        self.grows = grows
        self.counts: I32 = np.zeros((held, nx, pixels), np.int32)
        """The patterns of the lines that are held, in SHARES of a count."""
        self.done: Bool = np.zeros((held, nx), np.bool_)
        """Which of them are there."""
        self.made: Bool = np.zeros(ny, np.bool_)
        """Lines that need not be made any more."""
        self._gone = np.zeros(pixels, np.int64)
        """Sum of the patterns whose memory was freed."""
        self._slot: NDArray[np.int64] = np.full(ny, -1, np.int64)
        self._refused: Bool = np.zeros(ny, np.bool_)
        self._free = list(range(held - 1, -1, -1))
        self.low, self.high = ny, -1
        """First and last line of which a position is done."""
        self.over = False
        """Whether nothing more will come."""

    @property
    def held(self) -> int:
        """Lines for which there is memory."""
        return int(self.counts.shape[0])

    def summed(self) -> NDArray[np.int64]:
        """The sum of all patterns, (pixels,), in SHARES of a count."""
        held = self._slot[self._slot >= 0]
        return np.asarray(self._gone + self.counts[held].sum(axis=(0, 1), dtype=np.int64))

    @property
    def used(self) -> int:
        """Lines that are held now."""
        return self.held - len(self._free)

    def slot(self, line: int) -> int:
        """Which of the held lines this one is; -1 if none."""
        return int(self._slot[line])

    def open(self, line: int, reach: Reach) -> int:
        """The slot of a line that gets patterns, or NO_ROOM, or TOO_LATE when it was made."""
        slot = self.slot(line)
        if slot >= 0:
            return slot
        if not self._is_needed(line, reach):
            return TOO_LATE
        if self._refused[line]:
            return NO_ROOM  # as a whole: a line of which hits are missing would show it
        if not self._free:
            if not self.grows:
                self._refused[line] = True
                return NO_ROOM
            more = max(1, self.held // 2)
            self._free = list(range(self.held + more - 1, self.held - 1, -1))
            self.counts = np.concatenate([self.counts, np.zeros_like(self.counts[:more])])
            self.done = np.concatenate([self.done, np.zeros_like(self.done[:more])])
        slot = self._free.pop()
        self.counts[slot] = 0
        self.done[slot] = False
        self._slot[line] = slot
        return slot

    def touch(self, line: int) -> None:
        """A position of this line is done: earlier lines get no more patterns."""
        self.low, self.high = min(self.low, line), max(self.high, line)

    def ready(self, reach: Reach) -> range:
        """Lines, made or not, whose groups have all that there will be."""
        ny = self.shape[0]
        if self.over:
            return range(ny)
        if self.high < 0:
            return range(0)
        first = 0 if self.begins or self.low == 0 else self.low + (not self._full(self.low))
        last = self.high - (not self._full(self.high))
        return range(
            0 if first == 0 else first + reach.before,
            ny if last == ny - 1 else last - reach.after + 1,
        )

    def waiting(self, reach: Reach) -> int | None:
        """The first line that is ready and has not been made, if there is one."""
        ready = self.ready(reach)
        left = np.flatnonzero(~self.made[ready.start : max(ready.start, ready.stop)])
        return ready.start + int(left[0]) if left.size else None

    def let_go(self, reach: Reach) -> None:
        """Free the memory of lines that no line which is still to be made needs."""
        held = np.flatnonzero(self._slot >= 0)
        to_make = np.concatenate([[0], np.cumsum(~self.made)])
        last = np.minimum(self.shape[0] - 1, held + reach.before)
        needed = to_make[last + 1] > to_make[np.maximum(0, held - reach.after)]
        for line in held[~needed]:
            slot = int(self._slot[line])
            self._gone += self.counts[slot].sum(axis=0, dtype=np.int64)
            self._free.append(slot)
            self._slot[line] = -1

    def slots(self, first: int, count: int) -> NDArray[np.int64]:
        """Slots of lines first..first+count-1, those outside of the scan being its border's."""
        lines = np.clip(np.arange(first, first + count), 0, self.shape[0] - 1)
        return self._slot[lines]

    def merge(self, other: ScanLines, reach: Reach) -> int:
        """Take over the lines of a later part of the same scan; patterns of a line are added.

        Returns how many patterns came too late for their line.
        """
        late = 0
        self.made |= other.made
        self._gone += other._gone
        for line in np.flatnonzero(other._slot >= 0):
            slot, theirs = self.open(int(line), reach), other.slot(int(line))
            if slot < 0:
                late += int(other.done[theirs].sum())
                continue
            self.counts[slot] += other.counts[theirs]
            self.done[slot] |= other.done[theirs]
        if self.high < 0:
            self.begins = other.begins
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        return late

    def gathered(self) -> Mapping[str, NDArray[np.generic]]:
        """Patterns and state of all held lines, as arrays of numbers."""
        lines = np.flatnonzero(self._slot >= 0)
        kept = self._slot[lines]
        return {
            "lines": lines,
            "patterns": self.counts[kept],
            "done": self.done[kept],
            "made": self.made.copy(),
            "gone": self._gone.copy(),
            "span": np.array([self.low, self.high, self.begins], np.int64),
        }

    def restore(self, gathered: Mapping[str, NDArray[np.generic]], reach: Reach) -> None:
        """Take over what `gathered` of other lines has given."""
        for index, line in enumerate(gathered["lines"]):
            slot = self.open(int(line), reach)
            self.counts[slot] = gathered["patterns"][index]
            self.done[slot] = gathered["done"][index]
        self.made[:] = gathered["made"]
        self._gone[:] = gathered["gone"]
        self.low, self.high = int(gathered["span"][0]), int(gathered["span"][1])
        self.begins = bool(gathered["span"][2])

    def _full(self, line: int) -> bool:
        slot = self.slot(line)
        # a line without memory was full when its memory was freed, or was refused as a whole
        return bool(self.done[slot].all()) if slot >= 0 else bool(self.made[line])

    def _is_needed(self, line: int, reach: Reach) -> bool:
        first, last = max(0, line - reach.after), min(self.shape[0] - 1, line + reach.before)
        return not self.made[first : last + 1].all()
