"""What has come in of one scan: the hand-over from the reader's thread to the engines'."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stemd.blocks import Block, EventBlock, FrameBlock, ImageBlock
from stemd.engines.base import Positions
from stemd.engines.reduction import position_runs
from stemd.results import Result


class Intake:
    """Numbers of what has come in, and what the engines have not yet been given.

    One thread at a time adds: the reader's, or whoever adds parts of a recorded scan; beside it
    those of several links (`add_apart`). All other threads read the numbers, each of which is whole
    at any moment. What waits for the engines has a lock.
    """

    def __init__(self, started_ns: int) -> None:
        self.frames = 0
        self.hits = 0
        self.bytes = 0
        self.positions_done = 0
        self.received_ns = started_ns
        self._waiting: list[Positions] = []
        self._scattered: list[NDArray[np.int64]] = []
        self._images: list[Result] = []
        self._lock = threading.Lock()

    def add(self, block: Block, complete: Sequence[Positions]) -> None:
        """A block has been reduced; these positions are complete now."""
        with self._lock:
            self.frames += block.count if isinstance(block, FrameBlock) else 0
            self.hits += block.count if isinstance(block, EventBlock) else 0
            self.bytes += block.wire.nbytes
        if complete:
            self.received_ns = block.received_ns
            self.add_positions(complete)

    def add_apart(self, block: FrameBlock, complete: NDArray[np.int64]) -> None:
        """A block has been reduced in a link's thread; these positions, in no order, are done."""
        with self._lock:
            self.frames += block.count
            self.bytes += block.wire.nbytes
            self.positions_done += complete.size
            self.received_ns = max(self.received_ns, block.received_ns)
            self._scattered.append(complete)

    def add_positions(self, complete: Sequence[Positions]) -> None:
        """These positions are complete: they wait for the engines."""
        with self._lock:
            for first, stop in complete:
                self.positions_done += stop - first
                if self._waiting and self._waiting[-1][1] == first:
                    self._waiting[-1] = (self._waiting[-1][0], stop)
                else:
                    self._waiting.append((first, stop))

    def take_positions(self) -> list[Positions]:
        """The positions that have become complete since the last call."""
        with self._lock:
            taken, self._waiting = self._waiting, []
            scattered, self._scattered = self._scattered, []
        if scattered:
            taken += position_runs(np.sort(np.concatenate(scattered)))
        return taken

    def add_image(self, block: ImageBlock, result: Result, positions: int) -> None:
        """An image came instead of patterns: all positions are done."""
        with self._lock:
            self._images.append(result)
        self.bytes += block.wire.nbytes
        self.received_ns = block.received_ns
        self.positions_done = positions

    def images(self) -> list[Result]:
        """The images that came instead of patterns."""
        with self._lock:
            return list(self._images)

    def add_part(self, *, frames: int, size: int = 0, positions: int = 0) -> None:
        """A part of the scan, of `size` bytes, was reduced elsewhere; its maps have been added."""
        self.frames += frames
        self.bytes += size
        self.positions_done += positions
