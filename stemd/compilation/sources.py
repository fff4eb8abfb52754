"""What a compiled kernel was made of: when any of it changes it must be compiled again."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from stemd.compilation.kernels import READ, Intrinsic, Kernel, file_state


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
    for name, value in _known(function).items():
        if isinstance(value, (Kernel, Intrinsic)):
            yield from _parts(value.function, seen)
        elif isinstance(value, FunctionType) and "." not in name:  # which an intrinsic uses
            yield from _parts(value, seen)
        elif isinstance(value, type) and value.__module__.startswith("stemd."):
            yield _file_hash(inspect.getfile(value))
        elif isinstance(value, (bool, int, float, complex, str, tuple, np.generic)):
            yield f"{name}={value!r}"
        elif isinstance(value, np.ndarray):
            yield f"{name}={value.dtype}{value.shape}{hashlib.sha256(value.tobytes()).hexdigest()}"


def _known(function: FunctionType) -> dict[str, Any]:
    """What a function takes from around it, by name, `module.name` where it takes it from there."""
    names = _names(function.__code__)
    known: dict[str, Any] = dict(inspect.getclosurevars(function).nonlocals)
    known |= {name: function.__globals__[name] for name in names & function.__globals__.keys()}
    for module, value in list(known.items()):
        if isinstance(value, ModuleType):
            inside = vars(value)
            known |= {f"{module}.{name}": inside[name] for name in names & inside.keys()}
    return known


def _names(code: CodeType) -> set[str]:
    """Global names in a function and in those inside it."""
    inner = (each for each in code.co_consts if isinstance(each, CodeType))
    return set(code.co_names).union(*map(_names, inner))


@cache
def _file_hash(path: str) -> str:
    """Of what a file holds; of one that was written again since its kernels were read, as an update
    does under a process that goes on, another one: the machine code is of what was read.
    """
    content = Path(path).read_bytes()
    now = file_state(path)
    read = READ.get(path, now)
    return hashlib.sha256(content).hexdigest() if read == now else f"{path} of {read}"
