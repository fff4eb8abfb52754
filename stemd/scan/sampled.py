"""What some of a scan's patterns say of all of them: clipped, swapped, scaled or negative counts,
parts of the detector that are dark, pixels that become hot.

Some patterns of a scan are looked at, always the same ones, however the scan is cut.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Detector
from stemd.blocks import Block, FrameBlock, Notice
from stemd.engines.base import Gathered
from stemd.pixels import Mask
from stemd.scan.clipped import ClippedCounts
from stemd.scan.dark_parts import DarkParts
from stemd.scan.late_pixels import LatePixels
from stemd.scan.odd_counts import OddCounts
from stemd.scan.offset_counts import OffsetCounts

SAMPLED = "patterns.sampled"
"""Name of these numbers among what a part of a scan has gathered."""
LOOKED_AT, THOROUGHLY = 64, 4
"""Patterns of a scan that are looked at, and every how many of them thoroughly: 2 ms of a scan of
256 x 256 pixels, whatever its size; files are read at 100,000 such patterns a second."""
MOST_PIXELS = 1 << 18
"""Of a larger pattern every second row is looked at, or every third, ..."""


class SampledPatterns:
    """Looks at patterns of one scan. `look` may be called by several threads.

    `files`: whether the patterns are of a file, whose axes and byte order somebody may have
    mistaken.
    """

    def __init__(self, detector: Detector, positions: int, *, files: bool) -> None:
        self._step = max(1, -(-positions // LOOKED_AT))
        self._rows = max(1, -(-detector.shape[0] * detector.shape[1] // MOST_PIXELS))
        self._lock = threading.Lock()
        shape = (-(-detector.shape[0] // self._rows), detector.shape[1])
        self._clipped = ClippedCounts(detector, shape)
        self._odd = OddCounts(detector, shape, files=files)
        self._offset = OffsetCounts(detector, shape)
        self._dark = DarkParts(detector.shape, self._rows, detector.dtype)
        self._late = LatePixels(detector, shape, self._step, LOOKED_AT)
        self._shape = shape
        self._scratch: NDArray[np.integer[Any]] | None = None

    def look(self, block: Block, masked: Mask | None) -> None:
        """A block on its way into the sums; `masked` pixels (y, x) do not count."""
        if not isinstance(block, FrameBlock) or not block.count:
            return
        probe = block.probe[: block.count]
        first, last = max(0, int(probe.min())), int(probe.max())  # lines may run backwards
        patterns = None
        for position in range(-(-first // self._step) * self._step, last + 1, self._step):
            patterns = block.patterns() if patterns is None else patterns
            for index in np.flatnonzero(probe == position):
                with self._lock:
                    self._look(position, patterns[index, :: self._rows], masked)

    def _look(self, position: int, wire: NDArray[np.integer[Any]], masked: Mask | None) -> None:
        dtype = wire.dtype.newbyteorder("=")
        kept = self._late.room_for(position, dtype)
        if kept is None and (self._scratch is None or self._scratch.dtype != dtype):
            self._scratch = np.empty(self._shape, dtype)
        pattern = self._scratch if kept is None else kept
        assert pattern is not None
        np.copyto(pattern, wire)
        pixels, left_out = pattern.size, None
        if masked is not None:
            left_out = masked[:: self._rows]
            pattern[left_out] = 0
            pixels -= int(np.count_nonzero(left_out))
        self._clipped.add(pattern, pixels)
        self._offset.add(pattern)
        self._odd.add(pattern, thorough=position // self._step % THOROUGHLY == 0)
        self._dark.add(pattern, left_out)
        if kept is not None:
            self._late.add(position, kept)

    def gathered(self) -> Gathered:
        """All of it, for `merge` elsewhere."""
        return {
            **self._clipped.gathered(),
            **self._odd.gathered(),
            **self._offset.gathered(),
            **self._dark.gathered(),
            **self._late.gathered(),
        }

    def merge(self, gathered: Gathered) -> None:
        """Add what was seen of another part of the same scan."""
        if gathered:
            self._clipped.merge(gathered)
            self._odd.merge(gathered)
            self._offset.merge(gathered)
            self._dark.merge(gathered)
            self._late.merge(gathered)

    def total(self) -> tuple[NDArray[np.integer] | None, int, Mask]:
        """The sum of the patterns that were looked at (rows, x), None without one.

        And every how many rows of the detector it has, and which of its pixels do not count.
        """
        with self._lock:
            return self._dark.total(), self._rows, self._dark.masked()

    def notices(self, totals: NDArray[np.signedinteger]) -> list[Notice]:
        """What is to be said of the scan; `totals`: counts of the positions that are done."""
        return [
            *self._clipped.notices(totals),
            *self._odd.notices(totals),
            *self._offset.notices(),
            *self._dark.notices(),
            *self._late.notices(),
        ]
