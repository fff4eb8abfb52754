"""The memory of blocks: who reads what of it, and when it comes back."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from stemd.blocks import BlockPool, Buffer, PoolClosedError

FRAMES = 4


def packed_pool() -> BlockPool:
    """A pool whose frames have 100 bytes, and 1000 unpacked."""
    pool = BlockPool(total_bytes=100_000, block_bytes=FRAMES * 1100)
    assert pool.configure(100, 1000) == FRAMES
    return pool


def take_all(pool: BlockPool) -> list[Buffer]:
    """Every buffer that is free."""
    taken = []
    while pool.free:
        taken.append(pool.take())
    return taken


def test_a_record_that_waits_for_its_disk_holds_no_memory_for_unpacked_frames() -> None:
    pool = packed_pool()
    together = len(take_all(packed_pool()))
    memory = set()
    for count in range(1, 3 * together):
        buffer = pool.take()
        memory.add(id(buffer.unpacked))
        assert buffer.unpacked.size == FRAMES * 1000
        buffer.retain(wire_only=True)
        buffer.release()
        assert pool.free == pool.buffers - count
    assert len(memory) == 1  # the one that is in cache


def test_memory_that_somebody_reads_is_not_unpacked_into_again() -> None:
    pool = packed_pool()
    first = pool.take()
    first.unpacked[:] = 7
    first.retain()
    first.release()
    for buffer in take_all(pool):
        assert buffer.unpacked is not first.unpacked
        buffer.unpacked[:] = 1
        buffer.release()
    assert (first.unpacked == 7).all()
    first.release()
    assert pool.free == pool.buffers


class Interrupted(BlockPool):
    """What happens between the last reader of `unpacked` and its going back."""

    in_between: Callable[[], None] | None = None

    def give_back_unpacked(self, buffer: Buffer) -> None:
        """See `BlockPool`."""
        happens, self.in_between = self.in_between, None
        if happens is not None:
            happens()
        super().give_back_unpacked(buffer)


def test_a_record_that_is_written_at_the_same_moment_takes_no_memory_from_the_next_block() -> None:
    pool = Interrupted(total_bytes=100_000, block_bytes=FRAMES * 1100)
    pool.configure(100, 1000)
    count = len(take_all(packed_pool()))
    first = pool.take()
    first.retain(wire_only=True)
    taken: list[Buffer] = []

    def written_and_taken() -> None:
        first.release(wire_only=True)
        taken.append(pool.take())

    pool.in_between = written_and_taken
    first.release()
    assert taken[0].unpacked.size == FRAMES * 1000
    taken[0].release()
    assert len(take_all(pool)) == count


def test_all_memory_comes_back_in_whatever_order_it_is_let_go() -> None:
    pool = packed_pool()
    together = len(take_all(packed_pool()))
    for order in range(3):
        for buffer in take_all(pool):
            buffer.retain(wire_only=True)
            if order == 0:
                buffer.release(wire_only=True)
                buffer.release()
            else:
                buffer.release()
                buffer.release(wire_only=True)
        assert pool.free == pool.buffers
        taken = take_all(pool)
        assert len(taken) == together
        for buffer in taken:
            buffer.release()


def test_whoever_waits_for_memory_to_unpack_into_is_woken_when_it_comes_back_or_never_will() -> (
    None
):
    pool = packed_pool()
    taken = take_all(pool)
    got: list[Buffer] = []
    waiting = threading.Thread(target=lambda: got.append(pool.take()))
    waiting.start()
    taken[0].retain(wire_only=True)
    taken[0].release()
    waiting.join(20.0)
    assert len(got) == 1
    assert not pool.free
    pool.close()
    with pytest.raises(PoolClosedError):
        pool.take()
    for buffer in [*taken[1:], *got]:
        buffer.release()


def test_a_pool_keeps_to_its_memory_and_to_formats_that_are_not_packed() -> None:
    pool = packed_pool()
    assert pool.buffers * FRAMES * 100 + len(take_all(pool)) * FRAMES * 1000 <= 100_000
    pool.configure(100)
    assert len(take_all(pool)) == pool.buffers
    assert pool.free == 0
