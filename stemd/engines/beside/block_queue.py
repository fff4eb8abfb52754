"""Blocks that wait for an engine which takes longer than the reader may."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from stemd.blocks import Block, EventBlock
from stemd.engines.first_patterns import copied

QUEUE_BYTES = 12 * 1024 * 1024
"""Together with what the recorder holds well below a camera's block pool, so that the reader
always finds a free block."""
COPIED_BYTES = 256 * 1024 * 1024
"""Beyond: half a second of 256 x 256 patterns of 16 bits, 4,000 a second. Takes no memory until
it is needed."""


_HIT_BYTES = 12


def _memory(block: Block) -> int:
    """Bytes that a block keeps from its camera's pool, or its copy takes.

    Packed and compressed patterns are far larger in memory than what came of them.
    """
    unpacked = block.count * (_HIT_BYTES if isinstance(block, EventBlock) else block.stride)
    return max(block.wire.nbytes, unpacked)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A block, how many bytes of memory it has, and whether they are a copy."""

    block: Block
    size: int
    copy: bool


class BlockQueue:
    """A bounded queue between the reader's thread and one other.

    `offer` never waits. Blocks beyond `most_bytes` are copied, so that the camera has its memory
    back: a thread that is late, or prepares something, loses nothing. A block that does not find
    room among `copied_bytes` either is refused, and it is for the caller to say so. A single block
    may be larger than the queue.
    """

    def __init__(self, most_bytes: int = QUEUE_BYTES, copied_bytes: int = COPIED_BYTES) -> None:
        self._most, self._most_copied = most_bytes, copied_bytes
        self._blocks: deque[_Waiting] = deque()
        self._bytes = {False: 0, True: 0}
        self._closed = False
        self._changed = threading.Condition()

    def offer(self, block: Block) -> bool:
        """Retain or copy the block for `take`; False if there is no room or the queue is closed.

        By one thread.
        """
        size = _memory(block)
        copy = self._room(size)
        if copy is None:
            return False
        if copy:
            block = copied(block)  # not under the lock: the other thread goes on meanwhile
        else:
            block.retain()
        with self._changed:
            if not self._closed:
                self._blocks.append(_Waiting(block, size, copy))
                self._bytes[copy] += size
                self._changed.notify()
                return True
        block.release()
        return False

    def _room(self, size: int) -> bool | None:
        """Whether a block must be copied; None where it is refused."""
        with self._changed:
            copy = bool(self._blocks) and self._bytes[False] + size > self._most
            if self._closed or (copy and self._bytes[True] + size > self._most_copied):
                return None
            return copy

    def take(self) -> Block | None:
        """The oldest block, which the caller releases; waits for one. None when it is over."""
        with self._changed:
            while not self._blocks:
                if self._closed:
                    return None
                self._changed.wait()
            return self._blocks[0].block

    def done(self) -> None:
        """The block taken last has been worked on: its room is free, the block is released."""
        with self._changed:
            first = self._blocks.popleft()
            self._bytes[first.copy] -= first.size
        first.block.release()

    def close(self) -> None:
        """Refuse further blocks; those that wait can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Release all blocks that wait, and take no more. Called by the taking thread."""
        self.close()
        with self._changed:
            waiting, self._blocks = self._blocks, deque()
            self._bytes = {False: 0, True: 0}
        for each in waiting:
            each.block.release()
