"""A tile read in the order of the memory, one whole row after another.

With one row at a time the running sums of `column_sums` would have to be taken out after each few
rows. So the y moment is summed with products of bytes, which some processors have an instruction
for: a sixth less time for patterns that are in a cache. Memory comes by itself to who reads it in
order, as fast as it is; where it is late every second line has been asked for (docs/adr/0059).
"""

from __future__ import annotations

from typing import Any

from stemd.compilation import later
from stemd.engines.kernels.nearness import NEAREST, SECOND
from stemd.engines.kernels.vectors import (
    BAND,
    COLUMN_BYTES,
    IN_REGISTERS,
    PHASES,
    ROW_BY_ROW,
    STRIP,
    TileCode,
    Vectors,
)

ir = later("llvmlite.ir")

_NEAR_BYTES = 1024
"""How far ahead each line is asked for, where all is in a cache."""
_AHEAD_BYTES = 2048
"""How far ahead every second line is asked for, where nothing is in a cache yet."""
_FAR_BYTES = 2048
"""How far behind a band the one line is that is asked for: the next page is known in time."""
_LOWEST = -128
"""The weight of a tile's first row: products are of bytes with a sign."""


class _RowMoment:
    """The sums of all rows, each times its number, of bytes of even and of odd place.

    Two sums of each, since a sum that has just been added to is waited for.
    """

    def __init__(self, v: Vectors) -> None:
        self._v = v
        self._sums = [[v.variable(v.words) for _ in range(2)] for _ in range(2)]
        self._weights = v.variable(v.bytes)

    def begin(self) -> None:
        """Begin with the first row."""
        v = self._v
        v.clear(*(each for pair in self._sums for each in pair))
        v.b.store(v.pattern(v.bytes, (_LOWEST, 0)), self._weights)

    def add(self, values: Any, which: int) -> None:
        """Add a strip of this row."""
        v, b = self._v, self._v.b
        even = b.bitcast(b.load(self._weights), v.shorts)
        for pair, weights in zip(self._sums, (even, b.shl(even, v.all(v.shorts, 8))), strict=True):
            v.add_products(pair[which % 2], values, weights)

    def go_on(self, rows: int = 1) -> None:
        """Go on to the next row, or by so many, or back."""
        self._v.add(self._weights, self._v.pattern(self._v.bytes, (rows, 0)))

    def totals(self, sums: list[Any]) -> list[Any]:
        """The moments of phases, that of a pair of equal place in the first; `sums` are theirs."""
        v, b = self._v, self._v.b
        found = []
        for place, (one, other) in enumerate(self._sums):
            total = v.signed_total(b.add(b.load(one), b.load(other)))
            bytes_sum = b.add(sums[place], sums[place + 2])
            found.append(b.sub(total, b.mul(bytes_sum, v.number(_LOWEST))))
        return [*found, v.number(0), v.number(0)]


class _Column:
    """The sums of a strip's columns, as they are and of their odd bytes, for a while."""

    def __init__(self, v: Vectors) -> None:
        self._v = v
        self._both, self._odd = v.variable(v.shorts), v.variable(v.shorts)

    def fetch(self, place: Any) -> None:
        v = self._v
        v.b.store(v.load(place, v.shorts), self._both)
        v.b.store(v.load(v.at(place, STRIP), v.shorts), self._odd)

    def add(self, values: Any) -> None:
        v = self._v
        v.add(self._both, values)
        v.add(self._odd, v.b.lshr(values, v.all(v.shorts, 8)))

    def store(self, place: Any) -> None:
        v = self._v
        v.store(v.b.load(self._both), place)
        v.store(v.b.load(self._odd), v.at(place, STRIP))


class InOrder:
    """The code for tiles of pixels of one or two bytes that are read in order."""

    def __init__(self, v: Vectors, tile: TileCode, columns: Any) -> None:
        """`columns`: cleared; they become the sums of the tile's columns."""
        self._v, self._tile, self._columns = v, tile, columns
        self._held = [_Column(v) for _ in range(max(IN_REGISTERS))]
        self._moment = _RowMoment(v)

    def begin(self) -> None:
        """Begin a tile."""
        self._moment.begin()

    def add_band(self, band: Any) -> None:
        """Add a band."""
        v, order = self._v, self._tile.number["order"]
        first = self._tile.band(band)
        for count in IN_REGISTERS:
            with v.b.if_then(v.b.icmp_signed("==", order, v.number(count))):
                self._add_in_registers(first, count)
        with v.b.if_then(v.b.icmp_signed("==", order, v.number(ROW_BY_ROW))):
            self._add_rows(first)

    def sums(self) -> tuple[list[Any], list[Any]]:
        """For each of PHASES the sum, and the sum with each row times its number in the tile."""
        v, b = self._v, self._v.b
        found = [v.variable(v.words) for _ in range(PHASES)]
        v.clear(*found)
        with v.loop(self._tile.number["strips"]) as (strip, _):
            here = v.at(self._columns, b.mul(strip, v.number(COLUMN_BYTES)))
            both, odd = (v.load(v.at(here, place), v.shorts) for place in (0, STRIP))
            for total, part in zip(found, v.phases(both, odd), strict=True):
                v.add(total, part)
        sums = [v.total(b.load(each)) for each in found]
        return sums, self._moment.totals(sums)

    def _add_in_registers(self, first: Any, count: int) -> None:
        """BAND rows of `count` strips, all their bytes, or several times so many strips."""
        v, b = self._v, self._v.b
        held = self._held[:count]
        row_bytes = self._tile.row_bytes
        self._ask_for_one(v.at(first, b.mul(row_bytes, v.number(BAND))))
        with v.loop(b.udiv(self._tile.number["strips"], v.number(count))) as (some, _):
            columns = v.at(self._columns, b.mul(some, v.number(count * COLUMN_BYTES)))
            places = [v.at(columns, strip * COLUMN_BYTES) for strip in range(count)]
            for each, place in zip(held, places, strict=True):
                each.fetch(place)
            start = v.at(first, b.mul(some, v.number(count * STRIP)))
            with v.turns(BAND) as row:
                here = v.at(start, b.mul(row, row_bytes))
                self._ask_for_all(here, v.number(0), count)
                for strip, each in enumerate(held):
                    values = v.load(v.at(here, strip * STRIP), v.shorts)
                    each.add(values)
                    self._moment.add(values, strip)
                self._moment.go_on()
            self._moment.go_on(-BAND)
            for each, place in zip(held, places, strict=True):
                each.store(place)
        self._moment.go_on(BAND)

    def _add_rows(self, first: Any) -> None:
        """Any number of rows and strips, with some of their bytes zeroed."""
        v, b, tile = self._v, self._v.b, self._tile
        column = self._held[0]
        with v.loop(tile.number["rows"]) as (row, _):
            start = v.at(first, b.mul(row, tile.row_bytes))
            self._ask_for_one(v.at(start, tile.row_bytes))
            with v.loop(tile.number["strips"]) as (strip, _):
                eight = b.mul(strip, v.number(8))
                here = v.at(start, v.load(v.at(tile.table("at"), eight), v.long))
                self._ask_for_all(here, strip, 1)
                values = self._counted(here, eight)
                place = v.at(self._columns, b.mul(strip, v.number(COLUMN_BYTES)))
                column.fetch(place)
                column.add(values)
                column.store(place)
                self._moment.add(values, 0)
            self._moment.go_on()

    def _counted(self, here: Any, eight: Any) -> Any:
        """A strip of a row with the bytes zeroed that do not count."""
        v, b, tile = self._v, self._v.b, self._tile
        values = v.variable(v.shorts)
        b.store(v.load(here, v.shorts), values)
        kind = v.load(v.at(tile.table("kinds"), eight), v.long)
        with b.if_then(b.icmp_signed(">=", kind, v.number(0)), likely=False):
            b.store(b.and_(b.load(values), tile.lane_mask(kind)[0]), values)
        return b.load(values)

    def _ask_for_all(self, here: Any, first: Any, count: int) -> None:
        """Ask for as many lines as are read now, from strip number `first` on, where they are in a
        cache and are to stay; of others for those of even numbers."""
        v, b = self._v, self._v.b
        near = b.icmp_signed("==", self._tile.nearness, v.number(NEAREST))
        with b.if_else(near) as (yes, no):
            with yes:
                for line in range(count):
                    v.prefetch(v.at(here, _NEAR_BYTES, line * STRIP), NEAREST)
            with no:
                asks = b.icmp_signed("==", b.and_(first, v.number(1)), v.number(0))
                with b.if_then(asks):
                    for line in range(0, count, 2):
                        v.prefetch(v.at(here, _AHEAD_BYTES, line * STRIP), SECOND)

    def _ask_for_one(self, here: Any) -> None:
        self._v.prefetch(self._v.at(here, _FAR_BYTES), SECOND)
