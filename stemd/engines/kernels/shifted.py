"""Compiled: how much of correlations there is where a matrix shifts them to."""

from __future__ import annotations

from stemd.compilation import njit


@njit(nogil=True, cache=True)
def add_shifted(maps, apart, numbers, step, totals):
    """Add up the correlations at the shifts that each matrix makes, between pixels, 0 outside.

    maps: float64 (pairs, 2 ny, 2 nx), no shift in the middle; apart: float64 (pairs, 2), y and x;
    numbers: float64 (n, 4): z, x, y and w of ((z + x, y - w), (y + w, z - x)); step: of the pixels
    in the matrices' unit; totals: float64 (n,), added to.
    """
    rows, columns = maps.shape[1], maps.shape[2]
    for n in range(totals.size):
        z, x, y, w = numbers[n, 0], numbers[n, 1], numbers[n, 2], numbers[n, 3]
        total = 0.0
        for pair in range(maps.shape[0]):
            dy, dx = apart[pair, 0], apart[pair, 1]
            at_y = ((z + x) * dy + (y - w) * dx) / step + rows // 2
            at_x = ((y + w) * dy + (z - x) * dx) / step + columns // 2
            if not (0.0 <= at_y < rows - 1 and 0.0 <= at_x < columns - 1):
                continue
            row, column = int(at_y), int(at_x)
            v, u = at_y - row, at_x - column
            one = maps[pair]
            total += (1.0 - v) * ((1.0 - u) * one[row, column] + u * one[row, column + 1])
            total += v * ((1.0 - u) * one[row + 1, column] + u * one[row + 1, column + 1])
        totals[n] += total
