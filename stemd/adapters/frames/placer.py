"""Whole frames of a block into messages: placed, and cut where scans begin and end."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition
from stemd.adapters.frames import placing
from stemd.adapters.frames.format import FrameLayout, FrameStart
from stemd.adapters.frames.told import began_again
from stemd.adapters.frames.tracker import ScanTracker
from stemd.blocks import Buffer, FrameBlock, Message

Bytes = NDArray[np.uint8]


class FramesAtHand(Protocol):
    """The frames of the block at hand, of which those before `done` have been placed.

    There are `capacity`. `prefixes` (n, size), `numbers` (n,) and `marks` (n,) are the
    frames' own.
    """

    layout: FrameLayout
    prefixes: NDArray[np.uint8]
    numbers: NDArray[np.int64]
    marks: NDArray[np.uint64]
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

    def expect(self, start: FrameStart, prefix_bytes: int) -> None:
        """Frames are like this one from now on."""
        self.opening = np.frombuffer(bytearray(start.opening), np.uint8)
        self._prefix = self.opening[:prefix_bytes]
        self._reference = start.reference

    def whole_block(self, slots: FramesAtHand, now_ns: int) -> FrameBlock | tuple[int, int]:
        """The usual case, a full block within one scan; else what `place` goes on from."""
        start, acquisition = slots.done, self._tracker.acquisition
        why = self._check(slots, slots.capacity)
        if why != placing.ALL or acquisition is None:
            return why, start
        block = slots.block(start, slots.done, acquisition, now_ns)
        slots.drop()
        return block

    def _check(self, slots: FramesAtHand, stop: int) -> int:
        """Check and place whole frames up to slot `stop`; returns why it stopped at `done`."""
        tracker, buffer = self._tracker, slots.buffer
        assert buffer is not None
        slots.read_numbers(stop, self._reference)
        why: int
        why, slots.done = placing.place_live(
            slots.prefixes,
            self._prefix,
            slots.numbers,
            slots.done,
            stop,
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
        tracker = self._tracker
        while stopped is not None or slots.done < stop:
            if stopped is None:
                start = slots.done
                why = self._check(slots, stop)
            else:
                (why, start), stopped = stopped, None
            if slots.done > start and tracker.acquisition is not None:
                yield slots.block(start, slots.done, tracker.acquisition, now_ns)
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
            elif why == placing.BAD:
                return False
        if slots.done == slots.capacity:
            slots.drop()
        return True
