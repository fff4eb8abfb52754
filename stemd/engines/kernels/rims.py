"""Virtual detectors for the price of their rims, as part of the loop over a tile.

A mask is cut into cells of `BAND` rows and `CELL` bytes. Cells that lie inside it are columns of
running sums, which are there: a channel adds them after the last band of a column of such cells
and takes them off before the first. Cells on its rim are read once more, row by row, while they
are in the nearest cache.
"""

from __future__ import annotations

from typing import Any

from stemd.compilation import later
from stemd.engines.kernels.nearness import ONCE, SECOND
from stemd.engines.kernels.vectors import (
    CELL,
    COLUMN_BYTES,
    GROUP_SHIFT,
    PHASES,
    STRIP,
    TileCode,
    Vectors,
)

ir = later("llvmlite.ir")

UNROLLED = STRIP // CELL
"""Rows of rim cells in one turn, as one vector; the tables are filled up to a multiple."""
EVENT = 4
"""Numbers of an event: from which column, to which, 0 or -1 to add or take off, and nothing."""
PART = 3
"""Numbers of a part of a group's rows: its first turn, its last one + 1, and 1 if the 16-bit sums
are full after it."""
SLOT_BYTES = COLUMN_BYTES + STRIP
"""Of the sums of a slot, which are the rows that a channel adds, or takes off: as for a strip, and
in 32 bits for each of PHASES."""


def begin_rims(v: Vectors, rims: Any, column_bytes: Any, channels: Any) -> None:
    """Clear the columns and the sums of all channels, which lie after one another at `rims`."""
    b = v.b
    each = b.add(column_bytes, v.number(2 * SLOT_BYTES))
    with v.loop(b.udiv(b.mul(each, channels), v.number(STRIP))) as (index, _):
        v.store(ir.Constant(v.shorts, None), v.at(rims, b.mul(index, v.number(STRIP))))


def add_rims(
    v: Vectors, tile: TileCode, band: Any, columns: Any, rims: Any, column_bytes: Any, channels: Any
) -> None:
    """What the masks need after this band: of the columns, and of the rows on their rims."""
    b = v.b
    add_columns(v, tile, band, columns, rims)
    following = b.add(band, v.number(1))
    shift = v.number(GROUP_SHIFT)
    group_ends = b.icmp_signed("==", b.shl(b.lshr(following, shift), shift), following)
    tile_ends = b.icmp_signed("==", following, tile.number["bands"])
    with b.if_then(b.or_(group_ends, tile_ends)):
        slots = v.at(rims, b.mul(column_bytes, channels))
        ahead = v.at(tile.band(following), tile.number["ahead"])  # nobody has asked for it yet
        signed = b.icmp_signed("!=", tile.number["signed"], v.number(0))
        group = b.lshr(band, shift)
        with b.if_else(signed) as (yes, no):
            with yes:
                flip = v.load(v.at(tile.table("lane_masks"), STRIP), v.shorts)
                add_group(v, tile, group, slots, channels, flip=flip, ahead=ahead)
            with no:
                add_group(v, tile, group, slots, channels, ahead=ahead)


def add_columns(v: Vectors, tile: TileCode, band: Any, columns: Any, rims: Any) -> None:
    """Add columns of cells that end with this band, and take off those that begin after it."""
    first = tile.table("event_first")
    with v.loop(v.index(first, v.b.add(band, v.number(1))), v.index(first, band)) as (event, _):
        _add_event(v, tile, event, columns, rims)


def add_group(
    v: Vectors,
    tile: TileCode,
    group: Any,
    slots: Any,
    channels: Any,
    flip: Any = None,
    ahead: Any = None,
) -> None:
    """Add a group of rows of cells, each with its mask, to the sums of their slots.

    `flip`: the bits to be flipped before. One turn adds UNROLLED rows of a slot. Turns of the same
    slot lie apart, since a sum that was stored a moment ago is waited for. Where memory does not
    come by itself, each turn asks for a line of what is next, from `ahead` on: the memory is not
    to wait for rims.
    """
    b, first = v.b, tile.table("group_first")
    with v.loop(v.index(first, b.add(group, v.number(1))), v.index(first, group)) as (part, _):
        place = b.mul(part, v.number(PART))
        begin, stop, full = (
            v.index(tile.table("parts"), b.add(place, v.number(index))) for index in range(PART)
        )
        with v.loop(stop, begin) as (turn, _):
            if ahead is not None:
                line = v.at(ahead, b.mul(b.sub(turn, begin), v.number(STRIP)))
                _ask_ahead(v, tile, line)
            _add_turn(v, tile, turn, slots, flip)
        with b.if_then(b.icmp_signed("!=", full, v.number(0))):
            _take_out(v, slots, channels)


def _add_event(v: Vectors, tile: TileCode, event: Any, columns: Any, rims: Any) -> None:
    """Add the running sums of a column of cells to those of a channel, or take them off."""
    b = v.b
    place = b.mul(event, v.number(EVENT))
    source, target, sign = (
        v.index(tile.table("events"), b.add(place, v.number(index))) for index in range(3)
    )
    word = b.trunc(sign, v.word)
    vector = b.insert_element(ir.Constant(v.cell_words, ir.Undefined), word, ir.Constant(v.word, 0))
    everywhere = ir.Constant(ir.VectorType(v.word, v.cell_words.count), [0] * v.cell_words.count)
    vector = b.shuffle_vector(vector, ir.Constant(v.cell_words, ir.Undefined), everywhere)
    signs = b.bitcast(vector, v.cell_shorts)
    for half in (0, STRIP):
        value = v.load(v.at(columns, source, half), v.cell_shorts)
        here = v.at(rims, target, half)
        signed = b.sub(b.xor(value, signs), signs)
        v.store(b.add(v.load(here, v.cell_shorts), signed), here)


def _ask_ahead(v: Vectors, tile: TileCode, line: Any) -> None:
    """Ask for a line of memory that is read once; what is received into stays in the caches."""
    for nearness in (SECOND, ONCE):
        with v.b.if_then(v.b.icmp_signed("==", tile.nearness, v.number(nearness))):
            v.prefetch(line, nearness)


def _add_turn(v: Vectors, tile: TileCode, turn: Any, slots: Any, flip: Any) -> None:
    b = v.b
    row = b.mul(turn, v.number(UNROLLED))
    offsets = [
        v.index(tile.table("offsets"), b.add(row, v.number(index))) for index in range(UNROLLED)
    ]
    values = v.joined([v.load(v.at(tile.base, each), v.cell_shorts) for each in offsets])
    bits = v.load(v.at(tile.table("rims"), b.mul(turn, v.number(STRIP // 8))), v.long)
    values = v.where(bits, values if flip is None else b.xor(values, flip))
    here = v.at(slots, v.index(tile.table("slots"), turn))
    odd = v.at(here, STRIP)
    v.store(b.add(v.load(here, v.shorts), values), here)
    values = b.lshr(values, v.all(v.shorts, 8))
    v.store(b.add(v.load(odd, v.shorts), values), odd)


def _take_out(v: Vectors, slots: Any, channels: Any) -> None:
    """Add 16-bit sums of slots to their 32-bit ones, and begin them anew."""
    b = v.b
    with v.loop(b.mul(channels, v.number(2))) as (slot, _):
        here = v.at(slots, b.mul(slot, v.number(SLOT_BYTES)))
        places = (here, v.at(here, STRIP))
        for index, value in enumerate(v.phases(*(v.load(each, v.shorts) for each in places))):
            total = v.at(here, COLUMN_BYTES + index * CELL)
            v.store(b.add(v.load(total, v.cell_words), v.folded(value, v.cell_words)), total)
        for each in places:
            v.store(ir.Constant(v.shorts, None), each)


def channel_sums(
    v: Vectors, tile: TileCode, rims: Any, column_bytes: Any, channels: Any, out: Any
) -> None:
    """Each channel's sum for each phase: its columns, its rows, less the rows that are outside."""
    b, strip_count = v.b, tile.number["strips"]
    sums = v.at(rims, b.mul(column_bytes, channels))
    totals = [v.variable(v.words) for _ in range(PHASES)]
    with v.loop(channels) as (channel, _):
        v.clear(*totals)
        mine = v.at(rims, b.mul(channel, column_bytes))
        with v.loop(strip_count) as (strip, _):
            here = v.at(mine, b.mul(strip, v.number(COLUMN_BYTES)))
            columns = (v.load(v.at(here, place), v.shorts) for place in (0, STRIP))
            for total, part in zip(totals, v.phases(*columns), strict=True):
                v.add(total, part)
        inside = v.at(sums, b.mul(channel, v.number(2 * SLOT_BYTES)), COLUMN_BYTES)
        for phase, total in enumerate(totals):
            added, taken = (
                v.load(v.at(inside, half + phase * CELL), v.cell_words) for half in (0, SLOT_BYTES)
            )
            place = b.add(b.mul(channel, v.number(PHASES)), v.number(phase))
            rows = b.sub(added, taken)
            value = v.total_32(b.add(v.folded(b.load(total), v.cell_words), rows))
            b.store(value, b.gep(out, [place]))
