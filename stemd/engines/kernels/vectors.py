"""Vectors of a pattern's bytes as LLVM code, and the numbers that say how a pattern is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stemd.compilation import later

ir, cgutils = later("llvmlite.ir"), later("numba.core.cgutils")

STRIP = 64
"""Bytes of a row that are added at once."""
BAND = 8
"""Rows after which the running sums are taken out; more would overflow 16 bits."""
AT_ONCE = 4
"""Rows of a band that are added before the next strip, so that memory is read nearly in order."""
TOGETHER = 8
"""Strips whose sums of running sums fit into 16 bits."""
MAX_STRIPS, MAX_ROWS = 64, 256
"""Of a tile: beyond these its sums overflow 32 or 16 bits."""
ENTRIES = 256
"""Turns of rows of a rim that are added up in 16 bits."""
CELL = 16
"""Bytes of a row of a cell."""
GROUP_SHIFT = 2
"""The rims of 1 << GROUP_SHIFT bands are added together, while these are in the nearest cache."""
STRIP_BY_STRIP, ROW_BY_ROW, IN_REGISTERS = 0, 1, (2, 4, 8)
"""In which order a tile is read: AT_ONCE rows of a strip before the next strip, or one row after
another, of any number of strips or of so many that the sums of their columns stay in registers."""
PHASES = 4
"""Sums are kept for bytes 0, 1, 2 and 3 of every four."""
TILE_SUMS = 4 * PHASES
"""Of a tile in `out`: the sum, and the sums with each row times its number in the tile, with the x
and with the y of the tile's tables."""
COLUMN_BYTES = 2 * STRIP
"""Of the running sums of a strip: as they are, and of the odd bytes."""
TILE = (
    "first", "rows", "bands", "strips", "at", "kinds", "weights", "ahead", "lane_masks",
    "event_first", "events", "group_first", "parts", "slots", "offsets", "rims", "folded",
    "signed", "y", "x", "order",
)  # fmt: skip
"""What a tile's row of numbers is, see `tiles`."""


def scratch_bytes(channels: int) -> int:
    """What `add_tile` needs to write in, best `blocks.aligned`."""
    return (2 + channels) * MAX_STRIPS * COLUMN_BYTES + 2 * channels * (COLUMN_BYTES + STRIP)


def sums_count(channels: int) -> int:
    """How many sums `reduce_frames` keeps of a pattern: of a tile, of all, and a zero."""
    return TILE_SUMS + PHASES * channels + channels + 1


class Vectors:
    """Instructions on vectors of `STRIP` bytes and of `CELL` bytes."""

    def __init__(self, builder: Any) -> None:
        self.b = builder
        self.byte, self.short, self.word, self.long = (ir.IntType(n) for n in (8, 16, 32, 64))
        self.shorts, self.words = self._pair(STRIP)
        self.bytes = ir.VectorType(self.byte, STRIP)
        self.cell_shorts, self.cell_words = self._pair(CELL)

    def _pair(self, size: int) -> tuple[Any, Any]:
        return ir.VectorType(self.short, size // 2), ir.VectorType(self.word, size // 4)

    def number(self, value: int) -> Any:
        """A 64-bit constant."""
        return ir.Constant(self.long, value)

    def all(self, vector: Any, value: int) -> Any:
        """A constant of the vector's type, the same in all lanes."""
        return ir.Constant(vector, [value] * vector.count)

    def pattern(self, vector: Any, values: tuple[int, ...]) -> Any:
        """A constant of the vector's type, these values again and again."""
        return ir.Constant(vector, list(values) * (vector.count // len(values)))

    def at(self, pointer: Any, *offsets: Any) -> Any:
        """The pointer to bytes, so many bytes on."""
        for offset in offsets:
            value = self.number(offset) if isinstance(offset, int) else offset
            pointer = self.b.gep(pointer, [value])
        return pointer

    def load(self, pointer: Any, kind: Any) -> Any:
        """A value from a pointer to bytes, at any address."""
        loaded = self.b.load(self.b.bitcast(pointer, kind.as_pointer()))
        loaded.align = 1
        return loaded

    def store(self, value: Any, pointer: Any) -> None:
        """A value to a pointer to bytes, at any address."""
        self.b.store(value, self.b.bitcast(pointer, value.type.as_pointer())).align = 1

    def index(self, pointer: Any, place: Any) -> Any:
        """The 32-bit number of that place, as 64 bits."""
        value = self.load(self.at(pointer, self.b.mul(place, self.number(4))), self.word)
        return self.b.sext(value, self.long)

    def variable(self, kind: Any) -> Any:
        """A variable that begins at 0 each time the code comes by."""
        return cgutils.alloca_once_value(self.b, ir.Constant(kind, None))

    def clear(self, *variables: Any) -> None:
        """Set variables to 0."""
        for each in variables:
            self.b.store(ir.Constant(each.type.pointee, None), each)

    def add(self, variable: Any, value: Any) -> None:
        """Add to a variable."""
        self.b.store(self.b.add(self.b.load(variable), value), variable)

    def phases(self, both: Any, odd: Any) -> list[Any]:
        """Sums of lanes as 32-bit lanes for bytes 0, 1, 2, 3 of every four."""
        b = self.b
        words = self.words if both.type == self.shorts else self.cell_words
        even = b.sub(both, b.shl(odd, self.all(both.type, 8)))
        found: list[Any] = [None] * PHASES
        for phase, shorts in enumerate((even, odd)):
            pairs = b.bitcast(shorts, words)
            found[phase] = b.and_(pairs, self.all(words, 0xFFFF))
            found[phase + 2] = b.lshr(pairs, self.all(words, 16))
        return found

    def where(self, bits: Any, vector: Any) -> Any:
        """The bytes of a strip's lanes for which a bit is set, the others zero."""
        b, lanes = self.b, self.bytes
        flags = b.bitcast(bits, ir.VectorType(ir.IntType(1), STRIP))
        found = b.select(flags, b.bitcast(vector, lanes), ir.Constant(lanes, None))
        return b.bitcast(found, vector.type)

    def joined(self, parts: list[Any]) -> Any:
        """One vector of several, 1, 2, 4 .. of the same type, after one another."""
        while len(parts) > 1:
            lanes = ir.VectorType(self.word, 2 * parts[0].type.count)
            order = ir.Constant(lanes, list(range(lanes.count)))
            parts = [
                self.b.shuffle_vector(*pair, order)
                for pair in zip(parts[::2], parts[1::2], strict=True)
            ]
        return parts[0]

    def folded(self, vector: Any, kind: Any) -> Any:
        """The lanes added up to the fewer ones of this type."""
        while vector.type != kind:
            half = vector.type.count // 2
            lanes = ir.VectorType(self.word, half)
            low, high = (
                self.b.shuffle_vector(
                    vector, vector, ir.Constant(lanes, list(range(first, first + half)))
                )
                for first in (0, half)
            )
            vector = self.b.add(low, high)
        return vector

    def total(self, vector: Any) -> Any:
        """Sum of the lanes, in 64 bits."""
        wide = ir.VectorType(self.long, vector.type.count)
        name = f"llvm.vector.reduce.add.v{vector.type.count}i64"
        kind = ir.FunctionType(self.long, [wide])
        function = cgutils.get_or_insert_function(self.b.module, kind, name)
        return self.b.call(function, [self.b.zext(vector, wide)])

    def signed_total(self, vector: Any) -> Any:
        """Sum of the lanes, which have a sign, in 64 bits."""
        top = self.all(vector.type, 1 << 31)
        excess = self.number(vector.type.count << 31)
        return self.b.sub(self.total(self.b.xor(vector, top)), excess)

    def add_products(self, variable: Any, values: Any, weights: Any) -> None:
        """Add to 32-bit lanes their four bytes, each times its weight, which has a sign.

        An instruction of some x86 processors, see `nearness.multiplies_bytes`.
        """
        kind = ir.FunctionType(self.words, [self.words] * 3)
        name = f"llvm.x86.avx512.vpdpbusd.{8 * STRIP}"
        function = cgutils.get_or_insert_function(self.b.module, kind, name)
        words = (self.b.bitcast(each, self.words) for each in (values, weights))
        self.b.store(self.b.call(function, [self.b.load(variable), *words]), variable)

    def total_32(self, vector: Any) -> Any:
        """Sum of 32-bit lanes that itself has no more than 32 bits, in 64 bits."""
        name = f"llvm.vector.reduce.add.v{vector.type.count}i32"
        kind = ir.FunctionType(self.word, [vector.type])
        function = cgutils.get_or_insert_function(self.b.module, kind, name)
        return self.b.zext(self.b.call(function, [vector]), self.long)

    def prefetch(self, pointer: Any, nearness: int) -> None:
        """Ask for a cache line, with a number of `nearness`; any address is allowed."""
        kinds = [self.byte.as_pointer(), self.word, self.word, self.word]
        kind = ir.FunctionType(ir.VoidType(), kinds)
        function = cgutils.get_or_insert_function(self.b.module, kind, "llvm.prefetch.p0")
        read, keep, data = (ir.Constant(self.word, code) for code in (0, nearness, 1))
        self.b.call(function, [pointer, read, keep, data])

    def ends_chunk(self, strip: Any, count: Any) -> tuple[Any, Any]:
        """Whether the sums of strips fit no more after this one, and whether it is the last."""
        b, last = self.b, self.number(TOGETHER - 1)
        full = b.icmp_signed("==", b.and_(strip, last), last)
        return full, b.icmp_signed("==", b.add(strip, self.number(1)), count)

    def loop(self, stop: Any, first: Any = None) -> Any:
        """A loop; it gives the index."""
        start = self.number(0) if first is None else first
        return cgutils.for_range_slice(self.b, start, stop, self.number(1))

    @contextmanager
    def turns(self, stop: int) -> Iterator[Any]:
        """A loop over 0 to `stop` - 1 that stays one, see `in_order`; it gives the index."""
        b = self.b
        index = self.variable(self.long)
        self.clear(index)
        body, end = b.append_basic_block("turn"), b.append_basic_block("turned")
        b.branch(body)
        b.position_at_end(body)
        yield b.load(index)
        self.add(index, self.number(1))
        again = b.cbranch(b.icmp_signed("<", b.load(index), self.number(stop)), body, end)
        kept = b.module.add_metadata([ir.MetaDataString(b.module, "llvm.loop.unroll.disable")])
        loop = b.module.add_metadata([ir.MetaDataString(b.module, body.name), kept])
        loop.operands = (loop, kept)
        again.set_metadata("llvm.loop", loop)
        b.position_at_end(end)


class TileCode:
    """One tile of a pattern: the numbers of its row, and where the sums are."""

    def __init__(
        self, v: Vectors, pattern: Any, row_bytes: Any, nearness: Any, numbers: Any, table: Any
    ) -> None:
        self.number = {
            name: v.b.load(v.b.gep(numbers, [v.number(index)])) for index, name in enumerate(TILE)
        }
        self.base = v.at(pattern, self.number["first"])
        self.row_bytes, self.nearness, self._v, self._table = row_bytes, nearness, v, table

    def table(self, name: str) -> Any:
        """The address of one of its tables."""
        return self._v.at(self._table, self.number[name])

    def band(self, band: Any) -> Any:
        """The address of a band."""
        b = self._v.b
        return self._v.at(self.base, b.mul(band, b.mul(self.number["rows"], self.row_bytes)))

    def lane_mask(self, kind: Any) -> tuple[Any, Any]:
        """Bits that are set where a strip's bytes count, and the bits that are flipped before."""
        v = self._v
        mask = v.at(self.table("lane_masks"), v.b.mul(kind, v.number(2 * STRIP)))
        return v.load(mask, v.shorts), v.load(v.at(mask, STRIP), v.shorts)
