"""Kernels as parts of the kernels that call them: optimised, and made machine code there only.

For versions of numba that are `compiler.KNOWN` only.
"""

from __future__ import annotations

from typing import Any

from numba import _dynfunc  # type: ignore[attr-defined]
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering


class _Library(JITCodeLibrary):
    """Optimised code that is only linked into other code, never made machine code by itself.

    numba makes it machine code, with a wrapper for Python, and keeps it in a file, for each
    function that other functions call. What these get is the same code here as there.
    """

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()  # type: ignore[no-untyped-call]
        self._verify_declare_only_symbols()  # type: ignore[no-untyped-call]
        self._finalized = True


class _ColdLibrary(_Library):
    """Code that is optimised where it is called only: for what is seldom run, of which each level
    of calls would be optimised once more in every level above it.
    """

    def _optimize_final_module(self) -> None:
        pass


@register_pass(mutates_CFG=True, analysis_only=False)  # type: ignore[no-untyped-call]
class _Lowering(NativeLowering):
    """Makes LLVM's code of a function, which Python cannot call."""

    _name = "part_lowering"
    _library: Any = _Library

    def run_pass(self, state: Any) -> bool:
        """See `numba.core.compiler_machinery.CompilerPass`."""
        context = state.targetctx
        state.library = self._library(context.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)  # type: ignore[no-untyped-call]
        described, helper, _, environment = state["cr"]
        name = described.qualname.split(".")[-1]
        # callers find the code by this object
        key = _dynfunc.make_function(
            described.lookup_module(), name, "part of other kernels", 0, environment,
            (state.library,),
        )  # fmt: skip
        context.insert_user_function(key, described, [state.library])
        state.reload_init.extend(state.library._reload_init)
        state["cr"] = type(state["cr"])(described, helper, cfunc=key, env=environment)
        return True


@register_pass(mutates_CFG=True, analysis_only=False)  # type: ignore[no-untyped-call]
class _ColdLowering(_Lowering):
    """The same without optimising it."""

    _name = "cold_part_lowering"
    _library = _ColdLibrary


class Compiler(CompilerBase):
    """numba's compiler but for the last step."""

    _lowering = _Lowering

    def define_pipelines(self) -> list[Any]:
        """See `numba.core.compiler.CompilerBase`."""
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)  # type: ignore[no-untyped-call]
        passes.passes = [
            (self._lowering if each is NativeLowering else each, why) for each, why in passes.passes
        ]
        passes._finalized = False
        passes.finalize()
        return [passes]


class ColdCompiler(Compiler):
    """The same for what is seldom run."""

    _lowering = _ColdLowering
