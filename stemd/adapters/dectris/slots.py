"""Compressed images of a receive, expanded into a buffer of the pool."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition
from stemd.adapters.dectris.expander import Expander
from stemd.adapters.dectris.kernels import scanning, table
from stemd.adapters.frames.format import FrameLayout
from stemd.adapters.frames.marks import mark_frames
from stemd.blocks import BlockPool, Buffer, FrameBlock

Bytes = NDArray[np.uint8]

BLOCK_BYTES = 2 * 1024 * 1024
"""Aim for a block: what each block costs is more than what its images lose beyond the L2 cache."""
_WIRE_SHARE = 8  # a buffer has room for images compressed to this part of their size
_MESSAGE_BYTES = 512  # of a message that are no image


class CompressedSlots:
    """Implements adapters.frames.placer.FramesAtHand for images of one `layout`.

    A buffer takes `count` images and the messages that they came in, or fewer where those are
    larger: `fits` says how many.
    """

    def __init__(self, pool: BlockPool, layout: FrameLayout, expander: Expander) -> None:
        self.layout = layout
        size = self._image_bytes = layout.pixel_bytes
        aim = max(1, BLOCK_BYTES // size)
        share = min(_WIRE_SHARE, aim)  # all together hold at least one that cannot be compressed
        wire = size // share + size // 64 + _MESSAGE_BYTES
        self.count = pool.configure(wire, size, aim * (wire + size))
        if self.count < share:
            self.count = pool.configure(size + size // 64 + _MESSAGE_BYTES, size, BLOCK_BYTES)
        self.numbers: NDArray[np.int64] = np.zeros(self.count, np.int64)
        self.marks: NDArray[np.uint16] = np.zeros(self.count, np.uint16)
        self.prefixes: Bytes = np.zeros((self.count, 0), np.uint8)
        self.buffer: Buffer | None = None
        self.done = self.capacity = 0
        self.kept: NDArray[np.bool_] = np.zeros(0, np.bool_)
        """Which images of the last `load` are not damaged."""
        self._ends: NDArray[np.int64] = np.zeros(self.count + 1, np.int64)
        self._good: Bytes = np.zeros(self.count, np.uint8)
        self._wire: Bytes = np.zeros(0, np.uint8)
        self._pool, self._expander = pool, expander

    def fits(self, rows: scanning.Rows) -> int:
        """How many of these images a buffer takes: at least 1."""
        room = self._pool.frames * self._pool.frame_bytes
        most = min(self.count, len(rows))
        if rows[most - 1, table.END] - rows[0, table.BEGIN] <= room:
            return most
        ends = rows[: self.count, table.END] - rows[0, table.BEGIN]
        return max(1, int(np.searchsorted(ends, room, "right")))

    def load(self, data: Bytes, rows: scanning.Rows) -> int:
        """Take a buffer and expand the images of `rows` into it. Waits for a free one.

        Returns how many of them are damaged: these are left out.
        """
        self.drop()
        buffer = self.buffer = self._pool.take()
        count = len(rows)
        begin, end = int(rows[0, table.BEGIN]), int(rows[-1, table.END])
        item = int(self.layout.dtype[1])
        good = self._expander.expand(
            data, rows, item, self._image_bytes, buffer.unpacked, self._good
        )
        kept = self.kept = self._good[:count] != 0
        # A message of many channels may be larger than any buffer.
        held = end - begin <= buffer.bytes.size
        self._wire = buffer.bytes[: end - begin] if held else np.empty(end - begin, np.uint8)
        self._wire[:] = data[begin:end]
        if good < count:
            rows = rows[kept]
        np.subtract(rows[:, table.END], begin, out=self._ends[1 : good + 1])
        self._ends[good] = end - begin
        self.numbers[:good] = rows[:, table.NUMBER]
        self.done, self.capacity = 0, good
        if not good:
            self.drop()
        return count - good

    def read_numbers(self, stop: int, reference: Bytes) -> None:
        """See `placer.FramesAtHand`: the numbers are known."""
        mark_frames(self._wire, self._ends, self.done, stop, self.marks)

    def block(self, start: int, stop: int, acquisition: Acquisition, now_ns: int) -> FrameBlock:
        """See `placer.FramesAtHand`."""
        assert self.buffer is not None
        buffer, layout, size = self.buffer, self.layout, self._image_bytes
        if stop == self.capacity:
            self.buffer = None
        else:
            buffer.retain()
        return FrameBlock(
            acquisition=acquisition,
            pixels=buffer.unpacked[start * size : stop * size],
            pixel_offset=0,
            stride=size,
            count=stop - start,
            shape=layout.shape,
            dtype=layout.dtype,
            big_endian=False,
            sequence=buffer.sequence[start:stop],
            probe=buffer.probe[start:stop],
            wire=self._wire[self._ends[start] : self._ends[stop]],
            received_ns=now_ns,
            buffer=buffer,
        )

    def drop(self) -> None:
        """See `placer.FramesAtHand`."""
        if self.buffer is not None:
            self.buffer.release()
        self.buffer = None
        self.done = self.capacity = 0
