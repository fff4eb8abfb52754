"""Kernels and intrinsics that do not import numba before one of them is called or compiled."""

from __future__ import annotations

import functools
import importlib
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, TypeVar, cast

from numpy import ndarray, void

from stemd.garbage import uncollected

F = TypeVar("F", bound=Callable[..., Any])

READ: dict[str, str] = {}
"""Files of kernels, and `file_state` of each when it was read."""
_making = threading.RLock()
_COMPILER = "stemd.compilation.compiler"


def file_state(path: str) -> str:
    """What changes when a file is written again."""
    try:
        found = os.stat(path)  # noqa: PTH116 (of all kernels, at each start)
    except OSError:
        return "gone"
    return f"{found.st_mtime_ns} {found.st_size} {found.st_ino}"


def _note_file(function: FunctionType) -> None:
    path = function.__code__.co_filename
    if path not in READ:
        READ[path] = file_state(path)


class _Later:
    """A module that is imported when something of it is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._name), name)


def later(module: str) -> Any:
    """A module of numba or llvmlite, for the body of an intrinsic: imported when it is used."""
    return _Later(module)


def _kind(value: Any) -> Any:
    """What the version of a kernel depends on."""
    kind = type(value)
    if kind is ndarray:
        return value.dtype, value.ndim, value.flags.num
    if kind is void:
        return value.dtype
    return tuple([_kind(each) for each in value]) if kind is tuple else kind


class Kernel:
    """A function that numba compiles when it is called, by Python or by another kernel.

    Its other attributes are those of numba's dispatcher.
    """

    def __init__(self, function: FunctionType, options: Mapping[str, Any]) -> None:
        functools.update_wrapper(self, function)
        _note_file(function)
        self.function, self._options = function, options
        self._made: Any = None
        self._part: Any = None
        self._finished: Any = None
        self._runs: dict[Any, Callable[..., Any]] = {}

    @property
    def dispatcher(self) -> Any:
        """numba's own object for it."""
        if self._made is None:
            with _making:
                if self._made is None:
                    compiler = importlib.import_module(_COMPILER)
                    self._made = compiler.dispatcher(self.function, dict(self._options))
        return self._made

    @property
    def made(self) -> bool:
        """Whether it has been used so far."""
        return self._made is not None or self._part is not None or bool(self._runs)

    @property
    def versions(self) -> int:
        """How many have been compiled or read: for Python, and as parts of other kernels."""
        used = (each for each in (self._made, self._part) if each is not None)
        finished = 0 if self._finished is None else len(self._finished.versions)
        return finished + sum(len(each.overloads) for each in used)

    def __call__(self, *arguments: Any) -> Any:
        """Run it; compiled the first time, or taken from the cache."""
        if self._made is not None:
            return self._made(*arguments)
        run = self._runs.get(tuple([_kind(each) for each in arguments]))
        if run is not None:
            return run(*arguments)
        with uncollected():
            run = self._find_finished(arguments) or self.dispatcher
            return run(*arguments)

    def _find_finished(self, arguments: tuple[Any, ...]) -> Callable[..., Any] | None:
        """Its finished code, in a process that has not needed numba yet."""
        if _COMPILER in sys.modules or not self._options.get("cache"):
            return None
        with _making:
            finished = importlib.import_module("stemd.compilation.finished")
            if not finished.possible():
                return None
            if self._finished is None:
                try:
                    self._finished = finished.Finished(self.function)
                except OSError:  # of a file that is gone; with numba it is told
                    return None
            run: Callable[..., Any] | None = self._finished.find(arguments)
            if run is not None:
                self._runs[tuple([_kind(each) for each in arguments])] = run
            return run

    def __getattr__(self, name: str) -> Any:
        # what its own attributes could not find is not to be looked for in them again
        if name.startswith("__") or name in (
            "_part", "_made", "_finished", "_runs", "_options", "function", "dispatcher",
        ):  # fmt: skip
            raise AttributeError(name)
        return getattr(self.dispatcher, name)

    @property
    def _numba_type_(self) -> Any:
        """What numba takes it for in another kernel, of which it becomes a part."""
        if self._part is None:
            with _making:
                if self._part is None:
                    compiler = importlib.import_module(_COMPILER)
                    self._part = compiler.part(self.function, dict(self._options))
        return self._part._numba_type_

    def __deepcopy__(self, memo: Any) -> Kernel:
        return self


class Intrinsic:
    """A function that is compiled to instructions of its own, see `numba.extending.intrinsic`."""

    def __init__(self, function: FunctionType, options: Mapping[str, Any]) -> None:
        self.__doc__ = function.__doc__
        _note_file(function)
        self.function, self._options = function, options
        self._type: Any = None

    @property
    def _numba_type_(self) -> Any:
        """What numba takes it for in a kernel."""
        if self._type is None:
            with _making:
                compiler = importlib.import_module(_COMPILER)
                self._type = compiler.type_of_intrinsic(self.function, dict(self._options))
        return self._type

    def __deepcopy__(self, memo: Any) -> Intrinsic:
        return self


def njit(**options: Any) -> Any:
    """`numba.njit` with these options; `cache` asks for a cache and is no condition.

    `cold=True`, of what is seldom run: where other kernels call it one version serves all constants
    that they call it with, of which numba makes one for each, and it is optimised in those alone.
    """

    def kernel(function: F) -> F:
        return cast(F, Kernel(cast(FunctionType, function), options))

    return kernel


def intrinsic(function: Callable[..., Any], **options: Any) -> Any:
    """`numba.extending.intrinsic` with these options."""
    return Intrinsic(cast(FunctionType, function), options)


def with_numba() -> None:
    """Have numba call kernels from here on, sooner by 2 µs than finished code is found.

    For what calls them thousands of times a second, and starts but once.
    """
    importlib.import_module(_COMPILER)


_began = time.monotonic()


def last_progress() -> float:
    """By the monotonic clock, when the compiler last began or ended with a function."""
    progress = _progress()
    return _began if progress is None else float(progress.last)


def compiled() -> int:
    """How many functions this process has compiled; those from the cache do not count."""
    progress = _progress()
    return 0 if progress is None else int(progress.compiled)


def _progress() -> Any:
    """The compiler's; None before it is imported, and while another thread is importing it."""
    return getattr(sys.modules.get(_COMPILER), "progress", None)
