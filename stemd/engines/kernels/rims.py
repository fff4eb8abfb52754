"""Virtual detectors for the price of their rims, as part of the loop over a tile.

A mask is cut into cells of `BAND` rows and `CELL` bytes. Cells that lie inside it are columns of
running sums, which are there: a channel adds them after the last band of a column of such cells
and takes them off before the first. Cells on its rim are read once more, row by row, while they
are in the nearest cache.
"""

from __future__ import annotations

from typing import Any

from stemd.compilation import later
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

UNROLLED = 4
"""Rows of rim cells in one turn; the tables are filled up to a multiple."""
EVENT = 4
"""Numbers of an event: from which column, to which, 0 or -1 to add or take off, and nothing."""
CHUNK = 3
"""Numbers of a chunk of rows: where its sums go, its first row, its last one + 1."""


def begin_rims(v: Vectors, rims: Any, column_bytes: Any, channels: Any) -> None:
    """Clear the columns and the sums of all channels, which lie after one another at `rims`."""
    b = v.b
    columns = b.udiv(b.mul(column_bytes, channels), v.number(STRIP))
    with v.loop(b.add(columns, b.mul(channels, v.number(2)))) as (index, _):
        v.store(ir.Constant(v.shorts, None), v.at(rims, b.mul(index, v.number(STRIP))))


def add_rims(v: Vectors, tile: TileCode, band: Any, columns: Any, rims: Any, sums_at: Any) -> None:
    """What the masks need after this band: of the columns, and of the rows on their rims."""
    b = v.b
    one = v.number(1)
    following = b.add(band, one)
    first = tile.table("event_first")
    with v.loop(v.index(first, following), v.index(first, band)) as (event, _):
        _add_columns(v, tile, event, columns, rims)
    group_ends = b.icmp_signed(
        "==", b.and_(following, v.number((1 << GROUP_SHIFT) - 1)), v.number(0)
    )
    tile_ends = b.icmp_signed("==", following, tile.number["bands"])
    with b.if_then(b.or_(group_ends, tile_ends)):
        group = b.lshr(band, v.number(GROUP_SHIFT))
        first = tile.table("group_first")
        with v.loop(v.index(first, b.add(group, one)), v.index(first, group)) as (chunk, _):
            _add_rows(v, tile, chunk, v.at(rims, sums_at))


def _add_columns(v: Vectors, tile: TileCode, event: Any, columns: Any, rims: Any) -> None:
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


def _add_rows(v: Vectors, tile: TileCode, chunk: Any, sums: Any) -> None:
    """Add rows of cells, each with its mask, to the sums of a channel."""
    b = v.b
    place = b.mul(chunk, v.number(CHUNK))
    target, first, stop = (
        v.index(tile.table("chunks"), b.add(place, v.number(index))) for index in range(3)
    )
    both, odd = v.variable(v.cell_shorts), v.variable(v.cell_shorts)
    v.clear(both, odd)
    turns = v.number(UNROLLED)

    def add_all(flip: Any) -> None:
        with v.loop(b.udiv(stop, turns), b.udiv(first, turns)) as (turn, _):
            for index in range(UNROLLED):
                row = b.add(b.mul(turn, turns), v.number(index))
                here = v.at(tile.base, v.index(tile.table("offsets"), row))
                mask = v.load(v.at(tile.table("rims"), b.mul(row, v.number(CELL))), v.cell_shorts)
                values = v.load(here, v.cell_shorts)
                values = b.and_(values if flip is None else b.xor(values, flip), mask)
                v.add(both, values)
                v.add(odd, b.lshr(values, v.all(v.cell_shorts, 8)))

    signed = b.icmp_signed("!=", tile.number["signed"], v.number(0))
    with b.if_else(signed) as (yes, no):
        with yes:
            add_all(v.load(v.at(tile.table("lane_masks"), STRIP), v.cell_shorts))
        with no:
            add_all(None)
    here = v.at(sums, b.mul(target, v.number(STRIP)))
    for index, value in enumerate(v.phases(b.load(both), b.load(odd))):
        part = v.at(here, index * CELL)
        v.store(b.add(v.load(part, v.cell_words), value), part)


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
        inside = v.at(sums, b.mul(channel, v.number(2 * STRIP)))
        for phase, total in enumerate(totals):
            added, taken = (
                v.total(v.load(v.at(inside, half + phase * CELL), v.cell_words))
                for half in (0, STRIP)
            )
            place = b.add(b.mul(channel, v.number(PHASES)), v.number(phase))
            value = b.add(v.total(b.load(total)), b.sub(added, taken))
            b.store(value, b.gep(out, [place]))
