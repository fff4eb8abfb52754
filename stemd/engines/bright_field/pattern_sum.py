"""The sum of some of a scan's patterns, for the disc's edge, however blocks are cut."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.blocks import Block, EventBlock

MOST_PATTERNS = 4096
"""Patterns that are summed at most; more tell no more of an edge."""


class PatternSum:
    """Counts (y, x) of the patterns at every so many positions. One thread adds."""

    def __init__(self, positions: int, shape: tuple[int, int]) -> None:
        self.counts: NDArray[np.int64] = np.zeros(shape, np.int64)
        self._every = max(1, positions // MOST_PATTERNS)

    def add(self, block: Block, acceptance_ns: float) -> None:
        """Add a block's patterns, or its hits that come before the acceptance time (0: all)."""
        probe = block.probe[: block.count]
        used = (probe >= 0) & (probe % self._every == 0)
        if not used.any():
            return
        if isinstance(block, EventBlock):
            if acceptance_ns > 0.0:
                used = used & (block.dwell_ns[: block.count] < acceptance_ns)
            width = self.counts.shape[1]
            pixel = block.y[used].astype(np.int64) * width + block.x[used]
            self.counts += np.bincount(pixel, minlength=self.counts.size).reshape(self.counts.shape)
        else:
            self.counts += block.patterns()[used].sum(axis=0, dtype=np.int64)
