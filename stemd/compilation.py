"""Compiling kernels with numba, with a cache on the disk where there can be one.

numba ends with an error where its cache cannot be written or read: when no folder is writable,
when the disk is full, or when a power cut has left an empty file. None of these keeps a kernel
from being compiled: here it is compiled, and the first time one line on stderr says why that
takes long and what to do.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba.core import event
from numba.core.caching import FunctionCache

F = TypeVar("F", bound=Callable[..., Any])

REMEDY = "let the environment variable NUMBA_CACHE_DIR name a folder that stemd may write"
_TOLD = "STEMD_CACHE_TOLD"
"""In the environment, so that the processes which stemd starts do not say it again."""


class _Cache(FunctionCache):
    """numba's cache of one kernel; what is wrong with it is told, and is no error."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled kernel, None where it is not there or cannot be used."""
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception as error:  # pickle raises whatever the bytes make it do
            _forget(self)
            if isinstance(error, OSError):
                _tell(error)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled kernel for the next start."""
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        except Exception as error:
            _tell(error)


class _Progress(event.Listener):
    """Notes when the compiler last began or ended with a function, and counts them."""

    def __init__(self) -> None:
        self.last = time.monotonic()
        self.compiled = 0

    def on_start(self, event: Any) -> None:
        """See `numba.core.event.Listener`."""
        self.last = time.monotonic()

    def on_end(self, event: Any) -> None:
        """See `numba.core.event.Listener`."""
        self.last = time.monotonic()
        self.compiled += 1


_progress = _Progress()
event.register("numba:compile", _progress)  # type: ignore[no-untyped-call]


def last_progress() -> float:
    """By the monotonic clock, when the compiler last began or ended with a function."""
    return _progress.last


def compiled() -> int:
    """How many functions this process has compiled; those from the cache do not count."""
    return _progress.compiled


def njit(**options: Any) -> Any:
    """`numba.njit` with these options; `cache` asks for a cache and is no condition."""
    cached = options.pop("cache", False)

    def with_cache(function: F) -> F:
        kernel: Any = numba.njit(**options)(function)
        if cached and hasattr(kernel, "enable_caching"):
            try:
                # as its enable_caching does
                kernel._cache = _Cache(function)  # type: ignore[no-untyped-call]
            except (RuntimeError, OSError) as error:
                _tell(error)
        return cast(F, kernel)

    return with_cache


def _forget(cache: FunctionCache) -> None:
    """Begin an index anew that cannot be read, or nothing would ever be saved again."""
    try:
        cache.flush()  # type: ignore[no-untyped-call]
    except OSError as error:
        _tell(error)


def _tell(error: Exception) -> None:
    if os.environ.get(_TOLD):
        return
    os.environ[_TOLD] = "1"
    why = getattr(error, "strerror", None) or str(error)
    sys.stderr.write(
        f"stemd: warning: compiled kernels cannot be kept ({why}): they are compiled at each "
        f"start, which takes a minute; remedy: {REMEDY}\n"
    )
