"""Keeps the machine code that numba has made of a kernel as finished code.

For versions of numba that are `compiler.KNOWN` only.
"""

from __future__ import annotations

import contextlib
import struct
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import numba
import numpy as np
from numba.np.numpy_support import as_dtype

from stemd.compilation.finished import earlier, folders, maker, name_of, name_of_values, packed
from stemd.compilation.stale import PART, remove_unused

_SYMBOLS, _SECTION_BYTES, _SYMBOL_BYTES = 2, 64, 24
"""Of ELF files of 64 bits: the type of a table of symbols, sizes of entries."""


def keep(
    function: FunctionType, stamp: str, types: Any, result: Any, code: Callable[[], bytes]
) -> None:
    """Keep a compiled kernel for processes without numba, unless its code needs more of numba.

    `types` are numba's of its arguments, `result` is numba's, `code` gives the machine code.
    Raises OSError where nothing can be written.
    """
    arguments = [described(each) for each in types]
    constants = result.environment.consts  # of arrays that it returns
    others = [each for each in result._find_referenced_environments() if each.consts]
    if (
        None in arguments
        or result.reload_init
        or any(each is not result.environment for each in others)
        or not all(isinstance(each, np.dtype) and each.kind in "biufc" for each in constants)
    ):
        return
    text = ", ".join(map(str, arguments))
    name = name_of(function, stamp, text)
    if any(_is_there(folder / name) for folder in folders(function)):
        return
    made = code()
    description = {
        "stamp": stamp,
        "arguments": text,
        "maker": maker(),
        "wrapper": result.fndesc.llvm_cpython_wrapper_name,
        "environment": result.target_context.get_env_name(result.fndesc),
        "constants": [each.str for each in constants],
        "needs": sorted(set(_needs(made))),
    }
    failed: OSError | None = None
    for folder in folders(function):
        try:
            _write(folder, name, packed(description, made))
        except OSError as error:
            failed = error
            continue
        for path in earlier(function, folder, stamp):
            path.unlink(missing_ok=True)
        remove_unused(folder)
        return
    if failed is not None:
        raise failed


def described(kind: Any) -> str | None:
    """What `Finished` calls an argument of this type of numba; None for one that it cannot tell."""
    types: Any = numba.types
    if type(kind) is types.Array:
        # of numbers they are never unaligned, of records that is the records' own affair
        values = _name(kind.dtype)
        kept = "" if kind.mutable else " read-only"
        return None if values is None else f"{values}[{kind.ndim}{kind.layout}]{kept}"
    if isinstance(kind, types.BaseTuple) and not isinstance(kind, types.BaseNamedTuple):
        parts = [described(each) for each in kind]
        return None if None in parts else f"({', '.join(map(str, parts))})"
    return "none" if kind == types.none else _name(kind)


def _name(kind: Any) -> str | None:
    types: Any = numba.types
    if type(kind) in (types.Integer, types.Float, types.Complex, types.Boolean, types.Record):
        return name_of_values(as_dtype(kind))
    return None


def _needs(code: bytes) -> Iterator[str]:
    """Names of what machine code takes from elsewhere, see elf(5)."""
    (sections_at,), (count,) = (
        struct.unpack_from("<Q", code, 40),
        struct.unpack_from("<H", code, 60),
    )
    sections = [
        struct.unpack_from("<IIQQQQIIQQ", code, sections_at + _SECTION_BYTES * i)
        for i in range(count)
    ]
    for _, kind, _, _, first, size, names, *_ in sections:
        if kind != _SYMBOLS:
            continue
        texts = sections[names][4]
        for at in range(first, first + size, _SYMBOL_BYTES):
            name_at, _, _, section = struct.unpack_from("<IBBH", code, at)
            text = code[texts + name_at : code.index(b"\0", texts + name_at)].decode()
            if text and section == 0:
                yield text


def _is_there(path: Path) -> bool:
    """Also where nobody may look: it is not."""
    try:
        return path.exists()
    except OSError:
        return False


def _write(folder: Path, name: str, data: bytes) -> None:
    """Whole or not at all, for other processes too."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{name}.{uuid.uuid4().hex[:12]}{PART}"
    try:
        part.write_bytes(data)
        part.replace(folder / name)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
