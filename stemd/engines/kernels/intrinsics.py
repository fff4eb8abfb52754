"""Two machine instructions that NumPy has no name for."""

from __future__ import annotations

from typing import Any

from stemd.compilation import intrinsic, later

ir, types = later("llvmlite.ir"), later("numba.core.types")


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


byte_swap: Any = intrinsic(_byte_swap)
prefetch: Any = intrinsic(_prefetch)
