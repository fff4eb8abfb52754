"""The way that a specimen drifts: from frame to frame it changes a little."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit

F64 = NDArray[np.float64]

AWAY = 3.0
"""Deviations of its error at which a frame is no longer believed as much as the others."""
TURNS = 3
"""Solutions, each with the weights of the frames by the one before."""


def smooth(shifts: F64, information: F64, change_px: float) -> F64:
    """Likeliest path (n, 2) of shifts (n, 2) with errors of variance 1 / `information` (2,).

    From frame to frame the drift changes by a normal step of deviation `change_px`. Errors have
    the tails of Student's t: a frame that was found elsewhere by chance does not bend the path.
    """
    path = np.array(shifts, np.float64)
    if len(shifts) < 3:
        return path
    trust = np.ones(len(shifts))
    for _ in range(TURNS):
        for axis in (0, 1):
            path[:, axis] = _solved(trust * information[axis], change_px**2, shifts[:, axis])
        away = (np.square(shifts - path) * information).sum(axis=1)
        trust = 1.0 / (1.0 + away / AWAY**2)
    return path


def freedom(count: int, information: F64, change_px: float) -> float:
    """Numbers of the `count` shifts, two each, that such a path leaves to them."""
    bend = np.square(2.0 - 2.0 * np.cos(np.pi * np.arange(count) / count))
    bend[:2] = 0.0  # a straight line
    return float((1.0 / (1.0 + bend[:, None] / (information * change_px**2))).sum())


@njit(nogil=True, cache=True)
def _solved(weight: F64, square: float, values: F64) -> F64:
    """x of least sum weight (x - values)^2 + sum (second difference of x)^2 / square.

    Symmetric and pentadiagonal, by L D L^T.
    """
    n = weight.size
    middle, beside, far = weight * square, np.zeros(n), np.zeros(n)
    for j in range(n - 2):
        middle[j] += 1.0
        middle[j + 1] += 4.0
        middle[j + 2] += 1.0
        beside[j] -= 2.0
        beside[j + 1] -= 2.0
        far[j] = 1.0
    x = weight * square * values
    one, two = np.zeros(n), np.zeros(n)
    for j in range(n):
        if j > 0:
            middle[j] -= one[j - 1] ** 2 * middle[j - 1]
            beside[j] -= one[j - 1] * two[j - 1] * middle[j - 1]
            x[j] -= one[j - 1] * x[j - 1]
        if j > 1:
            middle[j] -= two[j - 2] ** 2 * middle[j - 2]
            x[j] -= two[j - 2] * x[j - 2]
        one[j], two[j] = beside[j] / middle[j], far[j] / middle[j]
    for j in range(n - 1, -1, -1):
        x[j] /= middle[j]
        if j + 1 < n:
            x[j] -= one[j] * x[j + 1]
        if j + 2 < n:
            x[j] -= two[j] * x[j + 2]
    return x
