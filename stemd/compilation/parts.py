"""Kernels as parts of the kernels that call them: optimised there, and nowhere else."""

from __future__ import annotations

from typing import Any

from numba import _dynfunc  # type: ignore[attr-defined]
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering


class _Library(JITCodeLibrary):
    """Code that is only linked into other code: never optimised or made machine code by itself.

    numba does both for each function and links the result into every caller, where all of it is
    optimised and made machine code again, once for each level of calls.
    """

    def finalize(self) -> None:
        """Link what it calls."""
        self._raise_if_finalized()  # type: ignore[no-untyped-call]
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._final_module.verify()
        self._finalize_dynamic_globals()  # type: ignore[no-untyped-call]
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)  # type: ignore[no-untyped-call]
class _Lowering(NativeLowering):
    """Makes LLVM's code of a function, which Python cannot call."""

    _name = "part_lowering"

    def run_pass(self, state: Any) -> bool:
        """See `numba.core.compiler_machinery.CompilerPass`."""
        context = state.targetctx
        library: Any = _Library
        state.library = library(context.codegen(), state.func_id.func_qualname)
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


class Compiler(CompilerBase):
    """numba's compiler but for the last step."""

    def define_pipelines(self) -> list[Any]:
        """See `numba.core.compiler.CompilerBase`."""
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)  # type: ignore[no-untyped-call]
        passes.passes = [
            (_Lowering if each is NativeLowering else each, why) for each, why in passes.passes
        ]
        passes._finalized = False
        passes.finalize()
        return [passes]
