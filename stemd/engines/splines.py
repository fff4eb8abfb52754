"""Images between their pixels, by a cubic B-spline that goes through them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.engines.kernels.spline import read_spline, spline_weights


def read_at(
    coefficients: NDArray[np.float32], y: NDArray[np.floating], x: NDArray[np.floating]
) -> NDArray[np.float32]:
    """A cubic B-spline at rows `y` (n,) and columns `x` (m,), in pixels: float32 (n, m).

    `coefficients` float32 (h, w), mirrored half a pixel outside.
    """
    sides: list[NDArray[Any]] = []
    for places, size in zip((y, x), coefficients.shape, strict=True):
        numbers, weights = np.empty((places.size, 4), np.int64), np.empty((places.size, 4), "f4")
        spline_weights(places.astype(np.float64), size, numbers, weights)
        sides += [numbers, weights]
    out = np.empty((y.size, x.size), np.float32)
    read_spline(coefficients, sides[0], sides[1], sides[2], sides[3], out)
    return out


def spline_response(size: int, count: int) -> NDArray[np.float32]:
    """What a B-spline's coefficients are multiplied by at the pixels, float32 (count,).

    For frequency n of `size`, n = 0..count-1: divide a transform by it for the coefficients.
    """
    return ((4.0 + 2.0 * np.cos(2.0 * np.pi * np.arange(count) / size)) / 6.0).astype(np.float32)
