"""What a dataset of an HDF5 file may make stemd read: its own values, of a bearable size."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from stemd.adapters.recordings.address import RecordingPath
from stemd.adapters.recordings.hdf5.chunks import check_chunks
from stemd.adapters.recordings.hdf5.filters import register_filters
from stemd.adapters.recordings.hdf5.virtual import places_of, takes_more, without_source
from stemd.errors import FormatError

MAX_PIECE_BYTES = 1024**3
"""A pattern or a chunk is unpacked at once."""
DEPTH = 2
"""Virtual datasets of virtual datasets are followed so far."""


def check_dataset(dataset: Any, path: RecordingPath, depth: int = DEPTH) -> None:
    """Raise FormatError where a dataset lies elsewhere, is not all there, or unpacks hugely.

    Filters that it, or a source of its values, needs are known to HDF5 then.
    """
    each = int(np.prod(dataset.shape[-2:], dtype=np.int64)) if dataset.ndim else 1
    chunk = int(np.prod(dataset.chunks, dtype=np.int64)) if dataset.chunks else 0
    largest = max(each if dataset.ndim > 2 else 0, chunk) * dataset.dtype.itemsize
    if largest > MAX_PIECE_BYTES:
        raise FormatError(
            f"{path}: a pattern or chunk of {dataset.name} has {largest:,} bytes",
            f"store it in chunks of at most {MAX_PIECE_BYTES:,}",
        )
    for name, *_ in dataset.external or ():
        check_below(path, Path.cwd() / os.fsdecode(name), dataset.name)
    if not dataset.is_virtual:
        register_filters(path, dataset)
        if dataset.chunks and isinstance(path, Path):
            check_chunks(dataset)
        return
    sources = dataset.virtual_sources()
    for source in sources:
        if source.file_name == ".":
            continue
        beside = beside_of(path, source.file_name)
        check_below(path, beside, dataset.name, source.file_name)
        if depth == 0:
            raise FormatError(f"{path}: virtual datasets of virtual datasets", "copy the data")
        _check_source(dataset, path, beside, source, depth)
    whole, lacking = int(np.prod(dataset.shape, dtype=np.int64)), without_source(dataset)
    # which patterns and pixels they are is known of plain places, and told of what is read itself
    if lacking and (depth < DEPTH or places_of(dataset) is None):
        raise FormatError(
            f"{path}: {lacking:,} of the {whole:,} values of {dataset.name} have no source, "
            "so they would be read as 0",
            "copy the values that are there into one dataset",
        )


def _check_source(dataset: Any, path: RecordingPath, beside: Path, source: Any, depth: int) -> None:
    """HDF5 gives zeros for a source that is not there: nobody could tell them from counts."""
    import h5py

    name = source.dset_name
    if "%" in f"{beside}{name}":
        raise FormatError(
            f"{path}: the sources of {dataset.name} are numbered by a pattern, {beside.name}",
            "copy the values into one file, with h5repack or h5py",
        )
    if not beside.is_file():
        raise FormatError(
            f"{path}: the values of {dataset.name} are in {beside.name}, which is not there",
            f"copy {beside.name} into {beside.parent}",
        )
    try:
        with h5py.File(beside, "r") as other:
            item = other.get(name)
            if not isinstance(item, h5py.Dataset):
                raise FormatError(
                    f"{path}: the values of {dataset.name} are in {name} of {beside.name}, which "
                    "has no such dataset",
                    f"copy the {beside.name} that belongs to it",
                )
            if takes_more(source, item.shape):
                raise FormatError(
                    f"{path}: {dataset.name} takes more values of {name} of {beside.name} than "
                    f"there are in its {' x '.join(map(str, item.shape))}",
                    f"copy the {beside.name} that belongs to it",
                )
            check_dataset(item, beside, depth - 1)
    except OSError as error:
        raise FormatError(
            f"{path}: {beside.name}, where values of {dataset.name} are, cannot be read: {error}",
            f"copy {beside.name} again",
        ) from error


def beside_of(path: RecordingPath, name: str) -> Path:
    """Where HDF5 finds a file that another one names: by its path, from that one's folder on.

    A file that is no longer at its absolute path is looked for beside, as where both were moved.
    """
    if not isinstance(path, Path):
        return Path("/")
    there, moved = path.parent / name, path.parent / Path(name).name
    gone = Path(name).is_absolute() and not _is_there(there)
    return moved if gone and moved.is_file() else there


def check_below(path: RecordingPath, other: Path, name: str, link: str = "") -> None:
    """A file from elsewhere must not make stemd read what its sender may not. `link`: the path by
    which it is named there, where a copy beside would be found, see `beside_of`."""
    if isinstance(path, Path) and other.resolve().is_relative_to(path.parent.resolve()):
        return
    remedy = "only files in the folder of the recording, or below it, are read: copy the values"
    if isinstance(path, Path) and Path(link).is_absolute() and not _is_there(other):
        remedy = f"it is not there: copy {other.name} into {path.parent}"
    raise FormatError(f"{path}: the values of {name} are in another file, {other}", remedy)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # nobody may look there
        return True
