"""Where the bytes of an event stream land: pool buffers, each with room for the hits made of it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.events.front import BLOCK_RECORDS
from stemd.blocks import BlockPool, Buffer, Message

OUTPUT_HITS = BLOCK_RECORDS + 64
EVENT_BYTES = 12

Consume = Callable[..., Generator[Message, None, int]]
"""(data, now_ns, buffer, *, output) -> messages; returns the bytes used: `EventDecoder.consume`"""


class Held:
    """A block that is given back at the end of a `with`, unless it was given to somebody else."""

    __slots__ = ("_mine", "buffer")

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer
        self._mine = True

    def given(self) -> None:
        """Whoever gets it next releases it."""
        self._mine = False

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *error: object) -> None:
        if self._mine:
            self.buffer.release()


class Landing:
    """The block that is being received, of records of `record_bytes`."""

    def __init__(self, pool: BlockPool, record_bytes: int) -> None:
        self.block_bytes = BLOCK_RECORDS * record_bytes
        self._pool, self._record_bytes = pool, record_bytes
        self._buffer: Buffer | None = None
        self._fill = 0

    def take(self) -> Buffer:
        """A free buffer, of which the caller is the user. Waits for one."""
        self._pool.configure(self.block_bytes, OUTPUT_HITS * EVENT_BYTES)
        return self._pool.take()

    def wants(self) -> Sequence[memoryview]:
        """The free end of the block."""
        if self._buffer is None:
            self._buffer = self.take()
            self._fill = 0
        return [self._buffer.bytes.data[self._fill : self.block_bytes]]

    def landed(self, count: int) -> bool:
        """`count` bytes have landed; whether the block is full."""
        self._fill += count
        return self._fill == self.block_bytes

    @property
    def whole(self) -> bool:
        """There is at least one record."""
        return self._fill >= self._record_bytes

    def forget(self) -> int:
        """Forget what has landed; returns how many bytes it was."""
        left, self._fill = self._fill, 0
        return left

    def close(self) -> None:
        """Give the block back."""
        buffer, self._buffer, self._fill = self._buffer, None, 0
        if buffer is not None:
            buffer.release()

    def decode(self, consume: Consume, now_ns: int) -> Iterator[Message]:
        """Hand what has landed to `consume`, and keep what it leaves for the next block."""
        size = self._record_bytes
        more = True
        while more:
            buffer, filled = self._buffer, self._fill
            assert buffer is not None
            position = yield from consume(buffer.bytes[:filled], now_ns, buffer)
            step = position
            while step and position % size == 0 and filled - position >= size:
                data: NDArray[np.uint8] = buffer.bytes[position:filled]
                step = yield from consume(data, now_ns, buffer, output=False)
                position += step
            # what is left stands at an odd place (garbage before it) or is cut off: move it
            rest = filled - position
            self._buffer, self._fill = (self.take(), rest) if rest else (None, 0)
            if self._buffer is not None:
                self._buffer.bytes[:rest] = buffer.bytes[position:filled]
            buffer.release()
            more = rest >= size and position > 0
