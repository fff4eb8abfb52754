"""Machine instructions that NumPy has no name for."""

from __future__ import annotations

from typing import Any

from stemd.compilation import intrinsic, later

ir, types, cgutils = later("llvmlite.ir"), later("numba.core.types"), later("numba.core.cgutils")


def _byte_swap(typing_context: Any, value: Any) -> Any:
    """`value` (uint8 to uint64) with its bytes in reverse order, one vectorisable instruction."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if value.bitwidth == 8:
            return arguments[0]
        return builder.bswap(arguments[0])

    return value(value), codegen


def _prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of `array[index]` (1-D, no bounds check: any address is allowed)."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        byte = ir.IntType(8).as_pointer()
        number = ir.IntType(32)
        address = builder.bitcast(builder.gep(view.data, [arguments[1]]), byte)
        name = "llvm.prefetch.p0"
        function = builder.module.globals.get(name)
        if function is None:
            function_type = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
            function = ir.Function(builder.module, function_type, name)
        read, keep, data = (ir.Constant(number, code) for code in (0, 3, 1))
        builder.call(function, [address, read, keep, data])
        return context.get_dummy_value()

    return types.void(array, index), codegen


def _dot_pixels(
    typing_context: Any,
    wire: Any,
    at: Any,
    count: Any,
    size: Any,
    swap: Any,
    signed: Any,
    weights: Any,
    weight: Any,
) -> Any:
    """Sum of `count` pixels of 1, 2, 4 or 8 bytes, each times its weight, int64.

    wire: uint8 (bytes,), the pixels one after another from byte `at`, their bytes reversed if
    `swap`. They are `signed`, or of at most 63 bits. weights: int64, flat, from number `weight`.
    """

    def codegen(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        def data(index: int) -> Any:
            array = context.make_array(signature.args[index])(context, b, arguments[index])
            return array.data

        _, at, count, size, swap, signed, _, weight = arguments
        long = ir.IntType(64)
        pointer, first = b.gep(data(0), [at]), b.gep(data(6), [weight])
        total = cgutils.alloca_once_value(b, ir.Constant(long, 0))
        done = b.append_basic_block("summed")
        switch = b.switch(size, done)
        for size_of in (1, 2, 4, 8):
            block = b.append_basic_block("sum")
            switch.add_case(ir.Constant(long, size_of), block)
            b.position_at_end(block)
            pixels = b.bitcast(pointer, ir.IntType(8 * size_of).as_pointer())
            with cgutils.for_range(b, count) as pixel:
                value = b.load(b.gep(pixels, [pixel.index]))
                value.align = 1
                if size_of > 1:
                    value = b.select(swap, b.bswap(value), value)
                if size_of < 8:
                    value = b.select(signed, b.sext(value, long), b.zext(value, long))
                product = b.mul(value, b.load(b.gep(first, [pixel.index])))
                b.store(b.add(b.load(total), product), total)
            b.branch(done)
        b.position_at_end(done)
        return b.load(total)

    number, flag = types.int64, types.boolean
    return number(wire, number, number, number, flag, flag, weights, number), codegen


dot_pixels: Any = intrinsic(_dot_pixels)
byte_swap: Any = intrinsic(_byte_swap)
prefetch: Any = intrinsic(_prefetch)
