"""Patterns in HDF5 files: which dataset, and that it holds no more than it should."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stemd.adapters.recordings.address import RecordingPath, RemoteFile
from stemd.adapters.recordings.remote import RemoteBytes
from stemd.adapters.recordings.remote_stream import RemoteReader
from stemd.errors import FormatError

_HDF5_BUFFER_BYTES = 1024 * 1024
MAX_PIECE_BYTES = 1024**3
"""A pattern or a chunk is unpacked at once."""


def open_dataset(path: RecordingPath) -> tuple[Any, Callable[[], None]]:
    """The largest dataset of 3 or 4 dimensions, and what closes its file. Raises FormatError."""
    try:
        import h5py
    except ImportError as error:
        raise FormatError(
            f"{path}: reading HDF5 needs h5py, which is not installed", "pip install h5py"
        ) from error
    # HDF5 reads its metadata in small steps: the buffer makes one request of many
    opened: Any = path
    if isinstance(path, RemoteFile):
        opened = io.BufferedReader(RemoteReader(RemoteBytes(path)), _HDF5_BUFFER_BYTES)
    try:
        file = h5py.File(opened, "r")
    except OSError as error:
        raise FormatError(f"{path} is not an HDF5 file: {error}", "check the file") from error
    found: list[Any] = []

    def visit(_name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim in (3, 4) and item.dtype.kind in "uifb":
            found.append(item)

    file.visititems(visit)
    if not found:
        file.close()
        raise FormatError(
            f"{path} holds no dataset of 3 or 4 dimensions", "patterns are (ny, nx, height, width)"
        )
    dataset = max(found, key=lambda item: item.size)
    try:
        _check(dataset, path)
    except FormatError:
        file.close()
        raise
    return dataset, file.close


def refuse_foreign_bytes(path: Path) -> None:
    """Raises FormatError where any dataset of an HDF5 file lies elsewhere or unpacks hugely."""
    import h5py

    with h5py.File(path, "r") as file:
        file.visititems(lambda _, item: _check(item, path) if hasattr(item, "chunks") else None)


def _check(dataset: Any, path: RecordingPath, depth: int = 2) -> None:
    import h5py

    each = int(np.prod(dataset.shape[-2:], dtype=np.int64)) if dataset.ndim else 1
    chunk = int(np.prod(dataset.chunks, dtype=np.int64)) if dataset.chunks else 0
    largest = max(each if dataset.ndim > 2 else 0, chunk) * dataset.dtype.itemsize
    if largest > MAX_PIECE_BYTES:
        raise FormatError(
            f"{path}: a pattern or chunk of {dataset.name} has {largest:,} bytes",
            f"store it in chunks of at most {MAX_PIECE_BYTES:,}",
        )
    for name, *_ in dataset.external or ():
        _below(path, Path.cwd() / os.fsdecode(name), dataset.name)
    if not dataset.is_virtual:
        return
    for source in dataset.virtual_sources():
        if source.file_name == ".":
            continue
        beside = path.parent / source.file_name if isinstance(path, Path) else Path("/")
        _below(path, beside, dataset.name)
        if depth == 0:
            raise FormatError(f"{path}: virtual datasets of virtual datasets", "copy the data")
        if beside.is_file():
            with h5py.File(beside, "r") as other:
                item = other.get(source.dset_name)
                if item is not None:
                    _check(item, beside, depth - 1)


def _below(path: RecordingPath, other: Path, name: str) -> None:
    """A file from elsewhere must not make stemd read what its sender may not."""
    if isinstance(path, Path) and other.resolve().is_relative_to(path.parent.resolve()):
        return
    raise FormatError(
        f"{path}: the values of {name} are in another file, {other}",
        "only files in the folder of the recording, or below it, are read: copy the values",
    )
