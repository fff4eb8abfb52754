"""Patterns of real numbers as whole ones in small steps, so that their sums stay exact."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit

SAMPLE_BITS = 27
"""The largest value that was looked at takes so many bits; 31 are there, so that one 16 times
larger still fits."""
LARGEST = 2.0**31 - 1.0


def exponent_for(sample: NDArray[Any]) -> int:
    """e, so that values in steps of 2**e fit: 0 where all values looked at are whole."""
    finite = sample[np.isfinite(sample)].astype(np.float64)
    largest = float(np.max(np.abs(finite), initial=0.0))
    if largest == 0.0 or (largest < 2.0**30 and np.array_equal(finite, np.rint(finite))):
        return 0
    return math.frexp(largest)[1] - SAMPLE_BITS


@njit(nogil=True, cache=True)
def to_fixed_point(values, factor, used, out, empty, tally):  # type: ignore[no-untyped-def]
    """Round values times `factor` to whole numbers; what is not finite or not used becomes 0.

    values: float (patterns, pixels). used: bool (pixels,). out: int32 (patterns, pixels), written.
    empty: bool (patterns,), written: no used pixel of the pattern is finite. tally: int64 (3,),
    added to: used values that are not finite, that are too large and were cut, that were rounded
    although the step is 1.
    """
    for pattern in range(values.shape[0]):
        finite = 0
        for pixel in range(values.shape[1]):
            value = np.float64(values[pattern, pixel]) * factor
            if not used[pixel]:
                out[pattern, pixel] = 0
                continue
            if not np.isfinite(value):
                tally[0] += 1
                out[pattern, pixel] = 0
                continue
            finite += 1
            whole = np.rint(value)
            if abs(whole) > LARGEST:
                tally[1] += 1
                whole = LARGEST if whole > 0.0 else -LARGEST
            elif factor == 1.0 and whole != value:
                tally[2] += 1
            out[pattern, pixel] = np.int32(whole)
        empty[pattern] = finite == 0
