"""The innermost loop of binning: a grid pixel's share of a pattern in wide integer vectors.

A grid pixel takes a short run of pixels from each of a few detector rows. Padded with shares of
zero to `LANES` pixels each run is one vector, and all runs of a grid pixel are summed up before
the lanes are: a compiler does not find that in a plain loop, so it is written as LLVM vector
code, which is not bound to any processor.
"""

from __future__ import annotations

from typing import Any

from stemd.compilation import intrinsic, later

ir, types, cgutils = later("llvmlite.ir"), later("numba.core.types"), later("numba.core.cgutils")


LANES = 16
"""Pixels of a run."""


def _sum_runs(
    typing_context: Any,
    wire: Any,
    like: Any,
    swap: Any,
    at: Any,
    starts: Any,
    shares: Any,
    first: Any,
    stop: Any,
) -> Any:
    """Sum of pixel[starts[r] + lane] * shares[r, lane] over runs first..stop-1, int64.

    wire: uint8 (bytes,); pixels of the type of the array `like`, reversed if `swap` (a literal),
    pixel 0 at byte `at`; starts: int32; shares: uint8 (runs, LANES), at most 64. Pixels of 8 and
    16 bits are summed in 32 bits a lane, enough for 1,023 runs; wider ones in 64.
    """
    bits = like.dtype.bitwidth
    number = types.int64

    def codegen(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args

        def data(index: int) -> Any:
            return context.make_array(kinds[index])(context, b, arguments[index]).data

        byte, long = ir.IntType(8), ir.IntType(64)
        pixel = ir.IntType(bits)
        lane = ir.IntType(32 if bits <= 16 else 64)
        pixels, lanes, wide, small = (ir.VectorType(t, LANES) for t in (pixel, lane, long, byte))
        bytes_data, start_data, share_data = data(0), data(4), data(5)
        total = cgutils.alloca_once_value(b, ir.Constant(lanes, None))
        step = ir.Constant(long, bits // 8)
        sixteen = ir.Constant(long, LANES)
        with cgutils.for_range_slice(b, arguments[6], arguments[7], ir.Constant(long, 1)) as (
            run,
            _,
        ):
            start = b.sext(b.load(b.gep(start_data, [run])), long)
            pointer = b.gep(bytes_data, [b.add(arguments[3], b.mul(start, step))])
            values = b.load(b.bitcast(pointer, pixels.as_pointer()))
            values.align = 1
            if swap.literal_value and bits > 8:
                name = f"llvm.bswap.v{LANES}i{bits}"
                kind = ir.FunctionType(pixels, [pixels])
                values = b.call(cgutils.get_or_insert_function(b.module, kind, name), [values])
            pointer = b.gep(share_data, [b.mul(run, sixteen)])
            share = b.load(b.bitcast(pointer, small.as_pointer()))
            share.align = 1
            values = b.zext(values, lanes) if bits < lane.width else values
            product = b.mul(values, b.zext(share, lanes))
            b.store(b.add(b.load(total), product), total)
        sums = b.load(total)
        if lane.width < long.width:
            sums = b.zext(sums, wide)
        name = f"llvm.vector.reduce.add.v{LANES}i64"
        reduce = cgutils.get_or_insert_function(b.module, ir.FunctionType(long, [wide]), name)
        return b.call(reduce, [sums])

    return number(wire, like, swap, number, starts, shares, number, number), codegen


sum_runs: Any = intrinsic(_sum_runs, prefer_literal=True)
