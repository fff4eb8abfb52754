"""Frames of several links put into the order of their numbers.

Pure: no socket, thread or clock; who calls says up to which number nothing more will come.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.frames.linked.kernels import copy_frames
from stemd.blocks import BlockPool, FrameBlock

Numbers = NDArray[np.int64]


class InOrder:
    """Holds blocks until what comes before them is here, or will not come.

    A block that has its frames in order is given on as it is; where links have brought frames in
    turn, new blocks are made of copies, in buffers of `pool`.
    """

    def __init__(self, pool: BlockPool) -> None:
        self._pool = pool
        self._held: list[FrameBlock] = []
        self._left: list[Numbers] = []  # of each block, its frames that have not been given on
        self._next = 0

    @property
    def holds(self) -> bool:
        """Whether anything waits."""
        return bool(self._held)

    def add(self, block: FrameBlock) -> None:
        """Take a block over."""
        self._held.append(block)
        self._left.append(np.arange(block.count, dtype=np.int64))

    def ready(self, until: int) -> Iterator[FrameBlock]:
        """Blocks in order, with all frames up to number `until` and those that follow closely."""
        if not self._held:
            return
        pairs = list(zip(self._held, self._left, strict=True))
        numbers = np.concatenate([block.sequence[left] for block, left in pairs])
        owner = np.repeat(np.arange(len(pairs)), [left.size for _, left in pairs])
        frame = np.concatenate(self._left)
        order = np.argsort(numbers, kind="stable")
        count = self._in_line(numbers[order], until)
        if not count:
            return
        order = order[:count]
        self._next = max(self._next, int(numbers[order[-1]]) + 1)
        owner, frame = owner[order], frame[order]
        try:
            for first, stop in self._cuts(owner):
                yield from self._given(owner[first:stop], frame[first:stop])
        finally:
            self._forget(owner, frame)

    def drop(self) -> None:
        """Release all that waits."""
        for block in self._held:
            block.release()
        self._held, self._left, self._next = [], [], 0

    def _in_line(self, numbers: Numbers, until: int) -> int:
        """How many of these sorted numbers nothing can come before."""
        count = int(np.searchsorted(numbers, until, "right"))
        follows = max(self._next, int(numbers[count - 1]) + 1) if count else self._next
        rest = numbers[count:]
        breaks = np.flatnonzero(rest > follows + np.arange(rest.size))
        return count + (int(breaks[0]) if breaks.size else rest.size)

    def _cuts(self, owner: Numbers) -> Iterator[tuple[int, int]]:
        """Pieces of what is in line: all reduced, or none, and no larger than a buffer."""
        block = self._held[0]
        size = block.wire.size // block.count
        most = self._pool.configure(size, block.stride if _unpacked(block) else 0)
        reduced = np.array([each.reduced for each in self._held])[owner]
        edges = [0, *(np.flatnonzero(np.diff(reduced)) + 1).tolist(), owner.size]
        for low, high in itertools.pairwise(edges):
            at = low
            while at < high:
                whole = self._held[int(owner[at])].count
                same = owner[at:high] == owner[at]
                alone = same.size if same.all() else int(np.argmin(same))
                stop = at + whole if alone == whole else min(high, at + most)
                yield at, stop
                at = stop

    def _given(self, owner: Numbers, frame: Numbers) -> Iterator[FrameBlock]:
        first = self._held[int(owner[0])]
        if owner.size == first.count and (owner == owner[0]).all() and (np.diff(frame) == 1).all():
            first.retain()
            yield first
            return
        buffer = self._pool.take()
        size, unpacked = first.wire.size // first.count, _unpacked(first)
        for which in np.unique(owner).tolist():
            slots = np.flatnonzero(owner == which)
            block, frames = self._held[which], frame[slots]
            copy_frames(block.wire, size, frames, buffer.bytes, slots)
            if unpacked:
                copy_frames(block.pixels, block.stride, frames, buffer.unpacked, slots)
            buffer.sequence[slots] = block.sequence[frames]
            buffer.probe[slots] = block.probe[frames]
        n = owner.size
        wire = buffer.bytes[: n * size]
        yield replace(
            first,
            pixels=buffer.unpacked[: n * first.stride] if unpacked else wire,
            count=n,
            sequence=buffer.sequence[:n],
            probe=buffer.probe[:n],
            wire=wire,
            buffer=buffer,
        )

    def _forget(self, owner: Numbers, frame: Numbers) -> None:
        held, lefts = [], []
        for which, (block, left) in enumerate(zip(self._held, self._left, strict=True)):
            left = np.setdiff1d(left, frame[owner == which], assume_unique=True)
            if left.size:
                held.append(block)
                lefts.append(left)
            else:
                block.release()
        self._held, self._left = held, lefts


def _unpacked(block: FrameBlock) -> bool:
    """Whether its pixels are not its bytes."""
    return block.pixels.ctypes.data != block.wire.ctypes.data
