"""The innermost loop of the moments: weighted sums of detector rows in wide integer vectors.

A processor multiplies 16-bit integers and adds neighbouring products in one instruction
(x86: vpmaddwd, vpdpwssd), 32 pixels at a time. Compilers do not find it in a plain loop over
unsigned pixels, so the loop is written here as LLVM vector code, which is not bound to any
processor: where the instruction is missing, others give the same integers.
"""

from __future__ import annotations

from typing import Any

from stemd.compilation import intrinsic, later

ir, types, cgutils = later("llvmlite.ir"), later("numba.core.types"), later("numba.core.cgutils")


LANES = 32
"""Pixels of a vector; the caller adds what is left of a row."""
CHUNK_COLUMNS = 512
"""Columns that may be added at once: weights are the column minus half of this."""
AHEAD_BYTES = 8192
"""How far ahead memory is asked for (measured on 256 x 256 x uint16: 4.4 microseconds a pattern
with one virtual detector without, 3.4 with; 2048 and 4096 bytes are in between)."""
MAX_BITS = 32
"""Of a pixel; nothing is added for wider ones."""
BIAS_16 = 1 << 15
"""What is taken from each 16-bit pixel, so that it is a signed number."""
MASK_COUNTS = (0, 1, 4)
"""How many masks a loop is made for."""
MAX_BANDS = 6
"""Of masked columns. A lane of the sum weighted with columns takes 2**27 more for each, at most,
and 2**30 without them."""
MAX_ROWS = 8
_ROUNDS = 1 << 21


def rows_at_once(width: int) -> int:
    """Rows of `width` <= CHUNK_COLUMNS columns whose sums cannot overflow 32 bits a lane.

    A lane takes width/16 products a row, each at most 2**15 (pixel) * width/2 (weight); the
    running sum over rows takes 2**11 * width * rows**2 / 2, which is less. Halves of 32-bit pixels
    reach 2**16, but a lane takes only one of each 16.
    """
    return int(max(1, min(MAX_ROWS, _ROUNDS // max(width, LANES) ** 2)))


class _Vectors:
    """The vector types, and instructions on them, of one loop.

    Pixels of 8 and 16 bits are multiplied as signed 16-bit numbers. Pixels of 32 bits are taken
    as two halves of 16, whose sums are kept apart (`halves`); the higher one may be signed.
    """

    def __init__(self, builder: Any, pixel_bytes: int, swap: bool, signed: bool) -> None:
        self.b = builder
        self.signed = signed
        self.pixel_bytes = pixel_bytes
        self.swap = swap
        self.halves = 2 if pixel_bytes == 4 else 1
        self.byte, self.short, self.word, self.long = (ir.IntType(n) for n in (8, 16, 32, 64))
        self.pixels = LANES // self.halves
        self.shorts = ir.VectorType(self.short, LANES)
        self.words = ir.VectorType(self.word, LANES)
        self.sums = ir.VectorType(self.word, LANES // 2)
        self.wide = ir.VectorType(self.long, LANES // 2)

    def values(self, pointer: Any) -> list[Any]:
        """Pixels at `pointer`, one vector for each half."""
        b = self.b
        element = ir.IntType(8 * self.pixel_bytes)
        loaded = self._load(pointer, element, 1)
        if self.pixel_bytes == 1:
            return [b.zext(loaded, self.shorts)]
        if self.swap:
            name = f"llvm.bswap.v{self.pixels}i{element.width}"
            loaded = b.call(self._function(name, loaded.type, [loaded.type]), [loaded])
        if self.halves == 1:
            return [b.xor(loaded, self._all(self.shorts, -(1 << 15)))]
        sixteen, low = self._all(self.sums, 16), self._all(self.sums, 0xFFFF)
        shifted = b.ashr if self.signed else b.lshr
        return [b.and_(loaded, low), shifted(loaded, sixteen)]

    def add(self, totals: list[Any], values: list[Any]) -> None:
        """Add the pixels, for each half."""
        if self.halves == 1:
            self._add_products(totals[0], values[0], self._all(self.shorts, 1))
        else:
            for total, value in zip(totals, values, strict=True):
                self.b.store(self.b.add(self.b.load(total), value), total)

    def add_weighted(self, totals: list[Any], values: list[Any], pointer: Any) -> None:
        """Add the pixels times the 16-bit weights at `pointer`."""
        b = self.b
        weights = self._load(pointer, self.short, 2)
        if self.halves == 1:
            self._add_products(totals[0], values[0], weights)
            return
        weights = b.sext(weights, self.sums)
        for total, value in zip(totals, values, strict=True):
            b.store(b.add(b.load(total), b.mul(value, weights)), total)

    def add_masked(self, totals: list[Any], values: list[Any], pointer: Any) -> None:
        """Add the pixels where the byte at `pointer` is 1, none where it is 0."""
        b = self.b
        mask = self._load(pointer, self.byte, 1)
        if self.halves == 1:
            self._add_products(totals[0], values[0], b.sext(mask, self.shorts))
            return
        inside = b.icmp_signed("!=", mask, ir.Constant(mask.type, None))
        for total, value in zip(totals, values, strict=True):
            chosen = b.select(inside, value, ir.Constant(self.sums, None))
            b.store(b.add(b.load(total), chosen), total)

    def _add_products(self, total: Any, values: Any, weights: Any) -> None:
        """total[i] += values[2i] weights[2i] + values[2i+1] weights[2i+1], in 32 bits."""
        b = self.b
        product = b.mul(b.sext(values, self.words), b.sext(weights, self.words))
        nothing = ir.Constant(self.words, ir.Undefined)
        even, odd = (
            b.shuffle_vector(product, nothing, ir.Constant(self.sums, list(range(k, LANES, 2))))
            for k in (0, 1)
        )
        b.store(b.add(b.load(total), b.add(even, odd)), total)

    @staticmethod
    def _all(vector: Any, value: int) -> Any:
        return ir.Constant(vector, [value] * vector.count)

    def _load(self, pointer: Any, element: Any, align: int) -> Any:
        vector = ir.VectorType(element, self.pixels)
        loaded = self.b.load(self.b.bitcast(pointer, vector.as_pointer()))
        loaded.align = align
        return loaded

    def total(self, vector: Any) -> Any:
        """Sum of the lanes, in 64 bits."""
        name = f"llvm.vector.reduce.add.v{LANES // 2}i64"
        function = self._function(name, self.long, [self.wide])
        return self.b.call(function, [self.b.sext(vector, self.wide)])

    def prefetch(self, pointer: Any) -> None:
        kinds = [self.byte.as_pointer(), self.word, self.word, self.word]
        function = self._function("llvm.prefetch.p0", ir.VoidType(), kinds)
        read, keep, data = (ir.Constant(self.word, code) for code in (0, 3, 1))
        ahead = self.b.gep(pointer, [ir.Constant(self.long, AHEAD_BYTES)])
        self.b.call(function, [ahead, read, keep, data])

    def _function(self, name: str, result: Any, arguments: list[Any]) -> Any:
        kind = ir.FunctionType(result, arguments)
        return cgutils.get_or_insert_function(self.b.module, kind, name)


def _add_rows(
    typing_context: Any,
    wire: Any,
    like: Any,
    swap: Any,
    first: Any,
    stride: Any,
    rows: Any,
    columns: Any,
    weights: Any,
    weight_first: Any,
    count: Any,
    masks: Any,
    mask_first: Any,
    mask_row: Any,
    mask_size: Any,
    bands: Any,
    band_weights: Any,
    band_first: Any,
    band_stop: Any,
    out: Any,
) -> Any:
    """Sums over `rows` x `columns` pixels, 16-bit ones less BIAS_16, `columns` a multiple of LANES.

    wire: uint8 (bytes,); pixels of the type of the array `like`, reversed if `swap`, the first at
    byte `first`, rows `stride` bytes apart. weights: int16, column x has
    weights[weight_first + x]. masks: int8, flat; of `count` (of MASK_COUNTS) masks the pixel
    (y, x) of number n is at mask_first + n*mask_size + y*mask_row + x. bands: int64, the
    column at which LANES pixels begin that are added once more, for each of band_first..
    band_stop-1, with 2 * LANES weights of band_weights, int16: those for the sum and those for
    the weighted sum. Into out, int64
    (3 + count,): the sum, the sum of the sums of rows 0..y for all y, the sum weighted with
    `weights`, and with each mask. `rows` <= rows_at_once(columns).
    """
    number = types.int64

    def codegen(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        if like.dtype.bitwidth > MAX_BITS:
            return context.get_dummy_value()
        arrays = {
            index: context.make_array(signature.args[index])(context, b, arguments[index]).data
            for index in (0, 7, 10, 14, 15, 18)
        }
        # a loop for each byte order and number of masks. It is chosen here: that the caller
        # chooses among as many calls takes numba longer to compile than all of the loops
        size, signed = like.dtype.bitwidth // 8, bool(like.dtype.signed)
        chosen = b.shl(arguments[9], ir.Constant(arguments[9].type, 1))
        if size > 1:
            chosen = b.or_(chosen, b.zext(arguments[2], chosen.type))
        done = b.append_basic_block("added")
        switch = b.switch(chosen, done)
        for swapped in (False, True) if size > 1 else (False,):
            for count_of in MASK_COUNTS:
                block = b.append_basic_block("add")
                switch.add_case(ir.Constant(chosen.type, 2 * count_of + swapped), block)
                b.position_at_end(block)
                vectors = _Vectors(b, size, swapped, signed)
                _add_chunk(b, vectors, count_of, arguments, arrays)
                b.branch(done)
        b.position_at_end(done)
        return context.get_dummy_value()

    numbers = [number] * 4
    return (
        types.void(
            *(wire, like, types.boolean, *numbers, weights, number, number),
            *(masks, *numbers[:3], bands, band_weights, number, number, out),
        ),
        codegen,
    )


def _add_chunk(b: Any, v: _Vectors, masks: int, arguments: Any, arrays: dict[int, Any]) -> None:
    """The loop of `add_rows` for so many masks; `arrays` are the data of its array arguments."""
    at, row_bytes, row_count, width = arguments[3:7]
    mask_at, mask_row_step, mask_step = arguments[11:14]
    pixels, result = b.gep(arrays[0], [at]), arrays[18]
    weight_data = b.gep(arrays[7], [arguments[8]])
    mask_data = [
        b.gep(arrays[10], [b.add(mask_at, b.mul(mask_step, ir.Constant(v.long, index)))])
        for index in range(masks)
    ]
    zero = ir.Constant(v.sums, None)
    totals = [
        [cgutils.alloca_once_value(b, zero) for _ in range(v.halves)] for _ in range(3 + masks)
    ]
    step, both = ir.Constant(v.long, v.pixels), ir.Constant(v.long, 2 * LANES)
    with cgutils.for_range(b, row_count) as row:
        row_data = b.gep(pixels, [b.mul(row.index, row_bytes)])
        mask_row_at = b.mul(row.index, mask_row_step)
        with cgutils.for_range(b, b.udiv(width, step)) as vector:
            x = b.mul(vector.index, step)
            pointer = b.gep(row_data, [b.mul(x, ir.Constant(v.long, v.pixel_bytes))])
            v.prefetch(pointer)
            values = v.values(pointer)
            v.add(totals[0], values)
            v.add_weighted(totals[2], values, b.gep(weight_data, [x]))
            for total, mask in zip(totals[3:], mask_data, strict=True):
                v.add_masked(total, values, b.gep(mask, [b.add(mask_row_at, x)]))
        with cgutils.for_range_slice(b, *arguments[16:18], ir.Constant(v.long, 1)) as (band, _):
            at = b.mul(b.load(b.gep(arrays[14], [band])), ir.Constant(v.long, v.pixel_bytes))
            band_weights = b.gep(arrays[15], [b.mul(band, both)])
            _add_band(b, v, totals, b.gep(row_data, [at]), band_weights)
        for total, running in zip(totals[0], totals[1], strict=True):
            b.store(b.add(b.load(running), b.load(total)), running)
    for index, total in enumerate(totals):
        value = v.total(b.load(total[0]))
        if v.halves == 2:
            high = b.shl(v.total(b.load(total[1])), ir.Constant(v.long, 16))
            value = b.add(value, high)
        b.store(value, b.gep(result, [ir.Constant(v.long, index)]))


def _add_band(b: Any, v: _Vectors, totals: list[Any], pointer: Any, weights: Any) -> None:
    """Add LANES pixels at `pointer` to the sum and the weighted sum, each with its weights."""
    for lane in range(0, LANES, v.pixels):
        values = v.values(b.gep(pointer, [ir.Constant(v.long, lane * v.pixel_bytes)]))
        for total, first in ((totals[0], 0), (totals[2], LANES)):
            v.add_weighted(total, values, b.gep(weights, [ir.Constant(v.long, first + lane)]))


add_rows: Any = intrinsic(_add_rows)
