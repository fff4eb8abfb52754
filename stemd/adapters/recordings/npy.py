"""Recordings in .npy files.

Not a camera: a module without a PLUGIN, used by files.py.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np

from stemd.acquisition import Scan
from stemd.adapters.recordings.address import RecordingPath, RemoteFile
from stemd.adapters.recordings.array_facts import ArrayFacts
from stemd.adapters.recordings.arrays import ArrayRecording
from stemd.adapters.recordings.bands import Patterns, mapped_fetch
from stemd.adapters.recordings.remote import RemoteBytes, pieces
from stemd.blocks import Message, Notice
from stemd.errors import FormatError

_HEAD_BYTES = 64 * 1024


def open_npy(path: RecordingPath, scan: Scan | None = None) -> ArrayRecording:
    """Open a .npy file, mapped where it is local.

    Raises FormatError when there is no array of patterns in it, or it does not fit the scan.
    """
    return _open_npy(path, scan) if isinstance(path, Path) else _open_remote_npy(path, scan)


def _open_npy(path: Path, scan: Scan | None) -> ArrayRecording:
    try:
        # copy-on-write: kernels know writable arrays only, the file stays as it is
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (ValueError, SyntaxError, EOFError, TokenError, MemoryError, OverflowError) as error:
        raise _shorter(path) or FormatError(
            f"{path} is not a .npy file: {error}", "save it with numpy.save"
        ) from error
    facts = ArrayFacts(notices=_behind(path.stat().st_size - array.offset - array.nbytes))
    spare = _spare_axes(array.shape)
    array = array[tuple(0 if axis in spare else slice(None) for axis in range(array.ndim))]
    _check_shape(path, array.shape)
    return ArrayRecording(
        path, array.shape, array.dtype, mapped_fetch(array), scan, lambda: None, facts
    )


def _head_of(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and type; the file stands at the array then.

    Raises ValueError, and KeyError for a version of the format that is not known.
    """
    major, _ = np.lib.format.read_magic(file)
    read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    shape, fortran, dtype = read[major](file)
    return tuple(map(int, shape)), bool(fortran), dtype


def _shorter(path: Path) -> FormatError | None:
    """The error for an array that is shorter than its header says; None for what is none."""
    try:
        with path.open("rb") as file:
            shape, _, dtype = _head_of(file)
            there, whole = path.stat().st_size - file.tell(), math.prod(shape) * dtype.itemsize
    except (ValueError, KeyError, SyntaxError, EOFError, TokenError, OSError):
        return None
    if dtype.hasobject or there >= whole:
        return None
    return FormatError(
        f"{path} is cut off: it has {there:,} of the {whole:,} bytes of an array of {shape}",
        "copy it again; if it was never longer, the array was not written to its end",
    )


def _behind(left: int) -> Sequence[Message]:
    """What to say of bytes behind an array."""
    if left <= 0:
        return ()
    text = f"{left:,} bytes after the array are not read"
    remedy = "if they are a second array, save each in a file of its own"
    return (Notice("bytes_behind", text, count=left, remedy=remedy),)


def _open_remote_npy(path: RemoteFile, scan: Scan | None) -> ArrayRecording:
    source = RemoteBytes(path)
    head = io.BytesIO(source.read(0, min(source.size, _HEAD_BYTES)))
    try:
        shape, fortran, dtype = _head_of(head)
        start = head.tell()
        if fortran or dtype.hasobject:
            raise ValueError("its patterns are not in C order")
        left = source.size - start - math.prod(shape) * dtype.itemsize
        if left < 0:
            raise ValueError("it is shorter than its header says")
    except (ValueError, KeyError) as error:
        raise FormatError(
            f"{path} is not a .npy file that can be read remotely: {error}",
            "save it with numpy.save from an array in C order",
        ) from error
    spare = _spare_axes(shape)
    shape = tuple(n for axis, n in enumerate(shape) if axis not in spare)
    _check_shape(path, shape)
    size = int(np.prod(shape[-2:])) * dtype.itemsize

    def fetch(first: int, stop: int, each: int) -> Iterator[Patterns]:
        with source.stream(start + first * size, start + stop * size) as stream:
            for low, high in pieces(first, stop, each):
                data = np.empty((high - low) * size, np.uint8)
                stream.read_into(data)
                yield data.view(dtype).reshape(-1, *shape[-2:])

    facts = ArrayFacts(notices=_behind(left))
    return ArrayRecording(path, shape, dtype, fetch, scan, source.close, facts)


def _spare_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Axes of one step that are left out where there are more than four, the last ones first."""
    ones = [axis for axis, size in enumerate(shape[:-2]) if size == 1][::-1]
    return tuple(ones[: max(0, len(shape) - 4)])


def _check_shape(path: RecordingPath, shape: tuple[int, ...]) -> None:
    """Raise FormatError for what is no array of patterns."""
    if 0 in shape:
        raise FormatError(
            f"{path}: the array is empty, its shape is {shape}", "save one that holds patterns"
        )
    if len(shape) not in (3, 4):
        raise FormatError(
            f"{path}: the array has the shape {shape}",
            "patterns are (ny, nx, height, width) or (n, height, width)",
        )
