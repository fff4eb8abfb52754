"""Sums of patterns added to maps of 32 bits, as long as they fit."""

from __future__ import annotations

import numpy as np

from stemd.compilation import njit

_MOST = np.int64(2**31 - 1)


@njit(nogil=True, cache=True)
def add_narrow(sums, probe, total, moment_y, moment_x, detectors):
    """Add the sums of patterns to their positions; returns how many were added before one too many.

    sums: int64 (3 + detectors, n): of each pattern the sum, the moments y and x, and its
    detectors. probe: int64 (n,), -1 = belongs to no position. total, moment_y, moment_x: int32
    (positions,), detectors: int32 (n, positions). Of the first pattern with a sum that does not fit
    nothing is added.
    """
    for i in range(probe.size):
        position = probe[i]
        if position < 0:
            continue
        fits = abs(total[position] + sums[0, i]) <= _MOST
        fits &= abs(moment_y[position] + sums[1, i]) <= _MOST
        fits &= abs(moment_x[position] + sums[2, i]) <= _MOST
        for k in range(detectors.shape[0]):
            fits &= abs(detectors[k, position] + sums[3 + k, i]) <= _MOST
        if not fits:
            return i
        total[position] += np.int32(sums[0, i])
        moment_y[position] += np.int32(sums[1, i])
        moment_x[position] += np.int32(sums[2, i])
        for k in range(detectors.shape[0]):
            detectors[k, position] += np.int32(sums[3 + k, i])
    return probe.size


def warm() -> None:
    """Compile the kernel of this module."""
    maps = (np.zeros(1, np.int32) for _ in range(3))
    add_narrow(np.zeros((4, 1), np.int64), np.zeros(1, np.int64), *maps, np.zeros((1, 1), np.int32))
