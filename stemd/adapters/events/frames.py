"""Events into patterns, so that every engine that needs frames runs on events as well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, Detector
from stemd.blocks import BlockPool, EventBlock, FrameBlock
from stemd.compilation import njit
from stemd.errors import ConfigError

Run = tuple[int, int]

MOST_WAITING = 1 << 22
"""Hits of unfinished positions that are kept; with more the oldest are dropped, counted."""
_FIRST = 1 << 16


@njit(nogil=True, cache=True)
def histogram(
    probe: NDArray[np.int32],
    yx: NDArray[np.uint32],
    count: int,
    first: int,
    stop: int,
    binning: int,
    frames: NDArray[np.uint16],
) -> int:
    """frames[p - first, y // binning, x // binning] += 1 for hits with first <= probe < stop.

    Hits of other positions are moved to the front of `probe` and `yx`, in order; returns how
    many. Hits beyond the binned frame (a remainder at the edge) are dropped. A pixel that has
    reached the largest value stays there.
    """
    left = 0
    height, width = frames.shape[1], frames.shape[2]
    for i in range(count):
        p = probe[i]
        if p < first or p >= stop:
            probe[left] = p
            yx[left] = yx[i]
            left += 1
            continue
        y, x = (yx[i] >> 16) // binning, (yx[i] & 0xFFFF) // binning
        if y < height and x < width and frames[p - first, y, x] != 65535:
            frames[p - first, y, x] += 1
    return left


class FrameBuilder:
    """Builds (binned) patterns of uint16 from the events of one acquisition.

    A pattern is given out when its position is complete, as part of a block; every position
    that is announced gives one, with or without hits. Patterns are `binning` times smaller than
    the detector; a remainder at its lower and right edge is left out, so with binning 1 nothing
    is. Exact up to 65535 hits in a pixel and position.
    """

    def __init__(
        self, acquisition: Acquisition, binning: int = 1, pool: BlockPool | None = None
    ) -> None:
        height, width = acquisition.detector.shape
        if not 1 <= binning <= min(height, width):
            raise ConfigError(f"binning {binning} does not suit a detector of {height}x{width}")
        self.binning = binning
        self.shape = (height // binning, width // binning)
        old = acquisition.detector
        self.acquisition = Acquisition(
            acquisition.scan,
            Detector(old.name, self.shape, "u2", 16, old.header),
            id=acquisition.id,
            started_ns=acquisition.started_ns,
            source=acquisition.source,
            raw_name=acquisition.raw_name,
        )
        self._pool = pool or BlockPool()
        self._probe: NDArray[np.int32] = np.zeros(_FIRST, np.int32)
        self._yx: NDArray[np.uint32] = np.zeros(_FIRST, np.uint32)
        self._waiting = 0
        self._sequence = 0
        self.dropped = 0
        """Hits dropped because too many waited for their position to be complete."""

    def add(self, block: EventBlock) -> Iterator[FrameBlock]:
        """Take events in; give out the patterns that are complete. The caller releases them."""
        self._keep(block)
        yield from self._give_out(block.complete, block.received_ns)

    def _keep(self, block: EventBlock) -> None:
        needed = self._waiting + block.count
        if needed > MOST_WAITING:
            # positions that are never announced must not fill the memory
            keep = MOST_WAITING // 2
            self.dropped += self._waiting - keep
            self._probe[:keep] = self._probe[self._waiting - keep : self._waiting]
            self._yx[:keep] = self._yx[self._waiting - keep : self._waiting]
            self._waiting = keep
            needed = keep + block.count
        if needed > self._probe.size:
            size = max(needed, 2 * self._probe.size)
            self._probe = np.resize(self._probe, size)
            self._yx = np.resize(self._yx, size)
        self._probe[self._waiting : needed] = block.probe[: block.count]
        self._yx[self._waiting : needed] = block.yx[: block.count]
        self._waiting = needed

    def _give_out(self, runs: Iterable[Run], now_ns: int) -> Iterator[FrameBlock]:
        height, width = self.shape
        frame_bytes = 2 * height * width
        for first, last in runs:
            start = first
            while start < last:
                room = self._pool.configure(frame_bytes)
                stop = min(last, start + room)
                buffer = self._pool.take()
                pixels = buffer.bytes[: (stop - start) * frame_bytes]
                pixels[:] = 0
                frames = pixels.view(np.uint16).reshape(-1, height, width)
                self._waiting = int(
                    histogram(
                        self._probe, self._yx, self._waiting, start, stop, self.binning, frames
                    )
                )
                count = stop - start
                buffer.probe[:count] = np.arange(start, stop)
                buffer.sequence[:count] = np.arange(self._sequence, self._sequence + count)
                self._sequence += count
                yield FrameBlock(
                    self.acquisition,
                    pixels,
                    0,
                    frame_bytes,
                    count,
                    self.shape,
                    "u2",
                    False,
                    buffer.sequence[:count],
                    buffer.probe[:count],
                    pixels[:0],
                    now_ns,
                    buffer,
                )
                start = stop
