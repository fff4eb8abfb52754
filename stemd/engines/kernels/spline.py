"""Compiled reading of images between their pixels."""

from __future__ import annotations

import numpy as np

from stemd.compilation import njit


@njit(nogil=True, cache=True)
def spline_weights(places, size, first, weights):
    """What four coefficients of a cubic B-spline give at `places`, float64 (n,), in pixels.

    first: int64 (n, 4), the coefficients' numbers, mirrored half a pixel outside of 0..size-1;
    weights: float32 (n, 4). Written.
    """
    for n in range(places.size):
        whole = np.floor(places[n])
        t = places[n] - whole
        weights[n, 0] = (1.0 - t) ** 3 / 6.0
        weights[n, 1] = 2.0 / 3.0 - t * t * (1.0 - 0.5 * t)
        weights[n, 2] = 2.0 / 3.0 - (1.0 - t) ** 2 * (0.5 + 0.5 * t)
        weights[n, 3] = t**3 / 6.0
        for j in range(4):
            i = (np.int64(whole) - 1 + j) % (2 * size)
            first[n, j] = min(i, 2 * size - 1 - i)


@njit(nogil=True, cache=True)
def read_spline(coefficients, rows, row_weights, columns, column_weights, out):
    """Values of a spline at all pairs of rows and columns; see `spline_weights`.

    coefficients: float32 (h, w); out: float32 (rows, columns). 10 ns a value.
    """
    line = np.empty(coefficients.shape[1], np.float32)
    for n in range(rows.shape[0]):
        line[:] = 0
        for j in range(4):
            source = coefficients[rows[n, j]]
            weight = row_weights[n, j]
            for x in range(line.size):
                line[x] += weight * source[x]
        for m in range(columns.shape[0]):
            total = np.float32(0.0)
            for j in range(4):
                total += column_weights[m, j] * line[columns[m, j]]
            out[n, m] = total
