"""The queue of blocks beside a scan: how much memory waits in it."""

from __future__ import annotations

import numpy as np

from stemd.blocks import Buffer, FrameBlock
from stemd.engines.beside.block_queue import BlockQueue
from tests.conftest import an_acquisition

FRAMES, PIXELS = 4, 64 * 64 * 2


def packed(share: int) -> tuple[FrameBlock, Buffer]:
    """A block of patterns that came in so many times fewer bytes than they have in memory."""
    buffer = Buffer(None, FRAMES * PIXELS // share, FRAMES, FRAMES * PIXELS)
    buffer.retain()
    block = FrameBlock(
        acquisition=an_acquisition(),
        pixels=buffer.unpacked,
        pixel_offset=0,
        stride=PIXELS,
        count=FRAMES,
        shape=(64, 64),
        dtype="u2",
        big_endian=False,
        sequence=buffer.sequence,
        probe=buffer.probe,
        wire=buffer.bytes,
        received_ns=0,
        buffer=buffer,
    )
    return block, buffer


def test_patterns_that_came_packed_count_as_large_as_they_are_in_memory() -> None:
    """Else a slow network holds all of a camera's blocks, and its copies fill the memory."""
    queue = BlockQueue(3 * FRAMES * PIXELS, 2 * FRAMES * PIXELS)
    blocks = [packed(16) for _ in range(8)]
    taken = [queue.offer(block) for block, _ in blocks]
    assert taken == [True] * 5 + [False] * 3
    assert [buffer._users for _, buffer in blocks] == [2] * 3 + [1] * 5, (
        "three are the camera's own"
    )
    for block, _ in blocks[:5]:
        waited = queue.take()
        assert isinstance(waited, FrameBlock)
        assert np.array_equal(waited.patterns(), block.patterns())
        queue.done()
    assert [buffer._users for _, buffer in blocks] == [1] * 8
