"""The innermost loop of the moments: sums of a pattern's columns, byte by byte.

Every pixel is one to four bytes, and every sum that is wanted is a sum over bytes with the byte's
place value. So one loop serves all pixels and byte orders: it adds 64 bytes of a row to running
sums of columns, and these once more to sums of the running sums, from which the y moment follows.
Nothing is multiplied but once a pattern. 16-bit lanes hold a byte of even and one of odd place:
added as they are, they wrap, but the odd bytes are added apart, and what is left modulo 2**16 is
the sum of the even ones. Compilers do not find this, so it is written as LLVM vector code, which
is not bound to any processor. Tiles that are read in order (`in_order`) have another y moment.
"""

from __future__ import annotations

from typing import Any

from stemd.compilation import intrinsic, later
from stemd.engines.kernels.in_order import InOrder
from stemd.engines.kernels.nearness import EVERY, multiplies_bytes
from stemd.engines.kernels.rims import add_columns, add_group, add_rims, begin_rims, channel_sums
from stemd.engines.kernels.vectors import (
    AT_ONCE,
    BAND,
    COLUMN_BYTES,
    PHASES,
    STRIP,
    STRIP_BY_STRIP,
    TILE,
    TILE_SUMS,
    TileCode,
    Vectors,
)

ir, types = later("llvmlite.ir"), later("numba.core.types")


def _add_tile(
    typing_context: Any,
    wire: Any,
    at: Any,
    row_bytes: Any,
    nearness: Any,
    tiles: Any,
    tile: Any,
    table: Any,
    channels: Any,
    scratch: Any,
    out: Any,
) -> Any:
    """Sums over the bytes of one tile of one pattern, and over masks of it.

    wire: uint8 (bytes,), the pattern from byte `at`, rows of `row_bytes`. nearness:
    into which cache memory is asked for, one of `nearness.EVERY`. tiles: int64
    (n, len(TILE)), table: uint8 (bytes,): from `plan_of`, which see. channels: number of masks.
    scratch: uint8 (scratch_bytes(channels),). out: int64 (TILE_SUMS + PHASES*channels,), written:
    for each of PHASES the sum, the sum with each row times its number in the tile, those with x and
    with y of the tile's tables, and for each channel its sum.
    """
    number = types.int64

    def codegen(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        def data(index: int) -> Any:
            kind = signature.args[index]
            return context.make_array(kind)(context, b, arguments[index]).data

        v = Vectors(b)
        row = b.gep(data(4), [b.mul(arguments[5], v.number(len(TILE)))])
        here = TileCode(v, v.at(data(0), arguments[1]), arguments[2], arguments[3], row, data(6))
        add_tile_code(v, here, arguments[7], data(8), data(9))
        return context.get_dummy_value()

    result = types.void(wire, number, number, number, tiles, number, table, number, scratch, out)
    return result, codegen


def add_tile_code(v: Vectors, tile: TileCode, channels: Any, scratch: Any, out: Any) -> None:
    """The code of `add_tile`."""
    b, number = v.b, tile.number
    strip_count = number["strips"]
    column_bytes = b.mul(strip_count, v.number(COLUMN_BYTES))
    with v.loop(b.mul(strip_count, v.number(2))) as (half, _):
        v.store(ir.Constant(v.shorts, None), v.at(scratch, b.mul(half, v.number(STRIP))))
    held = v.at(scratch, column_bytes)
    rims = v.at(held, column_bytes)
    begin_rims(v, rims, column_bytes, channels)
    if multiplies_bytes():
        in_order = InOrder(v, tile, scratch)
        by_rows = b.icmp_signed("!=", number["order"], v.number(STRIP_BY_STRIP))
        with b.if_else(by_rows) as (yes, no):
            with yes:
                slots = v.at(rims, b.mul(column_bytes, channels))
                in_order.begin()
                with v.loop(number["bands"]) as (band, _):
                    in_order.add_band(band)
                    add_columns(v, tile, band, scratch, rims)
                    add_group(v, tile, band, slots, channels)
                _write(v, out, *in_order.sums())
            with no:
                _add_strips(v, tile, channels, scratch, held, rims, column_bytes, out)
    else:
        _add_strips(v, tile, channels, scratch, held, rims, column_bytes, out)
    for index, variable in enumerate(_weighted(v, tile, scratch)):
        b.store(b.load(variable), b.gep(out, [v.number(2 * PHASES + index)]))
    channel_sums(v, tile, rims, column_bytes, channels, b.gep(out, [v.number(TILE_SUMS)]))


def _write(v: Vectors, out: Any, sums: list[Any], moments: list[Any]) -> None:
    for index, value in enumerate([*sums, *moments]):
        v.b.store(value, v.b.gep(out, [v.number(index)]))


def _add_strips(
    v: Vectors,
    tile: TileCode,
    channels: Any,
    scratch: Any,
    held: Any,
    rims: Any,
    column_bytes: Any,
    out: Any,
) -> None:
    """Read the tile strip by strip; write its sums, and those of its rows times their numbers.

    With S the sum of all, B that of the sums of bands 0..k for all k, R that of the running sums
    before each row of a band, and n rows a band, these are (n - 1) S + n (bands S - B) - R.
    """
    b, number = v.b, tile.number
    strip_count = number["strips"]
    sums, bands, running = ([v.variable(v.words) for _ in range(PHASES)] for _ in range(3))
    v.clear(*sums, *bands, *running)
    chunk = [v.variable(v.shorts) for _ in range(4)]
    with v.loop(number["bands"]) as (band, _):
        first = tile.band(band)
        v.clear(*chunk)
        with v.loop(strip_count) as (strip, _):
            _begin_strip(v, tile, first, strip, chunk, held)
            full, last = v.ends_chunk(strip, strip_count)
            with b.if_then(b.and_(full, b.not_(last))):
                _take_out(v, running, chunk[2:])
        with v.loop(strip_count) as (strip, _):
            _end_strip(v, tile, first, strip, chunk, held, scratch)
            with b.if_then(b.or_(*v.ends_chunk(strip, strip_count))):
                _take_out(v, sums, chunk[:2])
                _take_out(v, running, chunk[2:])
        for total, each in zip(bands, sums, strict=True):
            v.add(total, b.load(each))
        add_rims(v, tile, band, scratch, rims, column_bytes, channels)
    rows, found = number["rows"], []
    totals = [[v.total(b.load(each)) for each in those] for those in (sums, bands, running)]
    for total, in_bands, in_rows in zip(*totals, strict=True):
        later_bands = b.mul(rows, b.sub(b.mul(number["bands"], total), in_bands))
        later_rows = b.sub(b.mul(b.sub(rows, v.number(1)), total), in_rows)
        found.append(b.add(later_bands, later_rows))
    _write(v, out, totals[0], found)


def _take_out(v: Vectors, totals: list[Any], chunk: list[Any]) -> None:
    """Add 16-bit sums of strips to 32-bit ones, and begin them anew."""
    for total, part in zip(totals, v.phases(*(v.b.load(each) for each in chunk)), strict=True):
        v.add(total, part)
    v.clear(*chunk)


class _Strip:
    """One strip of one band: where it is, how it is read, and the sums of its columns so far."""

    def __init__(
        self, v: Vectors, tile: TileCode, first: Any, strip: Any, chunk: list[Any]
    ) -> None:
        b, self.v, self.tile, self.chunk = v.b, v, tile, chunk
        eight = b.mul(strip, v.number(8))
        self.kind = v.load(v.at(tile.table("kinds"), eight), v.long)
        self.here = v.at(first, v.load(v.at(tile.table("at"), eight), v.long))
        self.unmasked = b.icmp_signed("<", self.kind, v.number(0))
        whole = b.icmp_signed("==", tile.number["rows"], v.number(BAND))
        self.plain = b.and_(whole, self.unmasked)
        self.both, self.odd = v.variable(v.shorts), v.variable(v.shorts)

    def ask_ahead(self, first: Any, strip: Any) -> None:
        """Ask for as many lines as the strip has, in the order of the memory."""
        v = self.v
        ahead = v.at(first, self.tile.number["ahead"], v.b.mul(strip, v.number(STRIP * AT_ONCE)))
        for nearness in EVERY:
            chosen = v.b.icmp_signed("==", self.tile.nearness, v.number(nearness))
            with v.b.if_then(chosen):
                for line in range(AT_ONCE):
                    v.prefetch(v.at(ahead, line * STRIP), nearness)

    def add(self, values: Any) -> None:
        """Add a row."""
        v, b = self.v, self.v.b
        v.add(self.chunk[2], b.load(self.both))
        v.add(self.chunk[3], b.load(self.odd))
        v.add(self.both, values)
        v.add(self.odd, b.lshr(values, v.all(v.shorts, 8)))

    def add_plain(self, first: int) -> None:
        """Add AT_ONCE rows."""
        v = self.v
        for row in range(first, first + AT_ONCE):
            place = v.b.mul(self.tile.row_bytes, v.number(row))
            self.add(v.load(v.at(self.here, place), v.shorts))

    def add_masked(self) -> None:
        """Add the rows of the band, whatever their number, with some of their bytes zeroed."""
        v, b = self.v, self.v.b
        number = b.select(self.unmasked, v.number(0), self.kind)
        inside, flip = self.tile.lane_mask(number)
        with v.loop(self.tile.number["rows"]) as (row, _):
            values = v.load(v.at(self.here, b.mul(self.tile.row_bytes, row)), v.shorts)
            self.add(b.and_(b.xor(values, flip), inside))


def _begin_strip(
    v: Vectors, tile: TileCode, first: Any, strip: Any, chunk: list[Any], held: Any
) -> None:
    """The first rows of a strip that is read as it is; its sums are held."""
    here = _Strip(v, tile, first, strip, chunk)
    here.ask_ahead(first, strip)
    with v.b.if_then(here.plain):
        v.clear(here.both, here.odd)
        here.add_plain(0)
        column = v.at(held, v.b.mul(strip, v.number(COLUMN_BYTES)))
        v.store(v.b.load(here.both), column)
        v.store(v.b.load(here.odd), v.at(column, STRIP))


def _end_strip(
    v: Vectors, tile: TileCode, first: Any, strip: Any, chunk: list[Any], held: Any, columns: Any
) -> None:
    """The other rows of a strip, or all of them; its sums become those of its columns."""
    b = v.b
    here = _Strip(v, tile, first, strip, chunk)
    here.ask_ahead(v.at(first, b.mul(tile.row_bytes, v.number(AT_ONCE))), strip)
    place = b.mul(strip, v.number(COLUMN_BYTES))
    with b.if_else(here.plain) as (yes, no):
        with yes:
            column = v.at(held, place)
            b.store(v.load(column, v.shorts), here.both)
            b.store(v.load(v.at(column, STRIP), v.shorts), here.odd)
            here.add_plain(AT_ONCE)
        with no:
            v.clear(here.both, here.odd)
            here.add_masked()
    for total, variable, half in zip(chunk[:2], (here.both, here.odd), (0, STRIP), strict=True):
        value, column = b.load(variable), v.at(columns, place, half)
        v.add(total, value)
        v.store(b.add(v.load(column, v.shorts), value), column)


def _weighted(v: Vectors, tile: TileCode, columns: Any) -> list[Any]:
    """The columns weighted with x and, in rows that are several, with y: a variable a phase."""
    b, strip_count = v.b, tile.number["strips"]
    found = [v.variable(v.long) for _ in range(2 * PHASES)]
    parts = [v.variable(v.words) for _ in range(2 * PHASES)]
    v.clear(*found, *parts)
    folded = b.icmp_signed("!=", tile.number["folded"], v.number(0))
    with v.loop(strip_count) as (strip, _):
        column = v.at(columns, b.mul(strip, v.number(COLUMN_BYTES)))
        both, odd = (v.load(v.at(column, place), v.shorts) for place in (0, STRIP))
        weights = v.at(tile.table("weights"), b.mul(strip, v.number(2 * PHASES * STRIP)))
        values = v.phases(both, odd)

        def add(which: int) -> None:
            for phase, value in enumerate(values):
                index = which * PHASES + phase
                weight = v.load(v.at(weights, index * STRIP), v.words)
                v.add(parts[index], b.mul(value, weight))

        add(0)
        with b.if_then(folded):
            add(1)
        with b.if_then(b.or_(*v.ends_chunk(strip, strip_count))):
            for total, part in zip(found, parts, strict=True):
                v.add(total, v.total(b.load(part)))
            v.clear(*parts)
    return found


add_tile: Any = intrinsic(_add_tile)
