"""The memory of blocks: aligned, in buffers that go forward full and come back empty.

It is allocated when the size of a frame is first known and recycled from then on. When no buffer is
free the reader waits, which is the back-pressure that reaches the camera through TCP.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 528 * 1024
"""Aim for the bytes of a block: a fraction of the L2 cache, so that it is still there when the
reduction reads it right after the receive."""
POOL_BYTES = 64 * 1024 * 1024
"""Aim for the bytes of all blocks of one camera."""


class PoolClosedError(Exception):
    """The pool was closed while somebody waited for a block: the reader is to end."""


_LINE, _LARGE_PAGE = 64, 2 << 20
_MUCH = 4 << 20
"""Bytes from which on NumPy asks for large pages."""


def aligned(size: int) -> NDArray[np.uint8]:
    """Memory that begins with a line of the caches, with anything in it.

    What is read 64 bytes at a time lies in one line each, and not in two. Much memory begins with a
    large page, which NumPy asks Linux for: where a quarter of a block was in small ones, whose
    addresses are looked up far more often, patterns of 128 KiB took 6.2 us instead of 5.4.
    """
    start = _LINE if size < _MUCH else _LARGE_PAGE
    room = np.empty(size + start - 1, np.uint8)
    first = -room.ctypes.data % start
    return room[first : first + size]


_NO_BYTES: NDArray[np.uint8] = np.zeros(0, np.uint8)


class Buffer:
    """One recycled piece of memory with a count of who still reads it.

    `bytes` is as it came from the camera; `unpacked`, where the format is packed, is larger and
    goes back to the pool as soon as nobody reads more than `bytes`.
    """

    __slots__ = (
        "_lock", "_owner", "_readers", "_users", "bytes", "probe", "sequence", "taken", "unpacked",
    )  # fmt: skip

    def __init__(self, owner: BlockPool | None, size: int, frames: int, unpacked: int) -> None:
        # recycled memory is never read before it is written, and zeros would cost 25 ms a pool
        self.bytes: NDArray[np.uint8] = aligned(size)
        self.unpacked: NDArray[np.uint8] = aligned(unpacked)
        self.sequence: NDArray[np.int64] = np.zeros(frames, np.int64)
        self.probe: NDArray[np.int64] = np.zeros(frames, np.int64)
        self.taken: float | None = None
        """When it was taken from its pool (monotonic seconds), None while it is free."""
        self._owner = owner
        self._users = self._readers = 0  # all, and those of `unpacked`
        self._lock = threading.Lock()

    def retain(self, *, wire_only: bool = False) -> None:
        """One more reader; `wire_only`: of `bytes` alone."""
        with self._lock:
            self._users += 1
            self._readers += not wire_only

    def release(self, *, wire_only: bool = False) -> None:
        """One reader less, of what it was retained for; the last one gives the memory back.

        It stays a reader of `bytes` until `unpacked` is back: nobody can take the buffer before.
        """
        if not wire_only:
            with self._lock:
                self._readers -= 1
                unread = self._readers == 0
            if unread and self._owner is not None:
                self._owner.give_back_unpacked(self)
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last and self._owner is not None:
            self._owner.give_back(self)


class BlockPool:
    """The buffers of one camera. `configure` sizes them, `take` waits for a free one.

    Of packed formats half of the memory is for unpacked frames, which few blocks have at a time:
    a record that waits for its disk holds none of it, and what is unpacked next lands where it is
    still in cache.

    `configure` is called by the reader only, when the size of a frame changes; buffers of the
    old size that are still being read die with their last reader.
    """

    def __init__(self, total_bytes: int = POOL_BYTES, block_bytes: int = BLOCK_BYTES) -> None:
        self.total_bytes = total_bytes
        self.block_bytes = block_bytes
        self.frames = 0
        self.frame_bytes = 0
        self.buffers = 0
        self._size = (0, 0)
        self._free: deque[Buffer] = deque()
        self._free_unpacked: list[NDArray[np.uint8]] = []
        self._all: Sequence[Buffer] = ()
        self._condition = threading.Condition()
        self._closed = False

    def configure(
        self, frame_bytes: int, unpacked_frame_bytes: int = 0, block_bytes: int = 0
    ) -> int:
        """Allocate buffers for frames of this many wire bytes; returns frames a buffer holds.

        `unpacked_frame_bytes` is the size of one decoded frame where the wire format is packed.
        `block_bytes`: aim for blocks larger than the pool's.
        """
        if self._size != (frame_bytes, unpacked_frame_bytes):
            each = frame_bytes + unpacked_frame_bytes
            aim = min(max(self.block_bytes, block_bytes), self.total_bytes // 4)
            frames = max(1, min(1024, aim // each))
            count = max(4, self.total_bytes // (frames * each))
            unpacked = []
            if unpacked_frame_bytes:
                half, size = self.total_bytes // 2, frames * unpacked_frame_bytes
                unpacked = [aligned(size) for _ in range(max(4, half // size))]
                count = max(len(unpacked), min(1024, half // max(1, frames * frame_bytes)))
            fresh = [Buffer(self, frames * frame_bytes, frames, 0) for _ in range(count)]
            with self._condition:
                self._size = (frame_bytes, unpacked_frame_bytes)
                self.frames, self.frame_bytes, self.buffers = frames, frame_bytes, count
                self._free, self._all = deque(fresh), tuple(fresh)
                self._free_unpacked = unpacked
        return self.frames

    def take(self) -> Buffer:
        """A free buffer with one user, the caller. Waits; raises PoolClosedError when closed."""
        with self._condition:
            while not self.free:
                if self._closed:
                    raise PoolClosedError
                self._condition.wait(0.5)
            if self._closed:
                raise PoolClosedError
            buffer = self._free.pop()  # last in, first out: the warmest memory
            if self._size[1]:
                buffer.unpacked = self._free_unpacked.pop()
            buffer.taken = time.monotonic()
        buffer.retain()
        return buffer

    def give_back(self, buffer: Buffer) -> None:
        """Called by `Buffer.release` only."""
        with self._condition:
            buffer.taken = None
            if not self._closed and buffer.bytes.size == self.frames * self.frame_bytes:
                self._free.append(buffer)
                self._condition.notify()

    def give_back_unpacked(self, buffer: Buffer) -> None:
        """Called by `Buffer.release` only."""
        with self._condition:
            memory, buffer.unpacked = buffer.unpacked, _NO_BYTES
            if memory.size and memory.size == self.frames * self._size[1] and not self._closed:
                self._free_unpacked.append(memory)
                self._condition.notify()

    def close(self) -> None:
        """Wake and end whoever waits for a buffer; memory goes with its last reader.

        A pool that is not closed waits for the collector of cycles: its buffers know it.
        """
        with self._condition:
            self._closed = True
            self._free.clear()
            self._free_unpacked.clear()
            self._all = ()
            self._condition.notify_all()

    @property
    def free(self) -> int:
        """Buffers free at this moment; 0 also where there is no memory to unpack into."""
        return len(self._free) if self._free_unpacked or not self._size[1] else 0

    @property
    def oldest_s(self) -> float:
        """How long the buffer that has been out longest has been out, in seconds; 0: none is."""
        since = [taken for buffer in self._all if (taken := buffer.taken) is not None]
        return time.monotonic() - min(since) if since else 0.0
