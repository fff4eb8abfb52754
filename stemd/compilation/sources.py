"""What a compiled kernel was made of: when any of it changes it must be compiled again."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType

import numpy as np

from stemd.compilation.kernels import Intrinsic, Kernel


def stamp_of(function: FunctionType) -> str:
    """A hash of the files of a kernel and of all kernels that it calls, and of its constants.

    A constant of another module is compiled in as its value; so what counts is the value.
    """
    digest = hashlib.sha256()
    for part in sorted(set(_parts(function, set()))):
        digest.update(part.encode())
    return digest.hexdigest()


def _parts(function: FunctionType, seen: set[int]) -> Iterator[str]:
    if id(function) in seen:
        return
    seen.add(id(function))
    yield _file_hash(inspect.getfile(function))
    known = dict(inspect.getclosurevars(function).nonlocals) | {
        name: function.__globals__[name]
        for name in _names(function.__code__)
        if name in function.__globals__
    }
    for name, value in known.items():
        if isinstance(value, (Kernel, Intrinsic)):
            yield from _parts(value.function, seen)
        elif isinstance(value, FunctionType):  # which an intrinsic uses
            yield from _parts(value, seen)
        elif isinstance(value, (bool, int, float, complex, str, tuple, np.generic)):
            yield f"{name}={value!r}"
        elif isinstance(value, np.ndarray):
            yield f"{name}={value.dtype}{value.shape}{hashlib.sha256(value.tobytes()).hexdigest()}"


def _names(code: CodeType) -> set[str]:
    """Global names in a function and in those inside it."""
    inner = (each for each in code.co_consts if isinstance(each, CodeType))
    return set(code.co_names).union(*map(_names, inner))


@cache
def _file_hash(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
