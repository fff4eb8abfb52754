"""How the stored values of a file become the counts that engines add up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from stemd.blocks import Notice
from stemd.errors import FormatError
from stemd.pixels import Mask, alone_or_together, full_scale

CountType = Literal["u1", "u2", "u4", "u8", "i4"]
SAMPLES = 16
"""Patterns all over a file that are looked at before the first is read."""
_MOST = 2**32 - 1
"""Larger counts could make sums beyond 64 bits, which would turn negative."""
_ENOUGH = 4
"""So many patterns must have the largest value in a pixel before it counts as masked."""
_RARE = 1e-3
"""Part of the values of all other pixels: more that are negative are a background taken off."""
_FULL = [65_535.0, 2.0**31 - 1, 2.0**31, 2.0**32 - 1, 2.0**32]
"""The largest values of integer types, as real numbers have them that were made of such."""
_NUMBERS = 1e-30, 1e30
"""Between these the largest of real numbers must lie, so that images of 32 bits can hold sums."""


class Counts:
    """The type of the counts, what one of them is worth (`scale`), and which pixels are left out.

    Unsigned integers are passed on as stored. Signed integers and real numbers become int32; the
    latter in steps of `scale`, a power of two that `sample` decides. Values that are not finite
    are 0 and are counted, and so are the few negative integers of a file that has hardly any: they
    mark what has no value. `mask` (height, width) is True where a pixel has no value: what the
    file's own mask says, and where all patterns of the sample have the largest value of their
    type, or of an integer type of which real numbers were made, which cameras write there, have
    one negative number, or are not finite. A beam may saturate 8 bits: of these only pixels count
    as masked that stand alone or in lines, unless the writer is one that masks so (`marks`).
    Without a `sample` nothing is looked at.
    Several threads may convert at a time. Raises FormatError for what are no numbers.
    """

    def __init__(
        self,
        stored: np.dtype[Any],
        name: str,
        sample: Callable[[], NDArray[Any]] | None,
        mask: Mask | None = None,
        *,
        marks: bool = False,
    ) -> None:
        if stored.kind not in "uifb":
            raise FormatError(f"{name}: patterns of type {stored} are not counts", "give numbers")
        self._name, self._lock = name, threading.Lock()
        self._tally: NDArray[np.int64] = np.zeros(3, np.int64)
        self._empty = self._unknown = 0
        self._few_negative = False
        self._notices: list[Notice] = []
        self._plain = stored.kind in "ub"
        self.scale = 1.0
        self.type = cast(CountType, f"u{stored.itemsize}" if self._plain else "i4")
        self.mask: Mask | None = mask if mask is not None and mask.any() else None
        looked_at = not self._plain or (stored.kind == "u" and stored.itemsize <= 4)
        if sample is not None and looked_at:
            self._look(stored, sample(), marks=marks)

    def _look(self, stored: np.dtype[Any], sample: NDArray[Any], *, marks: bool) -> None:
        enough = sample.shape[0] >= _ENOUGH
        if stored.kind == "f":
            self._leave_out(~np.isfinite(sample).any(axis=0))
            if enough:
                same = (sample == sample[0]).all(axis=0)
                self._leave_out(np.asarray(same & np.isin(sample[0].astype("f8"), _FULL)))
            self._choose_steps(stored, self._used(sample))
        elif enough:
            full = full_scale(sample)
            self._leave_out(full if marks or stored.itemsize > 1 else alone_or_together(full)[0])
        if stored.kind in "if" and (gaps := self._gaps(sample)).any():
            self._leave_out(gaps)
            count = int(np.count_nonzero(gaps))
            text = (
                f"{count:,} pixels have one negative number in all patterns that were looked at, "
                "as gaps between modules and broken pixels are marked: they do not count"
            )
            self._notices.append(Notice("marked_pixels", text, "info", count=count))
        if stored.kind == "i":
            used = self._used(sample)
            self._few_negative = bool(np.count_nonzero(used < 0) <= _RARE * used.size)

    def _used(self, sample: NDArray[Any]) -> NDArray[Any]:
        """The values of the pixels that count."""
        return sample if self.mask is None else sample[:, ~self.mask]

    def _choose_steps(self, stored: np.dtype[Any], used: NDArray[Any]) -> None:
        """In which steps real numbers are counted."""
        # numba takes long to import, and integers need none
        from stemd.adapters.recordings.fixed_point import exponent_for

        self._refuse_what_no_image_holds(used)
        exponent = exponent_for(used)
        self.scale = 2.0**exponent
        step = "1" if exponent == 0 else f"2^{exponent}"
        text = f"patterns of type {stored} are counted in steps of {step} ({self.scale:.6g})"
        sizes = np.abs(used[np.isfinite(used) & (used != 0)])
        if exponent > 0 and np.mean(sizes < self.scale / 2) > 0.5:
            text += f": most values are smaller, since the largest is {sizes.max():.3g}"
            remedy = "set pixels that have no value to NaN in the file"
            self._notices.append(Notice("fixed_point", text, remedy=remedy))
        else:
            self._notices.append(Notice("fixed_point", text, "info"))

    def _gaps(self, sample: NDArray[Any]) -> Mask:
        """Pixels of one whole negative value in all patterns, where hardly any other is negative.

        Where a background was taken off, others are.
        """
        first = sample[0]
        gaps = np.asarray((sample == first).all(axis=0) & (first < 0) & (first == np.rint(first)))
        if self.mask is not None:
            gaps &= ~self.mask
        if len(sample) < _ENOUGH or not gaps.any() or gaps.all():
            return np.zeros_like(gaps)
        others = sample[:, ~gaps]
        return gaps & (np.count_nonzero(others < 0) <= _RARE * others.size)

    def _refuse_what_no_image_holds(self, sample: NDArray[Any]) -> None:
        finite = np.abs(sample[np.isfinite(sample)])
        largest = float(finite.max(initial=0.0))
        if largest and not _NUMBERS[0] <= largest <= _NUMBERS[1]:
            raise FormatError(
                f"{self._name}: the largest value that was looked at is {largest:.3g}: images of "
                "32-bit numbers cannot hold its sums",
                "multiply the patterns with a number, so that one electron is about 1",
            )

    def _leave_out(self, found: Mask) -> None:
        both = found if self.mask is None else self.mask | found
        if found.any() and not both.all():
            self.mask = both

    @property
    def notices(self) -> Sequence[Notice]:
        """What was found on opening, and in the patterns so far."""
        with self._lock:
            strange, cut, rounded = (int(n) for n in self._tally)
            unknown = self._unknown
            found = list(self._notices)
            if self._empty:
                text = f"{self._empty:,} patterns have no value: they count as missing"
                found.append(Notice("empty_patterns", text, count=self._empty))
        remedy = "look at the values in the file"
        for kind, count, text in (
            ("not_finite", strange, "values are not finite: they count as 0"),
            (
                "no_values",
                unknown,
                "values are negative, as of pixels without one: they count as 0",
            ),
            ("values_cut", cut, "values are far beyond those looked at first: they were cut"),
            ("values_rounded", rounded, "values have fractions: they were rounded"),
        ):
            if count:
                found.append(Notice(kind, f"{count:,} {text}", count=count, remedy=remedy))
        return found

    def of(self, patterns: NDArray[Any], first: int) -> tuple[NDArray[Any], Mask | None]:
        """Counts (n, height, width) of stored patterns, and which patterns have no value at all.

        What they hold at masked pixels means nothing. `first` is the number of the first pattern.
        Raises FormatError for integers beyond 32 bits.
        """
        if self._plain:
            if patterns.dtype.itemsize > 4 and patterns.max(initial=0) > _MOST:
                raise self._beyond(first)
            return patterns, None
        if patterns.dtype.kind == "i":
            return self._whole(patterns, first), None
        return self._fixed(patterns)

    def _whole(self, patterns: NDArray[Any], first: int) -> NDArray[Any]:
        counts: NDArray[Any] = patterns.astype(np.int32)
        if patterns.dtype.itemsize > 4 and not np.array_equal(counts, patterns):
            raise self._beyond(first)
        if self._few_negative and counts.min(initial=0) < 0:
            negative = counts < 0
            if self.mask is not None:
                negative[:, self.mask] = False
            counts[negative] = 0
            with self._lock:
                self._unknown += int(np.count_nonzero(negative))
        return counts

    def _beyond(self, first: int) -> FormatError:
        return FormatError(
            f"{self._name}: near pattern {first} there are values beyond 32 bits",
            "look at where the values come from: no camera counts that high",
        )

    def _fixed(self, patterns: NDArray[Any]) -> tuple[NDArray[Any], Mask]:
        count, pixels = patterns.shape[0], patterns[0].size
        kind = np.float32 if patterns.dtype.itemsize <= 4 else np.float64
        values = np.ascontiguousarray(patterns, kind).reshape(count, pixels)
        out, empty = np.empty((count, pixels), np.int32), np.zeros(count, np.bool_)
        used = np.ones(pixels, np.bool_) if self.mask is None else ~self.mask.ravel()
        tally = np.zeros(3, np.int64)
        from stemd.adapters.recordings.fixed_point import to_fixed_point

        to_fixed_point(values, 1.0 / self.scale, used, out, empty, tally)
        if tally.any():
            tally[0] -= int(empty.sum()) * int(used.sum())
            with self._lock:
                self._tally += tally
                self._empty += int(empty.sum())
        return out.reshape(patterns.shape), empty
