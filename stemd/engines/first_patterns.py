"""What an engine finds out from the first patterns of a scan before it can begin.

The first patterns are kept until there are enough of them; how many is fixed, so that the same
is found however the scan is cut into blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition
from stemd.blocks import Block, EventBlock, FrameBlock
from stemd.engines.probe import Disc, fit_disc
from stemd.engines.reduction import CENTRE_FRAMES, CENTRE_HITS
from stemd.engines.whole_counts import whole_counts
from stemd.pixels import Mask

MOST_BYTES = 64 * 1024 * 1024
"""Of patterns that are kept; of very large ones fewer are."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where the beam falls on the detector: centre (y, x) in pixels, electrons a pattern.

    `radius` of the undiffracted disc in pixels, if it was looked for.
    """

    center: tuple[float, float]
    counts: float
    radius: float | None = None

    def as_array(self) -> NDArray[np.float64]:
        """As numbers, (4,)."""
        radius = np.nan if self.radius is None else self.radius
        return np.array([*self.center, self.counts, radius], np.float64)

    @classmethod
    def of(cls, numbers: NDArray[np.float64]) -> Found:
        """From `as_array`."""
        y, x, counts, radius = (float(n) for n in numbers)
        return cls((y, x), counts, None if np.isnan(radius) else radius)


class FirstPatterns:
    """The first 64 patterns of a scan, or the first 65,536 hits, summed and kept.

    `acceptance_ns`: 0, or the time after which hits do not count. `masked()`: pixels (y, x) that
    do not count either, None where all do.
    """

    def __init__(
        self,
        acquisition: Acquisition,
        acceptance_ns: float,
        masked: Callable[[], Mask | None] = lambda: None,
    ) -> None:
        self._masked = masked
        self._shape = acquisition.detector.shape
        size = int(np.prod(self._shape)) * np.dtype(acquisition.detector.dtype).itemsize
        self._wanted = max(1, min(CENTRE_FRAMES, MOST_BYTES // max(1, size)))
        self._wanted_hits = CENTRE_HITS[-1]
        self._acceptance_ns = acceptance_ns
        self._sum = np.zeros(self._shape, np.int64)
        self._patterns = 0
        self._positions: set[int] = set()
        self._hits = 0
        self.kept: list[Block] = []
        """What has come; whoever has found out what there is takes them up again."""

    @property
    def enough(self) -> bool:
        """Whether there are as many as are wanted."""
        return self._patterns >= self._wanted or self._hits >= self._wanted_hits

    @property
    def any(self) -> bool:
        """Whether there is any count."""
        return bool(self._sum.any())

    def add(self, block: Block) -> None:
        """Keep a block, copied where its memory is recycled, and sum up what is still wanted."""
        self.kept.append(_lasting(block))
        if isinstance(block, EventBlock):
            used = np.flatnonzero(block.probe[: block.count] >= 0)
            if self._acceptance_ns > 0.0:
                used = used[block.dwell_ns[used] < self._acceptance_ns]
            used = used[: self._wanted_hits - self._hits]
            yx = block.yx[used]
            np.add.at(self._sum, (yx >> np.uint32(16), yx & np.uint32(0xFFFF)), 1)
            self._hits += used.size
            self._positions |= set(np.unique(block.probe[used]).tolist())
            return
        used = np.flatnonzero(block.probe[: block.count] >= 0)[: self._wanted - self._patterns]
        masked = self._masked()
        for pattern in _some(whole_counts(block).patterns(), used):
            np.add(self._sum, pattern, out=self._sum, dtype=np.int64, casting="unsafe")
        if masked is not None:
            self._sum[masked] = 0
        self._patterns += used.size

    def seen(self) -> tuple[NDArray[np.int64], list[NDArray[Any]]]:
        """Their sum (y, x), and they themselves as arrays (n, y, x), of which hits have none."""
        patterns, wanted = [], self._patterns
        for block in self.kept:
            if isinstance(block, FrameBlock) and wanted:
                used = np.flatnonzero(block.probe[: block.count] >= 0)[:wanted]
                patterns.append(_some(whole_counts(block).patterns(), used))
                wanted -= used.size
        return self._sum, patterns

    def center(self) -> tuple[float, float]:
        """Their centre of mass (y, x) in pixels; the detector's middle without counts."""
        total = int(self._sum.sum())
        if not total:
            return (self._shape[0] - 1) / 2, (self._shape[1] - 1) / 2
        rows, columns = (np.arange(n) for n in self._shape)
        y, x = (self._sum.sum(1) * rows).sum(), (self._sum.sum(0) * columns).sum()
        return float(y / total), float(x / total)

    def counts(self) -> float:
        """Counts a pattern; of events, a position that was hit."""
        return float(self._sum.sum() / max(1, self._patterns + len(self._positions)))

    def disc(self) -> Disc:
        """The undiffracted disc. Raises StemdError where there is none to be seen."""
        return fit_disc(self._sum.astype(np.float64))


def _some(patterns: NDArray[Any], used: NDArray[np.intp]) -> NDArray[Any]:
    """Those of these numbers, ascending; a view where no others lie between them."""
    if used.size and used[-1] - used[0] + 1 == used.size:
        return patterns[used[0] : used[-1] + 1]
    return patterns[used]


def _lasting(block: Block) -> Block:
    """The same block in memory that is not written again, without bytes for a recorder."""
    if isinstance(block, FrameBlock) and block.buffer is None:
        return replace(block, wire=block.wire[:0])
    return copied(block)


def copied(block: Block) -> Block:
    """The same block in memory of its own."""
    n = block.count
    if isinstance(block, EventBlock):
        return replace(
            block, probe=block.probe[:n].copy(), yx=block.yx[:n].copy(),
            dwell_ns=block.dwell_ns[:n].copy(), wire=block.wire[:0], buffer=None,
        )  # fmt: skip
    return part_of(block, 0, n, copy=True)


def part_of(block: FrameBlock, first: int, stop: int, *, copy: bool = False) -> FrameBlock:
    """Frames first..stop-1 of a block; it has no bytes for a recorder if it is a copy."""
    pixels, offset = block.pixels, block.pixel_offset + first * block.stride
    if copy:
        pixels = pixels[offset : block.pixel_offset + stop * block.stride].copy()
        offset = 0
    return replace(
        block, pixels=pixels, pixel_offset=offset, count=stop - first,
        sequence=block.sequence[first:stop].copy(), probe=block.probe[first:stop].copy(),
        wire=block.wire[:0], buffer=None if copy else block.buffer,
    )  # fmt: skip
