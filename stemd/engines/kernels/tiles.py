"""What the fused kernel reads of a pattern: tiles of whole vectors, without what is masked.

Masked rows are not read at all. Masked columns, and everything as tall, are taken off again as
`Bands` of one vector a row, while the row is at hand. What is left of a mask, single pixels
mostly, is taken off afterwards as runs.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemd.engines.kernels.dots import CHUNK_COLUMNS, LANES, MAX_BANDS, MAX_BITS
from stemd.pixels import Mask, Rectangle, rectangles_of, runs_of

TALL = 8
"""Rows from which on a masked rectangle costs less in bands than as runs."""


class Tiles(NamedTuple):
    """How a pattern is read, for `reduce_frames`."""

    tiles: NDArray[np.int64]
    """(n, 6): first column, columns, first and last row + 1, first and last band + 1."""
    bands: NDArray[np.int64]
    """(n,): the column of its tile at which each band begins; it is LANES wide."""
    band_weights: NDArray[np.int16]
    """(n, 2, LANES): of a masked column -1 and minus its weight in the tile, else 0."""
    read: NDArray[np.int64]
    """(3,): pixels that the tiles count (and what no vector holds), sums of their y and x."""
    runs: NDArray[np.int64]
    """(n, 3): y, x_first, x_stop of the masked pixels among these."""


def tiles_of(shape: tuple[int, int], bits: int, masked: Mask | None) -> Tiles:
    """The tiles of patterns (height, width) with pixels of `bits` bits; `masked`: (y, x)."""
    height, width = shape
    vectors = width // LANES * LANES if bits <= MAX_BITS else 0
    counted = np.ones(shape, np.bool_)
    left = np.zeros(shape, np.bool_) if masked is None else masked.copy()
    empty = np.asarray(left.all(axis=1))
    counted[empty, :vectors] = False
    left &= counted
    tiles: list[list[int]] = []
    bands: list[int] = []
    weights: list[NDArray[np.int64]] = []
    for x in range(0, vectors, CHUNK_COLUMNS):
        columns = min(CHUNK_COLUMNS, vectors - x)
        tall = [
            (y, x + a, y_stop, x + b)
            for y, a, y_stop, b in rectangles_of(left[:, x : x + columns])
            if y_stop - y >= TALL
        ]
        edges = {0, height, *np.flatnonzero(np.diff(empty, prepend=False)).tolist()}
        edges |= {y for rectangle in tall for y in (rectangle[0], rectangle[2])}
        rows = sorted(edges)
        for y, y_stop in pairwise(rows):
            if empty[y]:
                continue
            here = [each for each in tall if each[0] <= y and each[2] >= y_stop]
            first = len(bands)
            for at, taken in _bands(here, x + columns):
                bands.append(at - x)
                column = np.arange(at, at + LANES)
                weight = column - x - columns // 2
                weights.append(np.stack([-1 * taken, -weight * taken]))
                counted[y:y_stop, column[taken]] = False
            tiles.append([x, columns, y, y_stop, first, len(bands)])
    read_y, read_x = np.nonzero(counted)
    return Tiles(
        np.array(tiles, np.int64).reshape(-1, 6),
        np.array(bands, np.int64),
        np.array(weights, np.int16).reshape(-1, 2, LANES),
        np.array([read_y.size, read_y.sum(), read_x.sum()], np.int64),
        runs_of(left & counted),
    )


def _bands(rectangles: list[Rectangle], stop: int) -> list[tuple[int, NDArray[np.bool_]]]:
    """First columns of up to MAX_BANDS bands below `stop`, and which of their columns they take.

    All columns of the rectangles, or of the first of them.
    """
    columns = sorted({x for _, first, _, end in rectangles for x in range(first, end)})
    found: list[tuple[int, NDArray[np.bool_]]] = []
    while columns and len(found) < MAX_BANDS:
        at = min(columns[0], stop - LANES)
        inside = [x for x in columns if x < at + LANES]
        taken = np.zeros(LANES, np.bool_)
        taken[np.array(inside) - at] = True
        found.append((at, taken))
        columns = columns[len(inside) :]
    return found
