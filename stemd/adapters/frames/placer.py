"""Whole frames of a block into messages: placed, and cut where scans begin and end."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition
from stemd.adapters.frames import doubt, placing
from stemd.adapters.frames.format import FrameLayout, FrameStart
from stemd.adapters.frames.held import HeldFrame
from stemd.adapters.frames.told import began_again
from stemd.adapters.frames.tracker import ScanTracker
from stemd.blocks import Buffer, EndReason, FrameBlock, Message, Notice

Bytes = NDArray[np.uint8]
_NO_PREFIX: Bytes = np.zeros(0, np.uint8)
_NO_NUMBERS: NDArray[np.int64] = np.zeros(0, np.int64)
_NO_MARKS: NDArray[np.uint16] = np.zeros(0, np.uint16)


class FramesAtHand(Protocol):
    """The frames of the block at hand, of which those before `done` have been placed.

    There are `capacity`. `prefixes` (n, size), `numbers` (n,) and `marks` (n,) are the
    frames' own.
    """

    layout: FrameLayout
    prefixes: NDArray[np.uint8]
    numbers: NDArray[np.int64]
    marks: NDArray[np.uint16]
    buffer: Buffer | None
    done: int
    capacity: int

    def read_numbers(self, stop: int, reference: NDArray[np.uint8]) -> None:
        """Read the numbers and make the marks of the frames from `done` to `stop` - 1."""
        ...

    def block(self, start: int, stop: int, acquisition: Acquisition, now_ns: int) -> FrameBlock:
        """Frames start..stop-1 as a block; the one that ends at `capacity` takes the buffer."""
        ...

    def drop(self) -> None:
        """Give the buffer back and forget what is in it."""
        ...


class Placer:
    """Checks frames against the one that they must be like, and gives them their positions."""

    def __init__(self, tracker: ScanTracker) -> None:
        self._tracker = tracker
        self._reference: NDArray[np.uint8] = np.zeros(0, np.uint8)
        self._prefix: NDArray[np.uint8] = np.zeros(0, np.uint8)
        self.opening: NDArray[np.uint8] = np.zeros(0, np.uint8)
        self._held: deque[HeldFrame] = deque()

    def expect(self, start: FrameStart, prefix_bytes: int) -> None:
        """Frames are like this one from now on."""
        self.opening = np.frombuffer(bytearray(start.opening), np.uint8)
        self._prefix = self.opening[:prefix_bytes]
        self._reference = start.reference

    def close(self, reason: EndReason, why: Notice | None = None) -> Iterator[Message]:
        """End the open scan, if there is one, see `ScanTracker.close`; nothing is held any more."""
        state = self._tracker.state
        state[placing.NO_MORE] = 1
        yield from self._settle(_NO_NUMBERS, _NO_MARKS)
        state[placing.NO_MORE] = 0
        yield from self._tracker.close(reason, why)

    def forget(self) -> None:
        """What is held is of no scan any more."""
        self._held.clear()

    def whole_block(self, slots: FramesAtHand, now_ns: int) -> FrameBlock | tuple[int, int]:
        """The usual case, a full block within one scan; else what `place` goes on from."""
        start, acquisition = slots.done, self._tracker.acquisition
        if self._held:
            return placing.ALL, start
        why = self._check(slots, slots.capacity)
        if why != placing.ALL or acquisition is None or self._tracker.has_lies:
            return why, start
        block = slots.block(start, slots.done, acquisition, now_ns)
        slots.drop()
        return block

    def _check(self, slots: FramesAtHand, stop: int) -> int:
        """Check and place whole frames up to slot `stop`; returns why it stopped at `done`."""
        slots.read_numbers(stop, self._reference)
        return self._placed(slots, stop, stop, self._prefix)

    def _placed(self, slots: FramesAtHand, stop: int, ahead: int, prefix: Bytes) -> int:
        tracker, buffer = self._tracker, slots.buffer
        assert buffer is not None
        why: int
        why, slots.done = placing.place_live(
            slots.prefixes,
            prefix,
            slots.numbers,
            slots.done,
            stop,
            ahead,
            tracker.state,
            buffer.sequence,
            buffer.probe,
            tracker.seen,
            slots.marks,
            tracker.known,
        )
        return why

    def place(
        self, slots: FramesAtHand, stop: int, now_ns: int, stopped: tuple[int, int] | None = None
    ) -> Generator[Message, None, bool]:
        """Place whole frames up to slot `stop`, give out their blocks, begin and end scans.

        `stopped`: a check to go on from. Returns False at a slot that holds no expected frame.
        """
        while stopped is not None or slots.done < stop:
            if self._held and slots.done < stop:
                stopped = None  # nothing was checked before it
                yield from self._settle_by(slots, stop, now_ns)
                if slots.done >= stop:
                    break
            if stopped is None:
                start = slots.done
                why = self._check(slots, stop)
            else:
                (why, start), stopped = stopped, None
            yield from self._given(slots, start, now_ns)
            if why == placing.BAD:
                return False
            if why == placing.DOUBTFUL:
                self._hold(slots, now_ns)
            else:
                yield from self._answer(why, slots, now_ns)
        if slots.done == slots.capacity:
            slots.drop()
        return True

    def _given(self, slots: FramesAtHand, start: int, now_ns: int) -> Iterator[Message]:
        """What has been placed since `start`, and what is to be told of it."""
        if slots.done > start and self._tracker.acquisition is not None:
            yield slots.block(start, slots.done, self._tracker.acquisition, now_ns)
        if self._tracker.has_lies:
            yield from self._tracker.tell_lies()

    def _answer(self, why: int, slots: FramesAtHand, now_ns: int) -> Iterator[Message]:
        """Do what `placing.place_live` stopped for."""
        tracker = self._tracker
        if why == placing.COMPLETE:
            yield from tracker.close("complete")
        elif why == placing.OTHER_SCAN:
            skipped = yield from tracker.other_scan(slots.layout, now_ns)
            slots.done += skipped
        elif why == placing.RESTART:
            yield from tracker.close("restarted", began_again())
            tracker.renumber()
            tracker.make_plan()
        elif why == placing.BACK:
            yield from tracker.jumped_back()

    def _hold(self, slots: FramesAtHand, now_ns: int) -> None:
        """Keep frame `done` of the slots back until the next ones are here."""
        at, tracker = slots.done, self._tracker
        acquisition = tracker.acquisition or tracker.new_scan(slots.layout, now_ns)
        block = slots.block(at, at + 1, acquisition, now_ns)
        held = HeldFrame(block, slots.layout, int(slots.numbers[at]), slots.marks[at])
        self._held.append(held)
        block.release()
        slots.done += 1

    def _settle_by(self, slots: FramesAtHand, stop: int, now_ns: int) -> Iterator[Message]:
        """Place what is held as the next frames tell; they are held, too, where they cannot yet."""
        slots.read_numbers(stop, self._reference)
        good, most = slots.done, min(stop, slots.done + doubt.MOST)
        while (
            good < most
            and slots.numbers[good] >= 0
            and np.array_equal(slots.prefixes[good], self._prefix)
        ):
            good += 1
        yield from self._settle(
            slots.numbers[slots.done : good].copy(), slots.marks[slots.done : good].copy()
        )
        if self._held:
            for _ in range(slots.done, good):
                self._hold(slots, now_ns)

    def _settle(self, behind: NDArray[np.int64], marks: NDArray[np.uint16]) -> Iterator[Message]:
        """Place what is held, as far as it and the frames `behind` it tell."""
        waiting = self._held
        while waiting:
            held = waiting[0]
            held.numbers = np.concatenate([*(one.numbers[:1] for one in waiting), behind])
            held.marks = np.concatenate([*(one.marks[:1] for one in waiting), marks])
            held.prefixes = np.zeros((held.numbers.size, 0), np.uint8)
            why = self._placed(held, held.capacity, held.numbers.size, _NO_PREFIX)
            if why == placing.DOUBTFUL:
                return
            if held.done == held.capacity and waiting[0] is held:
                waiting.popleft()
            yield from self._given(held, 0, 0)
            yield from self._answer(why, held, 0)
            if held.done == held.capacity and waiting and waiting[0] is held:
                waiting.popleft()
