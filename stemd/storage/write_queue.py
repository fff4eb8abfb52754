"""Blocks on their way to the disk: in order, and never more bytes of them than agreed."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stemd.blocks import Block, ImageBlock

_THIN = 2
"""A block whose buffer is so many times as large as its bytes does not keep that buffer waiting."""


class StopFlag(Protocol):
    """What says that the pipeline is to end, e.g. a threading.Event."""

    def is_set(self) -> bool:
        """True when waiting is over."""
        ...


class Waiting(Protocol):
    """Bytes that wait to be written."""

    @property
    def wire(self) -> NDArray[np.uint8]:
        """As they came from the camera."""
        ...

    def release(self, *, wire_only: bool = False) -> None:
        """They are written, or will not be."""
        ...


@dataclass(frozen=True, slots=True)
class _Copy:
    """The bytes of a block, without the block."""

    wire: NDArray[np.uint8]

    def release(self, *, wire_only: bool = False) -> None:
        """Nothing is recycled."""


class WriteQueue:
    """Between one thread that `put`s, one that writes, and one that follows what was written."""

    def __init__(self, most_bytes: int) -> None:
        self.written_bytes = self.refused = self.waits = 0
        """Bytes written; blocks that were not taken or not written; how often `put` waited."""
        self._most_bytes = most_bytes
        self._blocks: deque[Waiting] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()
        self._progress = time.monotonic()

    def __len__(self) -> int:
        """Blocks waiting."""
        return len(self._blocks)

    @property
    def stalled_s(self) -> float:
        """Seconds for which blocks have been waiting and none was written."""
        return time.monotonic() - self._progress if self._blocks else 0.0

    def put(self, block: Block | ImageBlock, stop: StopFlag) -> bool:
        """Retain a block until it is written; waits while the queue is full.

        False, and counted as refused, when the queue is closed, or still full at `stop`.
        """
        size = block.wire.nbytes
        with self._changed:
            waited = False
            while self._is_full(size) and not self._closed and not stop.is_set():
                self.waits += not waited
                waited = True
                self._changed.wait(0.1)
            if self._closed or self._is_full(size):
                self.refused += 1
                return False
            if not self._blocks:
                self._progress = time.monotonic()
            self._blocks.append(self._to_keep(block))
            self._bytes += size
            self._changed.notify_all()
        return True

    def _is_full(self, size: int) -> bool:
        return bool(self._blocks) and self._bytes + size > self._most_bytes

    def _to_keep(self, block: Block | ImageBlock) -> Waiting:
        """The block; where others wait, of one that is large for what came in it, a copy.

        What came slowly, or compressed further than most, would else keep the camera's whole pool:
        the disk would hold the camera up long before the queue is full.
        """
        buffer = None if isinstance(block, ImageBlock) else block.buffer
        memory = buffer.bytes.nbytes if buffer is not None else 0
        if self._blocks and memory >= _THIN * block.wire.nbytes:
            return _Copy(block.wire.copy())
        block.retain(wire_only=True)
        return block

    def next(self) -> Waiting | None:
        """The next block to write, left in the queue; None when it is closed and empty."""
        with self._changed:
            while not self._blocks and not self._closed:
                self._changed.wait()
            return self._blocks[0] if self._blocks else None

    def done(self, *, written: bool) -> int:
        """Take the first block off and count it, in one step: who follows must miss nothing.

        Returns its bytes.
        """
        with self._changed:
            block = self._blocks.popleft()
            size = block.wire.nbytes
            self._progress = time.monotonic()
            self._bytes -= size
            self.written_bytes += size if written else 0
            self.refused += not written
            self._changed.notify_all()
        block.release(wire_only=True)
        return size

    def close(self) -> None:
        """Take no more blocks; those that wait are still to be written."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def drop(self) -> None:
        """Close, and give back the blocks that are not written any more."""
        with self._changed:
            self._closed = True
            abandoned, self._blocks = self._blocks, deque()
            self._bytes = 0
            self.refused += len(abandoned)
            self._changed.notify_all()
        for block in abandoned:
            block.release(wire_only=True)

    def written_after(self, offset: int, chunk: int) -> int:
        """Bytes written from `offset` on, `chunk` at most: whole chunks while more may come.

        Waits for them; 0 when all is written.
        """
        with self._changed:
            while True:
                more = self.written_bytes - offset
                over = self._closed and not self._blocks
                if over or more >= chunk:
                    return min(more, chunk)
                self._changed.wait()
