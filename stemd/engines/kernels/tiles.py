"""What the fused kernel reads of a pattern: tiles of whole vectors, without what is masked.

Masked rows are not read at all. Masked columns, and everything as tall, are zeroed while the row
is at hand. What is left of a mask, single pixels mostly, is taken off afterwards as runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import gcd
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemd.engines.kernels.rim_tables import Packed, add_cells
from stemd.engines.kernels.vectors import (
    BAND,
    IN_REGISTERS,
    MAX_ROWS,
    MAX_STRIPS,
    PHASES,
    ROW_BY_ROW,
    STRIP,
    STRIP_BY_STRIP,
    TILE,
)
from stemd.pixels import Mask, Rectangle, rectangles_of, runs_of

TALL = 8
"""Rows from which on masked columns cost less zeroed in their strips than as runs."""
AHEAD_BYTES = 6144
"""How far ahead memory is asked for (measured on 256 x 256 x uint16, AMD EPYC of the first
generation: 11.0 microseconds a pattern, with 2048 15, with 3840 11.9, without 21)."""
FEWEST_STRIPS, FEW_CHANNELS = 16, 4
"""Rows of fewer strips come from memory in order only if their sums stay in registers, and with
more channels only rows of twice as many: sums that are stored for each row take twice the time,
which memory does not give, and a cache even less."""
TWICE = 2
"""Rows of so many times the strips that stay in registers are read in so many parts where they are
in a cache, which has no order: 10.7 instead of 20.9 microseconds for 512 x 512 x uint16."""
_PLACES = 2
"""Bytes of the largest pixels that are read in order."""
_BIAS_I4 = 1 << 31


class PatternPlan(NamedTuple):
    """How patterns of one shape and type are reduced, for `reduce_frames`."""

    tiles: NDArray[np.int64]
    """(n, len(TILE)): offsets and sizes in bytes and in rows as they are read, see `_tile`."""
    table: NDArray[np.uint8]
    """(bytes,): the tables of all tiles."""
    sizes: NDArray[np.int64]
    """(6,): bytes of a row as it is read, rows in one of these, the first row of the pattern that
    no tile holds, the number of channels, bytes of a pixel, 1 if pixels are signed."""
    read: NDArray[np.int64]
    """(3 + channels,): what has to be added to the sum, to the moments y and x, and to the
    channels, since the signs of pixels were flipped."""
    runs: NDArray[np.int64]
    """(n, 3): y, x_first, x_stop of the masked pixels that are taken off again."""
    rest: NDArray[np.int64]
    """Weights of a row of pixels, (width,) each: ones, x, and for each row that no tile holds and
    each channel 1 where a pixel belongs to it."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Rows as they are read: `folded` rows of the pattern in one, `row_bytes` bytes of it."""

    folded: int
    row_bytes: int
    rows: int
    rest: int

    @classmethod
    def of(cls, height: int, width: int, size: int) -> _Layout:
        row_bytes = width * size
        folded = 1 if row_bytes >= STRIP else STRIP // gcd(row_bytes, STRIP)
        rows = height // folded if size <= PHASES else 0
        return cls(folded, row_bytes * folded, rows, rows * folded)

    def strips(self) -> list[NDArray[np.int64]]:
        """The bytes at which each tile's strips begin; the last one may overlap another."""
        every = np.arange(0, self.row_bytes, STRIP)
        every[-1] = self.row_bytes - STRIP
        return np.array_split(every, range(MAX_STRIPS, every.size, MAX_STRIPS))


def plan_of(
    shape: tuple[int, int],
    dtype: str,
    masked: Mask | None,
    channels: Sequence[Mask],
    *,
    big_endian: bool = False,
    in_order: bool = False,
    once: bool = False,
) -> PatternPlan:
    """The plan for patterns (height, width) of "u1" to "u8" or "i4"; masks are (y, x).

    `channels` are summed; they must not hold masked pixels. `in_order`: rows are read one after
    another where that is possible and faster, see `in_order`; `once`: what comes from memory and is
    in no cache.
    """
    size, signed = np.dtype(dtype).itemsize, dtype.startswith("i")
    height, width = shape
    layout = _Layout.of(height, width, size)
    counted = np.ones(shape, np.bool_)
    left = np.zeros(shape, np.bool_) if masked is None else masked.copy()
    empty = np.zeros(layout.rows, np.bool_)
    tall: list[tuple[int, int, int, int]] = []
    if layout.folded == 1 and layout.rows:
        empty = np.asarray(left.all(axis=1))
        counted[empty] = False
        left[empty] = False
        tall = [each for each in rectangles_of(left) if each[2] - each[0] >= TALL]
        for y, x, y_stop, x_stop in tall:
            counted[y:y_stop, x:x_stop] = False
    packed, lanes = Packed(), _Lanes(signed, big_endian)
    masks = _bytes_of(channels, layout, size)
    rows: list[dict[str, int]] = []
    for y, y_stop in _stretches(layout.rows, empty, tall):
        zeroed = np.zeros(layout.row_bytes, np.bool_)
        for _, x, _, x_stop in (each for each in tall if each[0] <= y and each[2] >= y_stop):
            zeroed[x * size : x_stop * size] = True
        for strips in layout.strips():
            inside = ~zeroed[strips[:, None] + np.arange(STRIP)]
            if strips[-1] == layout.row_bytes - STRIP:  # what it shares with the one before
                inside[-1, : -layout.row_bytes % STRIP] = False
            kinds = lanes.kinds(inside)
            row = _tile(layout, size, strips, kinds, packed)
            for y_part, band_rows, bands in _parts(y, y_stop):
                row |= {"first": y_part * layout.row_bytes, "y": y_part * layout.folded}
                row |= {"rows": band_rows, "bands": bands}
                order = STRIP_BY_STRIP
                if in_order and size <= _PLACES:
                    order = _order(strips, kinds, band_rows, len(channels), once=once)
                row["order"] = order
                by_band = order != STRIP_BY_STRIP
                cells = add_cells(
                    masks, packed, strips, inside, y_part, band_rows, bands, by_band=by_band
                )
                rows.append(row | cells)
    for_all = {"lane_masks": packed.add(lanes.table()), "signed": int(signed)}
    tiles = [[(row | for_all)[name] for name in TILE] for row in rows]
    sizes = [layout.row_bytes, layout.folded, layout.rest, len(channels), size, signed]
    return PatternPlan(
        np.array(tiles, np.int64).reshape(-1, len(TILE)),
        packed.table(),
        np.array(sizes, np.int64),
        _bias(counted[: layout.rest], [mask[: layout.rest] for mask in channels], signed),
        runs_of(left & counted),
        np.concatenate([np.ones(width, np.int64), np.arange(width), *_rows_left(channels, layout)]),
    )


def _order(
    strips: NDArray[np.int64], kinds: NDArray[np.int64], rows: int, channels: int, *, once: bool
) -> int:
    """How a tile of pixels of one or two bytes is read in order, if it is wide enough for that."""
    whole = rows == BAND and bool((kinds < 0).all()) and strips[-1] == (strips.size - 1) * STRIP
    most = max(IN_REGISTERS)
    if not once:
        if whole and strips.size in IN_REGISTERS:
            return strips.size
        return most if whole and strips.size == TWICE * most else STRIP_BY_STRIP
    # the memory waits for rims, of which narrow rows have many a byte
    many = channels > FEW_CHANNELS
    if whole and strips.size in IN_REGISTERS and not many and (not channels or strips.size == most):
        return strips.size
    return ROW_BY_ROW if strips.size >= FEWEST_STRIPS * (1 + many) else STRIP_BY_STRIP


class _Lanes:
    """The different masks of a strip's bytes, and which bits of it are flipped."""

    def __init__(self, signed: bool, big_endian: bool) -> None:
        self._flips = np.zeros(STRIP, np.uint8)
        self._flips[0 if big_endian else 3 :: 4] = 0x80 if signed else 0
        self._every = [np.ones(STRIP, np.bool_)]
        self._signed = signed

    def kinds(self, inside: Mask) -> NDArray[np.int64]:
        """The number of each strip's mask (strips, STRIP); -1 for what is added as it is."""
        return np.array([self._kind(mask) for mask in inside], np.int64)

    def _kind(self, mask: Mask) -> int:
        if mask.all() and not self._signed:
            return -1
        for number, other in enumerate(self._every):
            if np.array_equal(mask, other):
                return number
        self._every.append(mask)
        return len(self._every) - 1

    def table(self) -> NDArray[np.uint8]:
        """(masks, 2, STRIP): all bits of a byte where it counts, and those to be flipped."""
        return np.stack([[mask * np.uint8(255), self._flips] for mask in self._every])


def _rows_left(channels: Sequence[Mask], layout: _Layout) -> list[NDArray[np.int64]]:
    """The masks in the rows that no tile holds, a row of all channels after another."""
    if not channels:
        return []
    return [np.stack(channels, axis=1)[layout.rest :].astype(np.int64).ravel()]


def _bytes_of(channels: Sequence[Mask], layout: _Layout, size: int) -> NDArray[np.bool_]:
    """The masks by the bytes of rows as they are read: (channels, rows, bytes)."""
    shape = (len(channels), layout.rows, layout.row_bytes)
    if not channels or not layout.rows:
        return np.zeros(shape, np.bool_)
    return np.repeat(np.stack(channels)[:, : layout.rest], size, axis=2).reshape(shape)


def _stretches(
    rows: int, empty: NDArray[np.bool_], tall: Sequence[Rectangle]
) -> list[tuple[int, int]]:
    """Rows first, stop that are read and have the same masked columns."""
    edges = {0, rows, *np.flatnonzero(np.diff(empty, prepend=False)).tolist()}
    edges |= {y for rectangle in tall for y in (rectangle[0], rectangle[2])}
    return [(y, stop) for y, stop in pairwise(sorted(edges)) if not empty[y]]


def _parts(y: int, stop: int) -> list[tuple[int, int, int]]:
    """First row, rows of a band and bands of the tiles that are these rows."""
    found = []
    for first in range(y, stop, MAX_ROWS):
        rows = min(MAX_ROWS, stop - first)
        if rows >= BAND:
            found.append((first, BAND, rows // BAND))
        if rows % BAND:
            found.append((first + rows - rows % BAND, rows % BAND, 1))
    return found


def _tile(
    layout: _Layout,
    size: int,
    strips: NDArray[np.int64],
    kinds: NDArray[np.int64],
    packed: Packed,
) -> dict[str, int]:
    """What a tile of these strips has whatever its rows."""
    row_bytes = layout.row_bytes // layout.folded
    x_first = int(strips[0]) // size if layout.folded == 1 else 0
    place = (strips[:, None] + np.arange(STRIP)).reshape(-1, STRIP // PHASES, PHASES)
    weights = np.stack([place % row_bytes // size - x_first, place // row_bytes], axis=1)
    return {
        "ahead": AHEAD_BYTES,
        "strips": strips.size,
        "at": packed.add(strips),
        "kinds": packed.add(kinds),
        "weights": packed.add(weights.transpose(0, 1, 3, 2).astype(np.uint32)),
        "folded": layout.folded - 1,
        "x": x_first,
    }


def _bias(counted: Mask, channels: Sequence[Mask], signed: bool) -> NDArray[np.int64]:
    """See `PatternPlan.read`; the masks are those of pixels in tiles."""
    if not signed:
        return np.zeros(3 + len(channels), np.int64)
    y, x = np.nonzero(counted)
    counts = [y.size, y.sum(), x.sum(), *(np.count_nonzero(mask) for mask in channels)]
    return -_BIAS_I4 * np.array(counts, np.int64)
