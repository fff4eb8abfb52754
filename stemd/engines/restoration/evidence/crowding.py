"""How much less is known of a column's height where others stand close by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit
from stemd.engines.restoration.evidence.columns import RIDGE

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Mask = NDArray[np.bool_]

NEXT, LEAST_OWN = 12, 0.05
"""Columns beside one that are looked at, and the least part of a column that is its own."""


def crowded(places: I64, profile: F64) -> F64:
    """Factor (n,), 1 or more, on the deviation of heights at `places` (n, 2) found all at once.

    What is known of a column beside others is what its `profile` (2 r + 1, 2 r + 1) has
    that theirs have not: the root of 1 / (1 - r' R^-1 r), for the products r of its profile with
    those of the `NEXT` nearest ones and R of these with each other, over the profile's square.
    """
    if not len(places):
        return np.empty(0)
    reach = len(profile) - 1
    products = np.empty((2 * reach + 1, 2 * reach + 1))
    _products(profile, np.pad(profile, reach), products)
    order, first = cells(places, reach)
    factor = np.empty(len(places))
    _crowded(places, products / products.max(), order, first, factor)
    return factor


def alone(places: I64, height: F64, shown: Mask, apart: float) -> Mask:
    """Which of `places` (n, 2) are `shown`, or have no higher and no shown one within `apart`."""
    out = shown.copy()
    if len(places):
        order, first = cells(places, apart)
        _mark_alone(places, height, shown, apart, order, first, out)
    return out


def cells(places: I64, side: float) -> tuple[I64, I64]:
    """Places (n, 2) by square cells: their numbers in the order of cells, and each cell's first.

    `first` is (cells along y, cells along x + 1).
    """
    cell = (places // max(1, int(np.ceil(side)))).astype(np.int64)
    across = int(cell[:, 1].max()) + 1
    key = cell[:, 0] * across + cell[:, 1]
    order = np.argsort(key, kind="stable")
    down = int(cell[:, 0].max()) + 1
    edges = np.searchsorted(key[order], np.arange(down * across + 1))
    index = np.arange(down)[:, None] * across + np.arange(across + 1)[None]
    return order, edges[index]


@njit(nogil=True, cache=True)
def _mark_alone(
    places: I64, height: F64, shown: Mask, apart: float, order: I64, first: I64, out: Mask
) -> None:
    side = max(1, int(np.ceil(apart)))
    rows, across = first.shape
    for n in range(places.shape[0]):
        if shown[n]:
            continue
        out[n] = True
        row, column = places[n, 0] // side, places[n, 1] // side
        for k in range(max(0, row - 1), min(rows, row + 2)):
            for q in range(first[k, max(0, column - 1)], first[k, min(across - 1, column + 2)]):
                m = order[q]
                dy, dx = places[m, 0] - places[n, 0], places[m, 1] - places[n, 1]
                higher = shown[m] or height[m] > height[n] or (height[m] == height[n] and m < n)
                if m != n and higher and dy * dy + dx * dx < apart * apart:
                    out[n] = False


@njit(nogil=True, cache=True)
def _products(profile: F64, padded: F64, out: F64) -> None:
    """Scalar products of a profile (n, n) with itself, moved by -(n - 1) to n - 1 pixels."""
    n = profile.shape[0]
    for dy in range(out.shape[0]):
        for dx in range(out.shape[1]):
            total = 0.0
            for j in range(n):
                for i in range(n):
                    total += profile[j, i] * padded[dy + j, dx + i]
            out[dy, dx] = total


@njit(nogil=True, cache=True)
def _crowded(places: I64, products: F64, order: I64, first: I64, factor: F64) -> None:
    reach = products.shape[0] // 2
    rows, across = first.shape
    near = np.empty(NEXT, np.int64)
    apart = np.empty(NEXT)
    r, v = np.empty(NEXT), np.empty(NEXT)
    triangle = np.empty((NEXT, NEXT))
    for n in range(places.shape[0]):
        count = 0
        row, column = places[n, 0] // reach, places[n, 1] // reach
        for k in range(max(0, row - 1), min(rows, row + 2)):
            for q in range(first[k, max(0, column - 1)], first[k, min(across - 1, column + 2)]):
                m = order[q]
                dy, dx = places[m, 0] - places[n, 0], places[m, 1] - places[n, 1]
                if m == n or max(abs(dy), abs(dx)) > reach:
                    continue
                at = min(count, NEXT - 1)
                square = float(dy * dy + dx * dx)
                if count == NEXT and square >= apart[at]:
                    continue
                count = min(count + 1, NEXT)
                while at > 0 and apart[at - 1] > square:
                    apart[at], near[at] = apart[at - 1], near[at - 1]
                    at -= 1
                apart[at], near[at] = square, m
        # Cholesky: R = L L', L v = r; what the others explain is v' v
        explained = 0.0
        for a in range(count):
            y, x = places[near[a], 0], places[near[a], 1]
            r[a] = products[reach + y - places[n, 0], reach + x - places[n, 1]]
            for b in range(a + 1):
                dy, dx = y - places[near[b], 0], x - places[near[b], 1]
                value = 0.0
                if max(abs(dy), abs(dx)) <= reach:
                    value = products[reach + dy, reach + dx]
                if a == b:
                    value += RIDGE
                for c in range(b):
                    value -= triangle[a, c] * triangle[b, c]
                if a == b:
                    triangle[a, a] = np.sqrt(max(value, RIDGE))
                else:
                    triangle[a, b] = value / triangle[b, b]
            value = r[a]
            for c in range(a):
                value -= triangle[a, c] * v[c]
            v[a] = value / triangle[a, a]
            explained += v[a] * v[a]
        factor[n] = 1.0 / np.sqrt(max(1.0 + RIDGE - explained, LEAST_OWN))
