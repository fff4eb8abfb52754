"""Counts that every pixel has in every pattern: an offset of the camera, and no electrons.

Electrons come by chance: a pixel with n of them on average has root n more or less from pattern to
pattern. An offset, or a dark image that was not taken off, does not change. It makes the centre of
mass as many times smaller as there are more counts, and with it every image that follows from it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Detector
from stemd.blocks import Notice
from stemd.engines.base import Gathered

SOME = 4096
"""Pixels of a pattern that are looked at, in whole rows."""
LEAST_SEEN = 16
"""Fewer patterns do not say how much the counts change."""
LIT = 0.5
"""Part of the pixels with counts below which there is no offset."""
STEADY = 0.5
"""Roots of the mean by which the lowest count of all patterns is below it at the most: of sixteen
patterns of electrons it is 1.8, of 64 2.4."""
LEAST_SHARE = 0.2
"""Part of all counts that is told."""


class OffsetCounts:
    """Adds patterns up in numbers that tell it; one thread at a time."""

    def __init__(self, detector: Detector, shape: tuple[int, int]) -> None:
        self._counts = detector.scale == 1.0  # of real numbers nobody knows what one electron is
        self._each = max(1, min(shape[0] // 4, shape[0] * shape[1] // SOME))
        rows = -(-shape[0] // self._each), shape[1]
        self._seen = np.zeros(1, np.int64)
        self._sum = np.zeros(rows, np.float64)
        self._least = np.full(rows, np.inf)

    def add(self, pattern: NDArray[np.integer[Any]]) -> None:
        """One more pattern, (y, x)."""
        if not self._counts:
            return
        rows = pattern[:: self._each]
        self._seen += 1
        self._sum += rows
        np.minimum(self._least, rows, out=self._least)

    def gathered(self) -> Gathered:
        """All of it, for `merge`."""
        return {"offset": self._seen, "offset_sum": self._sum, "offset_least": self._least}

    def merge(self, gathered: Gathered) -> None:
        """Add what was seen of another part."""
        self._seen += gathered["offset"]
        self._sum += gathered["offset_sum"]
        np.minimum(self._least, gathered["offset_least"], out=self._least)

    def notices(self) -> list[Notice]:
        """What is to be said of the scan."""
        seen = int(self._seen[0])
        lit = self._sum > 0
        if seen < LEAST_SEEN or np.count_nonzero(lit) < LIT * lit.size:
            return []
        mean, least = self._sum[lit] / seen, self._least[lit]
        if (mean == least).all():  # patterns that are all the same are told as such
            return []
        dark = mean <= np.quantile(mean, 0.25)
        level, lowest = float(np.median(mean[dark])), float(np.median(least[dark]))
        share = lowest * mean.size / float(mean.sum())
        if lowest < 1.0 or level - lowest > STEADY * math.sqrt(level) or share < LEAST_SHARE:
            return []
        text = (
            f"every pixel has {lowest:,.0f} counts or more in every pattern, {share:.0%} of all "
            "counts, and they do not change as electrons do: an offset of the camera"
        )
        return [
            Notice(
                "offset_counts",
                text,
                remedy="take the dark image off before: com, ricom and icom are as much too weak, "
                "doses too large, and no lens can be trusted",
            )
        ]
