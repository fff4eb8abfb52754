"""Tables of masks for `rims`: which cells lie inside them, and the rows of those on their rims."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stemd.blocks import aligned
from stemd.engines.kernels.rims import EVENT, PART, SLOT_BYTES, UNROLLED
from stemd.engines.kernels.vectors import CELL, COLUMN_BYTES, ENTRIES, GROUP_SHIFT, STRIP
from stemd.pixels import Mask

_CELLS = STRIP // CELL


class Packed:
    """Arrays one after another in one array of bytes."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, array: NDArray[np.generic]) -> int:
        """Append an array; returns the byte at which it begins."""
        at, data = self._size, array.tobytes()
        data += bytes(-len(data) % STRIP)
        self._parts.append(data)
        self._size += len(data)
        return at

    def table(self) -> NDArray[np.uint8]:
        """All of them."""
        found = aligned(max(self._size, STRIP))
        found[: self._size] = np.frombuffer(b"".join(self._parts), np.uint8)
        return found


def add_cells(
    masks: NDArray[np.bool_],
    packed: Packed,
    strips: NDArray[np.int64],
    lanes: Mask,
    y: int,
    rows: int,
    bands: int,
    *,
    by_band: bool,
) -> dict[str, int]:
    """Append the tables of a tile for all channels; returns where they are.

    masks: (channels, rows, bytes of a row), of the whole pattern; strips: the bytes at which the
    tile's strips begin; lanes: (strips, STRIP), the bytes of these that count; y: the tile's first
    row, `bands` bands of `rows` rows from there. `by_band`: the rims of each
    band are a group of their own.
    """
    shift = 0 if by_band else GROUP_SHIFT
    places = strips[:, None] + np.arange(STRIP)
    cells_of_row = len(strips) * _CELLS
    counted = lanes.reshape(cells_of_row, CELL)
    row_bytes = masks.shape[2]
    events: list[NDArray[np.int64]] = [np.zeros((0, EVENT + 1), np.int64)]
    rims: list[NDArray[np.int64]] = [np.zeros((0, 3), np.int64)]
    bits: list[Mask] = [np.zeros((0, CELL), np.bool_)]
    for channel, mask in enumerate(masks):
        tile = mask[y : y + rows * bands][:, places] & lanes
        cells = tile.reshape(bands, rows, cells_of_row, CELL)
        outside = counted & ~cells
        added, taken = cells.any(axis=3), outside.any(axis=3)
        # what takes fewer rows: those with pixels inside, or all of the cell less those without
        inside = added.any(axis=1) & (taken.sum(axis=1) < added.sum(axis=1))
        events.append(_events(inside, channel, len(strips)))
        for sign, of_cells, here in ((0, cells, ~inside), (1, outside, inside)):
            band, row, cell = np.nonzero(of_cells.any(axis=3) & here[:, None, :])
            offset = (band * rows + row) * row_bytes + places[cell // _CELLS, 0]
            offset += cell % _CELLS * CELL
            slot = np.full(band.size, 2 * channel + sign)
            rims.append(np.column_stack([band >> shift, slot, offset]))
            bits.append(of_cells[band, row, cell])
    groups = -(-bands // (1 << shift))
    return _event_tables(np.concatenate(events), bands, packed) | _rim_tables(
        np.concatenate(rims), np.concatenate(bits), groups, packed
    )


def _events(inside: Mask, channel: int, strips: int) -> NDArray[np.int64]:
    """Band, source, target and sign where columns of cells (bands, cells) inside begin or end."""
    edges = np.diff(np.pad(inside.astype(np.int8), ((1, 1), (0, 0))), axis=0)
    edges[0] = 0  # nothing has been summed before the first band
    band, cell = np.nonzero(edges)
    source = cell // _CELLS * COLUMN_BYTES + cell % _CELLS * CELL
    target = channel * strips * COLUMN_BYTES + source
    sign = np.where(edges[band, cell] < 0, 0, -1)
    return np.column_stack([band - 1, source, target, sign, np.zeros_like(band)])


def _event_tables(events: NDArray[np.int64], bands: int, packed: Packed) -> dict[str, int]:
    ordered = events[np.argsort(events[:, 0], kind="stable")]
    first = np.searchsorted(ordered[:, 0], np.arange(bands + 1))
    return {
        "event_first": packed.add(first.astype(np.int32)),
        "events": packed.add(ordered[:, 1:].astype(np.int32)),
    }


def _rim_tables(rims: NDArray[np.int64], bits: Mask, groups: int, packed: Packed) -> dict[str, int]:
    """Turns of rows for each group of bands: UNROLLED rows of one slot, filled up to as many."""
    slots = int(rims[:, 1].max(initial=0)) + 1
    order = np.lexsort((rims[:, 1], rims[:, 0]))
    group, slot, offset = rims[order].T
    keys, first, number, count = np.unique(
        group * slots + slot, return_index=True, return_inverse=True, return_counts=True
    )
    filled = -(-count // UNROLLED)  # turns of each group and slot
    start = np.cumsum(filled) - filled
    place = start[number] * UNROLLED + np.arange(order.size) - first[number]
    offsets = np.zeros((filled.sum(), UNROLLED), np.int32)
    inside = np.zeros((filled.sum(), STRIP), np.bool_)
    offsets.reshape(-1)[place] = offset
    inside.reshape(-1, CELL)[place] = bits[order]
    of_key = np.repeat(np.arange(keys.size), filled)
    rank = np.arange(of_key.size) - start[of_key]
    turn_slot, turn_group = keys[of_key] % slots, keys[of_key] // slots
    turns = np.lexsort((turn_slot, rank, turn_group))
    parts, part_first = _parts_of(turn_group[turns], turn_slot[turns], rank[turns], groups, slots)
    return {
        "group_first": packed.add(part_first),
        "parts": packed.add(parts),
        "slots": packed.add((turn_slot[turns] * SLOT_BYTES).astype(np.int32)),
        "offsets": packed.add(offsets[turns]),
        "rims": packed.add(np.packbits(inside[turns], axis=1, bitorder="little")),
    }


def _parts_of(
    group: NDArray[np.int64],
    slot: NDArray[np.int64],
    rank: NDArray[np.int64],
    groups: int,
    slots: int,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The parts of all groups, and the first one of each group.

    group, slot, rank: of each turn, its number among those of its group and slot, in this order.
    No slot gets more than ENTRIES turns between two parts after which its sums are taken out.
    """
    parts: list[list[int]] = []
    firsts: list[int] = []
    used = np.zeros(slots, np.int64)
    stretch = np.searchsorted(group, np.arange(groups + 1))
    for begin, stop in pairwise(stretch.tolist()):
        firsts.append(len(parts))
        ranks = rank[begin:stop] // ENTRIES
        edges = begin + np.searchsorted(ranks, np.arange(int(ranks.max(initial=-1)) + 2))
        for first, last in pairwise(edges.tolist()):
            count = np.bincount(slot[first:last], minlength=slots)
            if (used + count > ENTRIES).any():
                parts[-1][2], used = 1, np.zeros(slots, np.int64)
            used += count
            parts.append([first, last, 0])
    if parts:
        parts[-1][2] = 1
    table = np.array(parts, np.int32).reshape(-1, PART)
    return table, np.array([*firsts, len(parts)], np.int32)
