"""Which positions an engine beside a scan has taken in, and which it had no room for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.blocks import Block, EventBlock


class PositionsTaken:
    """Of `positions` probe positions. The reader writes `left_out`, one other thread `taken`."""

    def __init__(self, positions: int) -> None:
        self.taken: NDArray[np.bool_] = np.zeros(positions, np.bool_)
        """(positions,): complete."""
        self.left_out: NDArray[np.bool_] = np.zeros(positions, np.bool_)
        """(positions,): a pattern or some hits of it are missing."""

    def take(self, block: Block) -> None:
        """A block has been taken in: mark what it completes."""
        if isinstance(block, EventBlock):
            _mark_complete(self.taken, block)
        else:
            _mark_seen(self.taken, block)

    def leave_out(self, block: Block) -> None:
        """A block is left out: mark everything that it brings something of."""
        _mark_seen(self.left_out, block)
        if isinstance(block, EventBlock):
            _mark_complete(self.left_out, block)

    @property
    def lost(self) -> int:
        """Number of positions that are not whole."""
        return int(np.count_nonzero(self.left_out))

    def complete_lines(self, done: NDArray[np.bool_], shape: tuple[int, int]) -> int:
        """Lines from the scan's beginning with nothing outstanding; `done` (positions,): seen."""
        settled = (done & (self.taken | self.left_out)).reshape(shape).all(axis=1)
        return int(settled.size if settled.all() else np.argmin(settled))


def _mark_seen(positions: NDArray[np.bool_], block: Block) -> None:
    probe = block.probe[: block.count]
    positions[probe[probe >= 0]] = True


def _mark_complete(positions: NDArray[np.bool_], block: EventBlock) -> None:
    for first, stop in block.complete:
        positions[first:stop] = True
