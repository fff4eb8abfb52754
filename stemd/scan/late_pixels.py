"""Pixels that become hot while a scan goes on, after the first patterns have decided its mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Detector
from stemd.blocks import Notice
from stemd.engines.bad_pixels import find_bad_pixels, may_be_hot
from stemd.engines.base import Gathered
from stemd.pixels import Mask, listed
from stemd.scan.dead_in_part import dead_in_part, sum_of

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
        fewer = max(1, -(-most * size // MOST_BYTES))
        self._each = every * fewer
        self._shape, self._most = shape, -(-most // fewer)
        self._whole = shape == detector.shape
        self._depth = detector.bit_depth or 8 * np.dtype(detector.dtype).itemsize
        self._real_numbers = detector.scale != 1.0
        self._kept: list[tuple[int, NDArray[np.integer[Any]]]] = []
        self._room: NDArray[np.integer[Any]] | None = None
        self._used = 0

    def room_for(self, position: int, dtype: np.dtype[Any]) -> NDArray[np.integer[Any]] | None:
        """Memory (y, x) for a pattern that is to be kept, see `add`; None where it is not.

        All of it is one array, of which Linux gives large pages: fresh small ones cost three times
        the copy that fills them.
        """
        # of a detector of which only some rows are looked at nobody sees which pixel stands alone
        if not self._whole or self._real_numbers or position % self._each:
            return None
        if self._room is None or self._used == len(self._room) or self._room.dtype != dtype:
            self._room, self._used = np.empty((self._most, *self._shape), dtype), 0
        self._used += 1
        return np.asarray(self._room[self._used - 1])

    def add(self, position: int, pattern: NDArray[np.integer[Any]]) -> None:
        """Keep a pattern (y, x), 0 where pixels do not count; it must not be written again."""
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
        """What is to be said of the scan."""
        if len(self._kept) < LEAST:
            return []
        self._kept.sort(key=lambda each: each[0])
        patterns = [_counts(pattern) for _, pattern in self._kept]
        positions = [position for position, _ in self._kept]
        said = dead_in_part(patterns, positions, 2**self._depth - 1)
        late = self._late(patterns)
        if not late.any():
            return said
        there = np.array([pattern[late].sum(dtype=np.int64) for pattern in patterns])
        quarter = len(patterns) // 4
        first = int(np.argmax(there > 0.5 * float(there[-quarter:].mean())))
        text = (
            f"{np.count_nonzero(late)} pixels became hot during the scan: {listed(late)}, from "
            f"about position {self._kept[first][0]:,} on"
        )
        count = int(np.count_nonzero(late))
        return [Notice("late_pixels", text, count=count, remedy=REMEDY), *said]

    def _late(self, patterns: Sequence[NDArray[np.unsignedinteger[Any]]]) -> Mask:
        """Pixels that are hot in the last half or quarter, and were not at the beginning."""
        half, quarter = len(patterns) // 2, len(patterns) // 4
        before = sum_of(patterns[:quarter]) / quarter
        end = sum_of(patterns[-quarter:])
        found = np.zeros(before.shape, np.bool_)
        largest = 2**self._depth - 1
        for count, total in ((half, end + sum_of(patterns[-half:-quarter])), (quarter, end)):
            risen = total / count > TIMES * before
            if not (risen & may_be_hot(total, count, largest)).any():
                continue
            some = [pattern[None] for pattern in patterns[-count:]]
            bad = find_bad_pixels(total, some, largest)
            found |= (bad.hot | bad.saturated) & risen
        return found


def _counts(pattern: NDArray[np.integer[Any]]) -> NDArray[np.unsignedinteger[Any]]:
    if pattern.dtype.kind == "i":
        pattern = np.maximum(pattern, 0)
    return pattern.view(f"u{pattern.dtype.itemsize}")
