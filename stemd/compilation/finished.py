"""Finished machine code of kernels: kept beside numba's cache, and run without numba.

numba and its tables take 0.3 s of each process, to find a kernel of which all is made. Code that
needs nothing of numba but its libraries of C is linked here by LLVM alone, in 3 ms and 0.03 s for
LLVM. Where anything is not as it was when the code was made, numba is used as if there were none.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import importlib.machinery
import importlib.util
import itertools
import json
import os
import pickle
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np

from stemd.compilation.sources import stamp_of
from stemd.compilation.stale import ENDING, note_use

Run = Callable[..., Any]

HARMLESS = {"NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS"}
"""Of numba's settings in the environment, those that do not change what it compiles."""
_SETTINGS_FILE = ".numba_config.yaml"
_MAKERS = ("compiler", "finished", "keeping", "parts", "quicker")
"""Modules of this package that decide what code is made, and how it is kept."""
_DESCRIBED = {"stamp", "arguments", "maker", "wrapper", "environment", "constants", "needs"}
_numbers = itertools.count()


def possible() -> bool:
    """Whether finished code can be kept and run here: with settings of numba it is made as asked.

    Linux's files of machine code can be looked into. x86-64's calls reach all of the memory; those
    of AArch64 do not, and numba loads them by means of its own.
    """
    changed = {name for name in os.environ if name.startswith("NUMBA_")} - HARMLESS
    here = sys.platform == "linux" and os.uname().machine == "x86_64" and sys.maxsize > 2**32
    return here and not changed and not Path(_SETTINGS_FILE).exists()


def folders(function: FunctionType) -> Iterator[Path]:
    """Where finished code of a kernel may be kept, the first choice first, as numba does."""
    named = os.environ.get("NUMBA_CACHE_DIR")
    if named:
        yield Path(named) / "finished"
        return
    yield Path(function.__code__.co_filename).parent / "__pycache__"
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    yield Path(os.path.expanduser(home), "stemd", "finished")  # noqa: PTH111


def name_of(function: FunctionType, stamp: str, arguments: str) -> str:
    """The name of the file; what it begins with, up to the last hyphen, is one state of the code.

    `stamp` says what a kernel is made of, `arguments` what it is called with.
    """
    place = hashlib.sha256(function.__code__.co_filename.encode()).hexdigest()[:12]
    called = hashlib.sha256(json.dumps([arguments, maker()]).encode()).hexdigest()[:24]
    return f"{function.__qualname__}-{place}-{stamp[:24]}-{called}{ENDING}"


def earlier(function: FunctionType, folder: Path, stamp: str) -> Iterator[Path]:
    """Files of other states of the kernel."""
    state = name_of(function, stamp, "").rsplit("-", 1)[0]
    for path in folder.glob(f"{state.rsplit('-', 1)[0]}-*{ENDING}"):
        if not path.name.startswith(f"{state}-"):
            yield path


@functools.cache
def maker() -> dict[str, str]:
    """What finished code was made with and for: it is run by the same alone."""
    import llvmlite
    from llvmlite import binding

    own = (Path(__file__).with_name(f"{name}.py") for name in _MAKERS)
    files = (_numba() / "_version.py", *own)
    return {
        "files": hashlib.sha256(b"".join(each.read_bytes() for each in files)).hexdigest(),
        "python": sys.version,
        "numpy": np.__version__,
        "llvmlite": llvmlite.__version__,
        "processor": binding.get_host_cpu_name(),
        "features": binding.get_host_cpu_features().flatten(),
        "system": binding.get_process_triple(),
    }


def packed(description: dict[str, Any], code: bytes) -> bytes:
    """The contents of a file."""
    text = json.dumps(description).encode() + b"\n" + code
    return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


class Finished:
    """The versions of a kernel of which finished code has been found."""

    def __init__(self, function: FunctionType) -> None:
        self._function = function
        self._stamp = stamp_of(function)
        self.versions: dict[str, Run] = {}

    def find(self, arguments: Iterable[Any]) -> Run | None:
        """The function that runs it for these; None where there is none that can be used."""
        called = [_described(each) for each in arguments]
        if None in called:
            return None
        text = ", ".join(map(str, called))
        if text not in self.versions:
            found = _found(self._function, self._stamp, text)
            if found is None:
                return None
            self.versions[text] = found
        return self.versions[text]


def _described(value: Any) -> str | None:
    """What `keeping.described` says of numba's type of it."""
    if type(value) is np.ndarray:
        flags, dtype = value.flags, value.dtype
        values = name_of_values(dtype)
        if values is None:
            return None
        layout = "C" if flags.c_contiguous else "F" if flags.f_contiguous else "A"
        kept = "" if flags.writeable else " read-only"
        return f"{values}[{value.ndim}{layout}]{kept}"
    if type(value) is tuple:
        parts = [_described(each) for each in value]
        return None if None in parts else f"({', '.join(map(str, parts))})"
    if isinstance(value, np.generic):
        return name_of_values(value.dtype)
    return _NAMES.get(type(value))


def name_of_values(dtype: np.dtype[Any]) -> str | None:
    """Of numbers, and of records of numbers; None for others."""
    if dtype.names is not None:
        text = f"{dtype} {dtype.itemsize} {dtype.isalignedstruct}"
        return f"record {hashlib.sha256(text.encode()).hexdigest()[:24]}"
    return dtype.name if dtype.kind in "biufc" and dtype.isnative else None


_NAMES = {
    bool: "bool", int: "int64", float: "float64", complex: "complex128", type(None): "none"
}  # fmt: skip


def _found(function: FunctionType, stamp: str, arguments: str) -> Run | None:
    for folder in folders(function):
        path = folder / name_of(function, stamp, arguments)
        try:
            data = _bytes_of(path)
        except OSError:
            continue
        description, code = _unpacked(data)
        if description is not None:
            expected = {"stamp": stamp, "arguments": arguments, "maker": maker()}
            note_use(path)
            return (
                _linked(function, description, code)
                if expected.items() <= description.items()
                else None
            )
        with contextlib.suppress(OSError):
            path.unlink()  # cut off; numba's own is kept here again
    return None


def _bytes_of(path: Path) -> bytes:
    """Of a file; what is none, such as a pipe that nobody writes into, is not waited for."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(number, "rb") as file:  # noqa: PTH123 (it is open)
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise OSError(f"{path} is no file")
        return file.read()


def _unpacked(data: bytes) -> tuple[dict[str, Any] | None, bytes]:
    """What `packed` was given; None for the description of anything else."""
    digest, _, text = data.partition(b"\n")
    if digest == hashlib.sha256(text).hexdigest().encode():
        head, _, code = text.partition(b"\n")
        with contextlib.suppress(ValueError, RecursionError):
            description = json.loads(head)
            if isinstance(description, dict) and description.keys() >= _DESCRIBED:
                return description, code
    return None, b""


def _linked(function: FunctionType, description: dict[str, Any], code: bytes) -> Run | None:
    """The code in memory, as a function that Python can call."""
    from llvmlite import binding

    linker, own, dynfunc = _linker()
    wrapper, environment = description["wrapper"], description["environment"]
    library = binding.JITLibraryBuilder().add_object_img(code)
    for name in description["needs"]:
        address = own.get(name) or binding.address_of_symbol(name)
        if address is None:
            return None
        library.import_symbol(name, address)
    library.export_symbol(wrapper).export_symbol(environment)
    try:
        made = library.link(linker, f"{function.__qualname__}-{next(_numbers)}")
    except RuntimeError:
        return None
    made.detach()  # it stays: when the process ends, threads may still be in it
    values = dynfunc.Environment({})
    values.consts.extend(map(np.dtype, description["constants"]))
    ctypes.c_void_p.from_address(made[environment]).value = id(values)
    run: Run = dynfunc.make_function(
        sys.modules.get(function.__module__, sys), function.__name__, function.__doc__ or "",
        made[wrapper], values, (values,),
    )  # fmt: skip
    return run


@functools.cache
def _linker() -> tuple[Any, dict[str, int], Any]:
    """LLVM's linker, the addresses of numba's functions in C by name, and its module of closures.

    numba's libraries are read without the package, whose import is what takes long.
    """
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    linker = binding.create_lljit_compiler()
    helpers = _library("_helperlib").c_helpers
    memory = _library("core.runtime._nrt_python").c_helpers
    own = {f"numba_{name}": address for name, address in helpers.items()}
    own |= {
        name if name.startswith("_") else f"NRT_{name}": address for name, address in memory.items()
    }
    own["numba_unpickle"] = ctypes.cast(_object_of, ctypes.c_void_p).value or 0
    return linker, own, _library("_dynfunc")


_DIGEST_BYTES = 20
_objects: dict[bytes, Any] = {}


@ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
def _object_of(data: int, size: int, digest: int) -> Any:
    """An object of Python, an error to be raised or a type, that code holds pickled.

    As `numba_unpickle`, which would import numba for it.
    """
    key = ctypes.string_at(digest, _DIGEST_BYTES)
    if key not in _objects:
        _objects[key] = pickle.loads(ctypes.string_at(data, size))
    return _objects[key]


def _numba() -> Path:
    found = importlib.util.find_spec("numba")
    assert found is not None
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0])


def _library(name: str) -> Any:
    """A library in C of numba."""
    full = f"numba.{name}"
    if full in sys.modules:
        return sys.modules[full]
    path = _numba().joinpath(*name.split("."))
    for ending in importlib.machinery.EXTENSION_SUFFIXES:
        file = path.with_name(path.name + ending)
        if file.exists():
            loader = importlib.machinery.ExtensionFileLoader(full, str(file))
            spec = importlib.util.spec_from_file_location(full, file, loader=loader)
            assert spec is not None
            module = importlib.util.module_from_spec(spec)
            loader.exec_module(module)
            return module
    raise ImportError(f"numba has no library {name}")
