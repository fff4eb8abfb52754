"""Counts that are none of electrons as they stand: other byte order, scaled, negative, all alike.

And arrays whose axes somebody has taken the other way round.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Detector
from stemd.blocks import Level, Notice
from stemd.engines.base import Gathered
from stemd.engines.vectors import stretches

_SOME = 4096
"""Values of a pattern that are looked at for a common divisor, and in whole rows for the byte
order."""
DIFFERENT = 8
"""Patterns of fewer different values say nothing of a divisor. In a file they may be computed ones
without noise: that all are alike is then only remarked."""
ROUGHER, ROUGH = 3.0, 0.2
"""Bright pixels in the wrong byte order differ from their neighbours by so many times more, for
their sum, and by this part of it at least."""
BRIGHTEST = 0.995
"""Part of the pixels of a pattern that are no brighter than its few brightest."""
_NONE = -1
"""No pattern's checksum."""
LEAST_SAMPLES, LEAST_COUNTS = 4, 1000
"""Fewer patterns and counts say nothing."""
LEAST_LIT = 8
"""Patterns with counts in fewer pixels are alike because they are empty but for hot pixels."""
LEAST_ALIKE = 16
"""So many patterns that are the same to the count are no chance."""
CONTRAST, TIMES = 0.7, 3.0
"""Axes are doubted where the sums of the positions vary by so much of their mean, and so many times
more than the pixels of the mean pattern."""
OUTLIER, LOOKED_AT_OF_TOTALS = 8.0, 1 << 16
"""Of a position's sum only so many times the median counts, of at most so many positions: a damaged
frame is no sign of other axes."""
RARE = 1e-3
"""Part of the values: fewer that are negative are marks of broken pixels."""

OF_BYTES = "write the file again with the byte order that its header says"
OF_STEPS = "divide the counts by that number if it is one electron"
OF_ALIKE = "does the camera send its test pattern, or one pattern again and again?"
OF_NEGATIVE = "take off less, or set what is below 0 to 0"
OF_AXES = "stemd takes (y, x, ky, kx): write the array with its axes in this order"


class OddCounts:
    """Adds patterns up in numbers that tell such things; one thread at a time."""

    def __init__(self, detector: Detector, shape: tuple[int, int], *, files: bool) -> None:
        self._real_numbers, self._files = detector.scale != 1.0, files
        self._divisor = 0
        self._first: NDArray[np.integer[Any]] | None = None
        self._checksum, self._alike, self._measured = _NONE, True, False
        self._lit = False  # whether a pattern has counts in more than a few pixels
        # patterns, values, of which negative; counts, differences of neighbours; swapped likewise
        self._numbers = np.zeros(7, np.float64)
        # at least four rows are left, of the narrowest pattern that has as many
        self._each = max(1, min(shape[0] // 4, shape[0] * shape[1] // _SOME))
        self._sum = np.zeros((-(-shape[0] // self._each), shape[1]), np.float64)

    def add(self, pattern: NDArray[np.integer[Any]], *, thorough: bool = True) -> None:
        """One more pattern, (y, x), in the machine's byte order.

        Only when `thorough` its values are looked at for their divisor and their roughness.
        """
        now = self._numbers
        now[0] += 1
        now[1] += pattern.size
        if self._alike:
            self._compare_with_first(pattern)
        if pattern.dtype.kind == "i":
            now[2] += np.count_nonzero(pattern < 0)
        if thorough and self._divisor != 1:
            some = np.unique(np.abs(pattern.ravel()[:: max(1, pattern.size // _SOME)]))
            if some.size > DIFFERENT:
                self._divisor = math.gcd(self._divisor, *map(int, some[some > 0]))
                self._measured = True
        if not self._files:
            return
        rows = pattern[:: self._each]
        self._sum += rows
        if thorough and pattern.dtype.kind == "u" and pattern.dtype.itemsize > 1:
            now[3:5] += _rough(rows)
            now[5:7] += _rough(rows.byteswap())

    def gathered(self) -> Gathered:
        """All of it, for `merge`."""
        divisor = np.array([self._divisor], np.int64)
        alike = np.array([self._checksum, self._alike, self._measured, self._lit], np.int64)
        return {"odd": self._numbers, "divisor": divisor, "sum": self._sum, "alike": alike}

    def merge(self, gathered: Gathered) -> None:
        """Add what was seen of another part."""
        self._numbers += gathered["odd"]
        self._divisor = math.gcd(self._divisor, int(gathered["divisor"][0]))
        self._sum += gathered["sum"]
        checksum, alike, measured, lit = map(int, gathered["alike"])
        self._compare(checksum)
        self._alike = self._alike and bool(alike)
        self._measured = self._measured or bool(measured)
        self._lit = self._lit or bool(lit)

    def _compare_with_first(self, pattern: NDArray[np.integer[Any]]) -> None:
        if self._first is None:
            self._first = pattern.copy()
            self._compare(zlib.crc32(self._first.tobytes()))
            self._lit = self._lit or bool(np.count_nonzero(pattern) >= LEAST_LIT)
        elif not np.array_equal(pattern, self._first):
            self._alike = False

    def _compare(self, checksum: int) -> None:
        if _NONE not in (checksum, self._checksum):
            self._alike = self._alike and checksum == self._checksum
        self._checksum = max(checksum, self._checksum)

    def notices(self, totals: NDArray[np.signedinteger[Any]]) -> list[Notice]:
        """What is to be said of the scan; `totals`: counts of the positions that are done."""
        seen, values, negative, counts, rough, swapped, rough_swapped = self._numbers
        if seen < LEAST_SAMPLES or _size_of(totals) < LEAST_COUNTS:
            return []
        said = []
        rougher = rough > ROUGH * counts and rough * swapped > ROUGHER * rough_swapped * counts > 0
        whole = 0 if self._real_numbers else self._divisor  # else it tells of their steps alone
        if rougher or (self._files and whole % 256 == 0 and whole):
            text = "the bytes of the pixels are in the other order, as it seems: " + (
                f"all counts are multiples of {whole:,}"
                if whole and whole % 256 == 0
                else "neighbouring pixels differ far more than they would in that one"
            )
            said.append(Notice("byte_order", text, remedy=OF_BYTES))
        elif whole > 1:
            text = (
                f"all counts are multiples of {whole:,}: they are no single electrons, and "
                "doses and standard errors are wrong by as much"
            )
            said.append(Notice("counts_in_steps", text, remedy=OF_STEPS))
        if self._alike and self._lit and seen >= LEAST_ALIKE:
            said.append(self._identical(seen))
        if negative > RARE * values:
            text = (
                f"{negative / values:.1%} of the values are negative, as of a background that was "
                "taken off: airpi, direct and ssb take them for 0, and sums do not"
            )
            level: Level = "info" if self._real_numbers else "warning"
            said.append(Notice("negative_counts", text, level, remedy=OF_NEGATIVE))
        if self._files and self._are_swapped(totals):
            text = (
                "the sums of the positions vary more than the pixels of the mean pattern: are the "
                "axes of the array (ky, kx, y, x)?"
            )
            said.append(Notice("axes_doubted", text, remedy=OF_AXES))
        return said

    def _identical(self, seen: float) -> Notice:
        text = f"all {seen:,.0f} patterns that were looked at are the same to the count"
        if self._files and not self._measured:
            text += ": they are without noise, as computed ones are, and show no specimen"
            return Notice("identical_patterns", text, "info")
        text += ", as no electrons make them: no image shows anything of a specimen"
        return Notice("identical_patterns", text, remedy=OF_ALIKE)

    def _are_swapped(self, totals: NDArray[np.signedinteger[Any]]) -> bool:
        if min(self._sum.shape) < 4 or np.count_nonzero(totals > 0) < 64:
            return False
        some = totals[:: totals.size // LOOKED_AT_OF_TOTALS | 1]
        most = OUTLIER * float(np.median(some[some > 0])) if some.any() else np.inf
        positions, pixels = _contrast(totals, lit=True, most=most), _contrast(self._sum)
        return positions > CONTRAST and positions > TIMES * pixels


def _rough(pattern: NDArray[np.integer[Any]]) -> tuple[float, float]:
    """Of neighbours that are both brighter than the mean: the sum, and that of their differences.

    There neighbours are alike, but for chance; the edges of a disc are no sign of anything, and
    the few brightest pixels, hot ones perhaps, count as what is just below them.
    """
    values = pattern.astype(np.float64)
    highest = min(values.size - 1, int(BRIGHTEST * values.size))
    values = np.minimum(values, np.partition(values, highest, axis=None)[highest])
    left, right = values[:, :-1], values[:, 1:]
    lit = np.minimum(left, right) > values.mean()
    return float(left[lit].sum()), float(np.abs(left - right)[lit].sum())


def _size_of(totals: NDArray[np.signedinteger[Any]]) -> float:
    """The counts of all positions, whatever their sign."""
    parts = (totals[first:stop] for first, stop in stretches(0, totals.size))
    return sum(float(np.abs(part).sum(dtype=np.float64)) for part in parts)


def _contrast(values: NDArray[Any], *, lit: bool = False, most: float = np.inf) -> float:
    """The standard deviation over the mean; `lit`: of values above 0, `most`: of larger ones only
    so much. In parts: it may be many."""
    flat = values.reshape(-1)

    def parts() -> Iterator[NDArray[np.float64]]:
        for first, stop in stretches(0, flat.size):
            part = flat[first:stop]
            yield np.minimum((part[part > 0] if lit else part).astype(np.float64), most)

    count = sum(part.size for part in parts())
    mean = sum(float(part.sum()) for part in parts()) / max(1, count)
    square = sum(float(((part - mean) ** 2).sum()) for part in parts()) / max(1, count)
    return math.sqrt(square) / mean if mean > 0.0 else 0.0
