"""The discs of a scan's patterns, collected block by block once it is known where the disc is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stemd.acquisition import Optics
from stemd.blocks import Block
from stemd.engines.base import Gathered
from stemd.engines.bright_field.discs import BrightField, moments
from stemd.engines.bright_field.pattern_sum import PatternSum
from stemd.engines.first_patterns import copied
from stemd.engines.probe import Disc
from stemd.pixels import Mask

SURE_COUNTS = 256
"""Counts from whose mean place a centre is taken to begin with."""
MOST_WAITING = 32
"""Blocks that wait for so many counts, unless they are large."""
MOST_WAITING_BYTES = 64 * 1024 * 1024


class Collecting:
    """Adds blocks to `kept` and to `total`, the sum of patterns. One thread.

    Until the disc's place is known blocks are copied and wait. `optics`: what was told of the lens
    and the camera, as it is now; `disc(optics)`: the disc in the patterns so far, where it can be
    seen; `masked()`: pixels (y, x) that do not count. Neither may hold whoever has this: the circle
    would keep a scan's memory.
    """

    def __init__(
        self,
        kept: BrightField,
        total: PatternSum,
        optics: Optics,
        disc: Callable[[Optics], Disc | None],
        masked: Callable[[], Mask | None],
    ) -> None:
        self.kept, self.total, self.optics = kept, total, optics
        self._disc, self._masked = disc, masked
        self._waiting: list[Block] = []
        self._waiting_bytes = 0
        self._moments = np.zeros(3)

    @property
    def _acceptance_ns(self) -> float:
        """Hits that come before it count (0: all)."""
        return self.optics.acceptance_time_ns or 0.0

    def add(self, block: Block) -> None:
        """Keep the discs of a block's patterns; until their place is known keep a copy."""
        acceptance_ns = self._acceptance_ns
        self.total.add(block, acceptance_ns)
        if self.kept.origin is not None:
            self.kept.add(block, acceptance_ns)
        elif block.count:
            self._waiting.append(copied(block))
            self._waiting_bytes += block.wire.nbytes
            self._moments += moments(block, acceptance_ns, self._masked())
            many = len(self._waiting) >= MOST_WAITING or self._waiting_bytes >= MOST_WAITING_BYTES
            if self._moments[0] >= SURE_COUNTS or many:
                self.settle()

    def settle(self) -> None:
        """Decide which cells are kept, from what is there, and add what has waited for it."""
        count, y, x = self._moments
        if self.kept.origin is None and count > 0:
            disc = self._disc(self.optics)
            self.kept.place((y / count, x / count) if disc is None else disc.center)
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if self.kept.origin is not None:
            for block in waiting:
                self.kept.add(block, self._acceptance_ns)

    def merge(self, other: Collecting) -> None:
        """Add what another part of the same scan has."""
        for part in (self, other):
            part.settle()
        self.kept.merge(other.kept)
        self.total.counts += other.total.counts

    def gathered(self) -> Gathered:
        """See `BrightField.gathered`; `sum` (y, x) of patterns besides."""
        self.settle()
        kept = self.kept.gathered()
        return {**kept, "sum": self.total.counts} if kept else {}

    def restore(self, gathered: Gathered) -> None:
        """Take over what `gathered` has given."""
        self.kept.restore(gathered)
        if "sum" in gathered:
            self.total.counts = np.array(gathered["sum"], np.int64)

    def found(self) -> Gathered | None:
        """The middle cell, y and x; None until it is known."""
        origin = self.kept.origin
        return None if origin is None else {"origin": np.array(origin, np.int64)}

    def follow(self, found: Gathered) -> None:
        """Keep the cells about the same middle cell as the first part of the scan."""
        if "origin" in found and self.kept.origin is None:
            y, x = (int(n) for n in found["origin"])
            self.kept.place(self.kept.lattice.middle((y, x)))
