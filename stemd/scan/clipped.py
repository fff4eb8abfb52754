"""Counters at their maximum: counts that were not counted make every sum and centre wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Detector
from stemd.blocks import Notice
from stemd.engines.base import Gathered
from stemd.pixels import Mask, alone_or_together, listed

LEAST_SHARE = 0.02
"""This part of all counts is worth a word. Pixels that stand alone have notices of their own."""
PILED, NEAR = 20, 0.9
"""A depth that nobody tells shows: so many pixels have one value, just below a power of two, and
more than have the values down to this part of it."""
LEAST_DEPTH = 6
LEAST_OF_ONE_BIT, LOST_OF_ONE_BIT = 16, 0.1
"""Patterns of one bit that are needed to say anything, and the lost part that is worth a word."""
REMEDY = (
    "less dose, a shorter dwell time or a deeper counter; sums, virtual detectors and centres of "
    "mass are too small there"
)


class ClippedCounts:
    """What is at its maximum in patterns of one scan; one thread at a time."""

    def __init__(self, detector: Detector, shape: tuple[int, int]) -> None:
        size = 8 * np.dtype(detector.dtype).itemsize - (detector.dtype[0] == "i")
        self._largest = 2 ** min(detector.bit_depth or size, size) - 1
        self._marks = self._largest == 2**size - 1 and size > 8
        self._real_numbers = detector.scale != 1.0
        # patterns, of which wholly at the maximum; pixels, the value at which they end
        self._numbers = np.zeros(4, np.float64)
        self._full = np.zeros(shape, np.int64)
        """How often each pixel was at the maximum."""

    def add(self, pattern: NDArray[np.integer], pixels: int) -> None:
        """One more pattern (y, x), of which so many pixels count."""
        if self._real_numbers:
            return
        top = int(pattern.max(initial=0))
        now = self._numbers
        now[0] += 1
        now[2] += pixels
        if self._may_be_clipped(pattern, top):
            full = pattern == top
            self._full += full
            now[1] += np.count_nonzero(full) == pixels
            now[3] = max(now[3], top)

    def _may_be_clipped(self, pattern: NDArray[np.integer], top: int) -> bool:
        if top >= self._largest:
            return True
        if top + 1 < 1 << LEAST_DEPTH or (top + 1) & top:
            return False
        piled = np.count_nonzero(pattern == top)
        return bool(piled >= PILED and 2 * piled > np.count_nonzero(pattern >= NEAR * top))

    def gathered(self) -> Gathered:
        """All of it, for `merge` elsewhere."""
        return {"numbers": self._numbers, "full": self._full}

    def merge(self, gathered: Gathered) -> None:
        """Add what was seen of another part of the same scan."""
        top = max(self._numbers[3], gathered["numbers"][3])
        self._numbers += gathered["numbers"]
        self._numbers[3] = top
        self._full += gathered["full"]

    def notices(self, totals: NDArray[np.signedinteger]) -> list[Notice]:
        """What is to be said of the scan; nothing where nothing of weight is at its maximum.

        `totals`: counts of the positions that are done.
        """
        seen, whole, pixels, top = self._numbers
        if not seen:
            return []
        if self._largest == 1:
            return self._of_one_bit(int(seen))
        alone, together = alone_or_together(self._full > 0)
        full = int(self._full[together].sum())
        counts = seen * float(totals.mean()) if totals.size else 0.0
        marked = alone & (self._full < seen)
        said = []
        if self._marks and top == self._largest and marked.any():
            said.append(self._of_marks(marked, int(seen)))
        if not full or counts <= 0.0 or (full * top < LEAST_SHARE * counts and not whole):
            return said
        share = min(1.0, full * top / counts)
        text = (
            f"pixels are at the counter's maximum of {top:,.0f}: {full / pixels:.1%} of those in "
            f"{seen:,.0f} patterns that were looked at, with {share:.0%} of the counts"
        )
        if whole:
            text += f"; in {whole:,.0f} of them all pixels are"
        text += ". What came beyond was not counted"
        return [*said, Notice("clipped_counts", text, remedy=REMEDY)]

    def _of_marks(self, marked: Mask, seen: int) -> Notice:
        """Pixels that have the largest value of their type now and then, each for itself."""
        count = int(np.count_nonzero(marked))
        text = (
            f"{count} pixels have the largest value of their type, {self._largest:,}, in some of "
            f"the {seen:,} patterns that were looked at, as cameras mark what has no value, and it "
            f"is counted: {listed(marked)}"
        )
        remedy = "list them in optics.mask, or set what has no value to 0 in the file"
        return Notice("full_values", text, count=count, remedy=remedy)

    def _of_one_bit(self, seen: int) -> list[Notice]:
        """Hits on pixels that had one already, by Poisson's law from how often each was hit."""
        if seen < LEAST_OF_ONE_BIT:
            return []
        often = np.minimum(self._full / seen, 1.0 - 0.5 / seen)
        came = float(-np.log1p(-often).sum())
        lost = 1.0 - float(often.sum()) / came if came else 0.0
        if lost < LOST_OF_ONE_BIT:
            return []
        text = (
            f"about {lost:.0%} of the electrons fell on pixels that had one already, which a "
            f"counter of 1 bit does not count (in {seen:,} patterns that were looked at)"
        )
        return [Notice("clipped_counts", text, remedy=REMEDY)]
