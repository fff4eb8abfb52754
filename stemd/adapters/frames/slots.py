"""Where frames of a known size land: message prefixes aside, frames in pool buffers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition
from stemd.adapters.frames.format import FrameFormat, FrameLayout
from stemd.adapters.frames.marks import mark_frames
from stemd.blocks import BlockPool, Buffer, FrameBlock

SCATTER = 1024
"""IOV_MAX of Linux: entries that one receive takes."""


class Slots:
    """The slots of the block being received; slot i is one message, prefix and frame.

    `at` counts the bytes received into the block, prefixes included; the slots before `done` have
    been placed. `capacity` slots are to be filled before the block is full.
    """

    def __init__(self, pool: BlockPool, camera: FrameFormat, layout: FrameLayout) -> None:
        self.layout = layout
        self.frame_bytes = layout.frame_bytes
        self.stride = camera.prefix_bytes + layout.frame_bytes
        self.count = pool.configure(layout.frame_bytes, layout.unpacked_bytes)
        self.prefixes: NDArray[np.uint8] = np.zeros((self.count, camera.prefix_bytes), np.uint8)
        self.numbers: NDArray[np.int64] = np.zeros(self.count, np.int64)
        self.marks: NDArray[np.uint16] = np.zeros(self.count, np.uint16)
        self._bounds = np.arange(self.count + 1, dtype=np.int64) * layout.frame_bytes
        self.indices: NDArray[np.int64] = np.arange(self.count, dtype=np.int64)
        self._format = camera
        self._prefix_bytes = camera.prefix_bytes
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
            if self._prefix_bytes:
                for slot in range(self.count):
                    targets.append(self.prefixes[slot].data)
                    targets.append(memory[slot * size : (slot + 1) * size])
            else:
                targets.append(memory[: self.count * size])
            known = self._known[id(buffer)] = (buffer, targets)
        self.buffer, self._targets = known
        self.at = self.done = 0
        self.capacity = min(self.count, most)
        self.full = self.capacity * self.stride

    def wants(self) -> Sequence[memoryview]:
        """The scatter list from the next byte to the end of the block."""
        if not self._prefix_bytes:
            return (self._targets[0][self.at : self.full],)
        slot, offset = divmod(self.at, self.stride)
        first = 2 * slot
        if offset >= self._prefix_bytes:
            first, offset = first + 1, offset - self._prefix_bytes
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
        line[:, : self._prefix_bytes] = self.prefixes[first:last]
        frames = self.buffer.bytes[first * self.frame_bytes : last * self.frame_bytes]
        line[:, self._prefix_bytes :] = frames.reshape(last - first, self.frame_bytes)
        self.at -= size
        return line.reshape(-1)[:size].tobytes()

    def unlike(self, opening: NDArray[np.uint8]) -> bool:
        """What has come of the unfinished message shows that it does not begin with `opening`."""
        slot, offset = divmod(self.at, self.stride)
        known = min(offset, opening.size)
        if known == 0 or self.buffer is None:
            return False
        begun = self.prefixes[slot]
        if not self._prefix_bytes:
            begun = self.buffer.bytes[slot * self.frame_bytes :]
        return not np.array_equal(begun[:known], opening[:known])

    def read_numbers(self, stop: int, reference: NDArray[np.uint8]) -> None:
        """Read the numbers and make the marks of the frames from `done` to `stop` - 1."""
        assert self.buffer is not None
        self._format.read_numbers(
            self.buffer.bytes,
            self.frame_bytes,
            self.indices[self.done : stop],
            reference,
            self.numbers[self.done : stop],
        )
        mark_frames(self.buffer.bytes, self._bounds, self.done, stop, self.marks)

    def block(self, start: int, stop: int, acquisition: Acquisition, now_ns: int) -> FrameBlock:
        """Slots start..stop-1 as a block, unpacked where needed.

        The block that ends at `capacity` takes this object's hold on the buffer with it.
        """
        assert self.buffer is not None
        buffer, layout, count = self.buffer, self.layout, stop - start
        size = layout.frame_bytes
        wire = buffer.bytes[start * size : stop * size]
        pixels, offset = wire, layout.header_bytes
        if layout.packed:
            size, offset = layout.unpacked_bytes, 0
            pixels = buffer.unpacked[start * size : stop * size]
            self._format.unpack(wire, layout, count, pixels)
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
            shape=layout.shape,
            dtype=layout.dtype,
            big_endian=layout.big_endian,
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
