"""Blocks that wait for an engine which takes longer than the reader may."""

from __future__ import annotations

import threading
from collections import deque

from stemd.blocks import Block

QUEUE_BYTES = 12 * 1024 * 1024
"""Together with what the recorder holds well below a camera's block pool, so that the reader
always finds a free block."""


class BlockQueue:
    """A bounded queue between the reader's thread and one other.

    `offer` never waits: a block that finds no room is refused, and it is for the caller to say
    so. A single block may be larger than the queue.
    """

    def __init__(self, most_bytes: int = QUEUE_BYTES) -> None:
        self._most = most_bytes
        self._blocks: deque[Block] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def offer(self, block: Block) -> bool:
        """Retain the block for `take`; False if there is no room or the queue is closed."""
        size = block.wire.nbytes
        with self._changed:
            if self._closed or (self._blocks and self._bytes + size > self._most):
                return False
            block.retain()
            self._blocks.append(block)
            self._bytes += size
            self._changed.notify()
        return True

    def take(self) -> Block | None:
        """The oldest block, which the caller releases; waits for one. None when it is over."""
        with self._changed:
            while not self._blocks:
                if self._closed:
                    return None
                self._changed.wait()
            return self._blocks[0]

    def done(self) -> None:
        """The block taken last has been worked on: its room is free, the block is released."""
        with self._changed:
            block = self._blocks.popleft()
            self._bytes -= block.wire.nbytes
        block.release()

    def close(self) -> None:
        """Refuse further blocks; those that wait can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Release all blocks that wait, and take no more. Called by the taking thread."""
        self.close()
        with self._changed:
            blocks, self._blocks, self._bytes = self._blocks, deque(), 0
        for block in blocks:
            block.release()
