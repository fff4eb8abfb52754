"""Where frames of a known size land: message prefixes aside, frames in pool buffers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition
from stemd.adapters.merlin.encoder import PREFIX_BYTES
from stemd.adapters.merlin.geometry import Geometry
from stemd.adapters.merlin.packing import unpack_frames
from stemd.blocks import BlockPool, Buffer, FrameBlock

SCATTER = 1024
"""IOV_MAX of Linux: entries that one receive takes."""


class Slots:
    """The slots of the block being received; slot i is one message, prefix and frame.

    `at` counts the bytes received into the block, prefixes included; the slots before `done` have
    been placed. `capacity` slots are to be filled before the block is full.
    """

    def __init__(self, pool: BlockPool, geometry: Geometry) -> None:
        self.geometry = geometry
        self.frame_bytes = geometry.frame_bytes
        self.stride = PREFIX_BYTES + geometry.frame_bytes
        self.count = pool.configure(geometry.frame_bytes, geometry.unpacked_bytes)
        self.prefixes: NDArray[np.uint8] = np.zeros((self.count, PREFIX_BYTES), np.uint8)
        self.buffer: Buffer | None = None
        self.at = self.done = self.capacity = self.full = 0
        self._pool = pool
        self._targets: list[memoryview] = []
        self._known: dict[int, tuple[Buffer, list[memoryview]]] = {}

    def take(self, most: int) -> None:
        """Get a free buffer, to be filled with no more than `most` frames. Waits for one."""
        buffer = self._pool.take()
        known = self._known.get(id(buffer))
        if known is None:
            size, memory = self.frame_bytes, buffer.bytes.data
            targets = []
            for slot in range(self.count):
                targets.append(self.prefixes[slot].data)
                targets.append(memory[slot * size : (slot + 1) * size])
            known = self._known[id(buffer)] = (buffer, targets)
        self.buffer, self._targets = known
        self.at = self.done = 0
        self.capacity = min(self.count, most)
        self.full = self.capacity * self.stride

    def wants(self) -> Sequence[memoryview]:
        """The scatter list from the next byte to the end of the block."""
        slot, offset = divmod(self.at, self.stride)
        first = 2 * slot
        if offset >= PREFIX_BYTES:
            first, offset = first + 1, offset - PREFIX_BYTES
        views = self._targets[first : min(2 * self.capacity, first + SCATTER)]
        if offset:
            views[0] = views[0][offset:]
        return views

    @property
    def partial(self) -> int:
        """Bytes beyond the placed slots."""
        return self.at - self.done * self.stride

    def put(self, line: bytearray) -> None:
        """Move bytes from the front of `line` to where a receive would have put them."""
        moved, left = 0, len(line)
        with memoryview(line) as source:
            for view in self.wants():
                size = min(len(view), left - moved)
                if not size:
                    break
                view[:size] = source[moved : moved + size]
                moved += size
        del line[:moved]
        self.at += moved

    def straighten(self) -> bytes:
        """Take out what has landed from slot `done` on, in the order in which it came."""
        assert self.buffer is not None
        first, size = self.done, self.partial
        last = first + -(-size // self.stride)
        line = np.empty((last - first, self.stride), np.uint8)
        line[:, :PREFIX_BYTES] = self.prefixes[first:last]
        frames = self.buffer.bytes[first * self.frame_bytes : last * self.frame_bytes]
        line[:, PREFIX_BYTES:] = frames.reshape(last - first, self.frame_bytes)
        self.at -= size
        return line.reshape(-1)[:size].tobytes()

    def unlike(self, prefix: NDArray[np.uint8]) -> bool:
        """What has come of the unfinished message's prefix shows that it is not `prefix`."""
        slot, offset = divmod(self.at, self.stride)
        known = min(offset, PREFIX_BYTES)
        return known > 0 and not np.array_equal(self.prefixes[slot, :known], prefix[:known])

    def block(self, start: int, stop: int, acquisition: Acquisition, now_ns: int) -> FrameBlock:
        """Slots start..stop-1 as a block, unpacked where needed.

        The block that ends at `capacity` takes this object's hold on the buffer with it.
        """
        assert self.buffer is not None
        buffer, geometry, count = self.buffer, self.geometry, stop - start
        size = geometry.frame_bytes
        wire = buffer.bytes[start * size : stop * size]
        pixels, offset = wire, geometry.header_bytes
        if geometry.packed:
            size, offset = geometry.unpacked_bytes, 0
            pixels = buffer.unpacked[start * size : stop * size]
            unpack_frames(wire, geometry, count, pixels)
        if stop == self.capacity:
            self.buffer = None
        else:
            buffer.retain()
        return FrameBlock(
            acquisition=acquisition,
            pixels=pixels,
            pixel_offset=offset,
            stride=size,
            count=count,
            shape=geometry.shape,
            dtype=geometry.dtype,
            big_endian=not geometry.packed,
            sequence=buffer.sequence[start:stop],
            probe=buffer.probe[start:stop],
            wire=wire,
            received_ns=now_ns,
            buffer=buffer,
        )

    def drop(self) -> None:
        """Give the buffer back and forget what is in it."""
        if self.buffer is not None:
            self.buffer.release()
        self.buffer = None
        self.at = self.done = self.full = self.capacity = 0
