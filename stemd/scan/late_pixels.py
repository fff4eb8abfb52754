"""Pixels that become hot while a scan goes on, after the first patterns have decided its mask."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Detector
from stemd.blocks import Notice
from stemd.engines.bad_pixels import find_bad_pixels
from stemd.engines.base import Gathered
from stemd.pixels import Mask, listed

MOST_BYTES = 8 * 1024 * 1024
"""Of patterns that are kept."""
LEAST = 16
"""Fewer patterns say nothing."""
TIMES = 4.0
"""A pixel that has become hot counts so many times more at the end than at the beginning."""
REMEDY = (
    "they count from there on: process the record again with these pixels in optics.mask; with "
    "optics.mask = 'auto' the next scan leaves them out"
)


class LatePixels:
    """Keeps some patterns of one scan; one thread at a time.

    `shape`: rows and columns of what is given; `every`: positions from one pattern to the next.
    """

    def __init__(self, detector: Detector, shape: tuple[int, int], every: int, most: int) -> None:
        size = shape[0] * shape[1] * np.dtype(detector.dtype).itemsize
        self._each = every * max(1, -(-most * size // MOST_BYTES))
        self._whole = shape == detector.shape
        self._depth = detector.bit_depth or 8 * np.dtype(detector.dtype).itemsize
        self._real_numbers = detector.scale != 1.0
        self._kept: list[tuple[int, NDArray[np.integer[Any]]]] = []

    def add(self, position: int, pattern: NDArray[np.integer[Any]]) -> None:
        """One more pattern (y, x), 0 where pixels do not count; it must not be written again."""
        # of a detector of which only some rows are looked at nobody sees which pixel stands alone
        if self._whole and not self._real_numbers and position % self._each == 0:
            self._kept.append((position, pattern))

    def gathered(self) -> Gathered:
        """All of it, for `merge`."""
        if not self._kept:
            return {}
        return {
            "late_at": np.array([position for position, _ in self._kept], np.int64),
            "late": np.stack([pattern for _, pattern in self._kept]),
        }

    def merge(self, gathered: Gathered) -> None:
        """Add what was seen of another part of the same scan."""
        if "late" in gathered:
            self._kept += zip(gathered["late_at"].tolist(), gathered["late"], strict=True)

    def notices(self) -> list[Notice]:
        """What is to be said of the scan, in one notice."""
        if len(self._kept) < LEAST:
            return []
        self._kept.sort(key=lambda each: each[0])
        patterns = np.stack([pattern for _, pattern in self._kept])
        patterns = np.maximum(patterns, 0).astype(f"u{patterns.dtype.itemsize}")
        late = self._late(patterns)
        if not late.any():
            return []
        there = patterns[:, late].sum(axis=1, dtype=np.int64)
        quarter = len(patterns) // 4
        first = int(np.argmax(there > 0.5 * float(there[-quarter:].mean())))
        text = (
            f"{np.count_nonzero(late)} pixels became hot during the scan: {listed(late)}, from "
            f"about position {self._kept[first][0]:,} on"
        )
        return [Notice("late_pixels", text, count=int(np.count_nonzero(late)), remedy=REMEDY)]

    def _late(self, patterns: NDArray[np.unsignedinteger[Any]]) -> Mask:
        """Pixels that are hot in the last half or quarter, and were not at the beginning."""
        count = len(patterns)
        quarter = count // 4
        before = patterns[:quarter].mean(axis=0)
        found = np.zeros(before.shape, np.bool_)
        for some in (patterns[-(count // 2) :], patterns[-quarter:]):
            total = some.sum(axis=0, dtype=np.int64)
            bad = find_bad_pixels(total, [some], 2**self._depth - 1)
            found |= (bad.hot | bad.saturated) & (some.mean(axis=0) > TIMES * before)
        return found
