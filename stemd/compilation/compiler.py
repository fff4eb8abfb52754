"""Compiling kernels with numba, with a cache on the disk where there can be one.

numba ends with an error where its cache cannot be written or read: when no folder is writable,
when the disk is full, or when a power cut has left an empty file. None of these keeps a kernel
from being compiled: here it is compiled, and the first time one line on stderr says why that
takes long and what to do.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FunctionType
from typing import Any

import numba
from numba.core import event
from numba.core.caching import FunctionCache
from numba.core.registry import cpu_target

from stemd.compilation.finished import possible
from stemd.compilation.sources import stamp_of
from stemd.errors import StemdError
from stemd.garbage import uncollected

REMEDY = "let the environment variable NUMBA_CACHE_DIR name a folder that stemd may write"
KNOWN = numba.version_info.short == (0, 68)
"""Whether `parts` and `quicker` have been tried with this numba, whose inside they change. Any
other one is used as it is, and compiles for longer.
"""
_usable: set[str] = set()
_TOLD = "STEMD_CACHE_TOLD"
"""In the environment, so that the processes which stemd starts do not say it again."""


class _Cache(FunctionCache):
    """numba's cache of one kernel; what is wrong with it is told, and is no error.

    numba compares the time of the kernel's own file. What it calls in other modules is compiled
    into it, so that here all that it is made of counts.
    """

    def __init__(self, function: FunctionType) -> None:
        _look_into_the_named_folder()
        super().__init__(function)  # type: ignore[no-untyped-call]
        self._cache_file._source_stamp = stamp_of(function)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled kernel, None where it is not there or cannot be used."""
        try:
            made = super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception as error:  # pickle raises whatever the bytes make it do
            _forget(self)
            if isinstance(error, OSError):
                _tell(error)
            return None

        def code() -> bytes:
            key = self._index_key(sig, target_context.codegen())  # type: ignore[no-untyped-call]
            (_, _, (machine_code, _)), *_ = self._cache_file.load(key)  # type: ignore[no-untyped-call]
            return bytes(machine_code)

        if made is not None:
            self._finish(sig, made, code)
        return made

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled kernel for the next start."""
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        except Exception as error:
            _tell(error)
            return
        self._finish(sig, data, lambda: bytes(data.library._get_compiled_object()))

    def _finish(self, sig: Any, made: Any, code: Callable[[], bytes]) -> None:
        """Keep its machine code for processes that do without numba, too."""
        if not KNOWN or not possible():
            return
        keeping = importlib.import_module("stemd.compilation.keeping")
        try:
            keeping.keep(self._py_func, self._cache_file._source_stamp, sig, made, code)
        except Exception as error:
            _tell(error, "they are found more slowly at each start")


class _Progress(event.Listener):
    """Notes when the compiler last began or ended with a function, and counts them."""

    def __init__(self) -> None:
        self.last = time.monotonic()
        self.compiled = 0
        self._depth = 0
        self._uncollected = ExitStack()

    def on_start(self, event: Any) -> None:
        """See `numba.core.event.Listener`.

        The compiler makes hundreds of thousands of objects, among which there is no garbage to
        collect yet: to look for it takes a tenth of its time.
        """
        self.last = time.monotonic()
        if self._depth == 0:
            self._uncollected.enter_context(uncollected())
        self._depth += 1

    def on_end(self, event: Any) -> None:
        """See `numba.core.event.Listener`."""
        self.last = time.monotonic()
        self.compiled += 1
        self._depth -= 1
        if self._depth == 0:
            self._uncollected.close()


def _without_blas() -> None:
    """Have numba look for BLAS when a kernel multiplies matrices, which none does.

    It looks when it is imported, and reads all of scipy.linalg for it: 60 ms of each start.
    """
    linalg: Any = importlib.import_module("numba.np.linalg")
    look = linalg.ensure_blas

    def not_now() -> None:
        raise ImportError("not looked for yet")

    try:
        linalg.ensure_blas = not_now
        arrays: Any = importlib.import_module("numba.np.arraymath")
        arrays.ensure_blas = look
    finally:
        linalg.ensure_blas = look


_without_blas()
if KNOWN:
    importlib.import_module("stemd.compilation.quicker").make_quicker()
progress = _Progress()
event.register("numba:compile", progress)  # type: ignore[no-untyped-call]


def dispatcher(function: FunctionType, options: dict[str, Any]) -> Any:
    """numba's dispatcher of a kernel; `cache` asks for a cache and is no condition.

    Raises StemdError where numba is told not to compile.
    """
    settings: Any = numba.config  # whose names are made when it is imported
    if settings.DISABLE_JIT:
        raise StemdError(
            "numba is told to compile nothing (NUMBA_DISABLE_JIT), which kernels need",
            "unset the environment variable NUMBA_DISABLE_JIT, or take disable_jit out of "
            ".numba_config.yaml",
        )
    cached = options.pop("cache", False)
    options.pop("cold", None)
    # nobody calls a kernel as a C function: without that wrapper it is compiled once, not twice
    make: Any = numba.njit  # its types do not know this option
    kernel = make(no_cfunc_wrapper=True, **options)(function)
    if cached and hasattr(kernel, "enable_caching"):
        try:
            # as its enable_caching does
            kernel._cache = _Cache(function)
        except (RuntimeError, OSError) as error:
            _tell(error)
    return kernel


def part(function: FunctionType, options: dict[str, Any]) -> Any:
    """numba's dispatcher of a kernel for those that call it, in whose cache it is kept."""
    if not KNOWN:
        return dispatcher(function, options)
    parts = importlib.import_module("stemd.compilation.parts")
    options.pop("cache", None)
    cold = options.pop("cold", False)
    make: Any = numba.njit
    kernel = make(
        pipeline_class=parts.ColdCompiler if cold else parts.Compiler,
        no_cfunc_wrapper=True,
        no_cpython_wrapper=True,
        **options,
    )(function)
    if cold:
        _without_literals(kernel)
    return kernel


def _without_literals(kernel: Any) -> None:
    """Have one version of a part serve all constants that it is called with."""
    found = kernel.get_call_template

    def template(arguments: Any, named: Any) -> Any:
        general: Any = numba.types.unliteral
        return found(
            tuple(map(general, arguments)), {name: general(each) for name, each in named.items()}
        )

    kernel.get_call_template = template


def type_of_intrinsic(function: FunctionType, options: dict[str, Any]) -> Any:
    """numba's type of an intrinsic, by which it is found where a kernel calls it."""
    wrapped: Any = numba.extending.intrinsic
    made = wrapped(**options)(function) if options else wrapped(function)
    context = cpu_target.typing_context
    context.refresh()
    return context.resolve_value_type(made)


def _look_into_the_named_folder() -> None:
    """Raises OSError where NUMBA_CACHE_DIR names a folder that cannot be written.

    numba would keep its kernels beside the code instead, without a word.
    """
    settings: Any = numba.config
    folder = settings.CACHE_DIR
    if folder and folder not in _usable:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        _usable.add(folder)


def _forget(cache: FunctionCache) -> None:
    """Begin an index anew that cannot be read, or nothing would ever be saved again."""
    try:
        cache.flush()  # type: ignore[no-untyped-call]
    except OSError as error:
        _tell(error)


def _tell(
    error: Exception,
    so: str = "they are compiled at each start, which takes up to a minute",
) -> None:
    if os.environ.get(_TOLD):
        return
    os.environ[_TOLD] = "1"
    why = getattr(error, "strerror", None) or str(error)
    sys.stderr.write(
        f"stemd: warning: compiled kernels cannot be kept ({why}): {so}; remedy: {REMEDY}\n"
    )
