"""Whether the texts of an HDF5 file can be read without harm.

Attributes of variable length, such as units, stand in global heaps. The library believes what a
heap says of its objects: one of size zero in a damaged file makes it count for ever. Layout: HDF5
file format specification, version 3, III.E.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

_SIGNATURE = b"GCOL"
_HEAD = struct.Struct("<4sB3xQ")
_OBJECT = struct.Struct("<HHIQ")
MOST_BYTES = 256 * 1024 * 1024
"""So much beside the values of datasets is looked through at most."""


def texts_are_sound(path: Path, datasets: Iterable[Any]) -> bool:
    """Whether every global heap of a file, whose datasets these are, ends where it should.

    Only what lies between the values of the datasets is looked at.
    """
    size = path.stat().st_size
    if not size:
        return True
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        looked = 0
        for first, stop in _gaps(size, _extents(path, datasets)):
            looked += stop - first
            if looked > MOST_BYTES:
                return True
            at = data.find(_SIGNATURE, first, stop)
            while at >= 0:
                if not _is_sound(data, at, size):
                    return False
                at = data.find(_SIGNATURE, at + 4, stop)
    return True


def _extents(path: Path, datasets: Iterable[Any]) -> Iterator[tuple[int, int]]:
    """Where the values of datasets lie in the file: (first byte, byte behind the last)."""
    for dataset in datasets:
        if dataset.is_virtual or dataset.external or Path(dataset.file.filename) != path:
            continue
        if dataset.chunks:
            chunks: list[Any] = []
            dataset.id.chunk_iter(chunks.append)
            yield from ((chunk.byte_offset, chunk.byte_offset + chunk.size) for chunk in chunks)
        else:
            offset = dataset.id.get_offset()
            if offset is not None:
                yield offset, offset + dataset.id.get_storage_size()


def _gaps(size: int, extents: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    taken = np.array(list(extents), np.uint64).reshape(-1, 2)
    end = 0
    for first, stop in taken[np.argsort(taken[:, 0], kind="stable")].tolist():
        if end < first < size:
            yield end, first
        end = max(end, min(stop, size))
    if end < size:
        yield end, size


def _is_sound(data: mmap.mmap, at: int, size: int) -> bool:
    """Whether the objects of the heap at a byte fill it, one after the other."""
    if at + _HEAD.size > size:
        return False
    _, version, whole = _HEAD.unpack_from(data, at)
    if version != 1 or whole > size - at:
        return False
    here, end = at + _HEAD.size, at + whole
    while here + _OBJECT.size <= end:
        index, _, _, length = _OBJECT.unpack_from(data, here)
        step = length if index == 0 else _OBJECT.size + (length + 7) // 8 * 8
        if not _OBJECT.size <= step <= end - here:
            return False
        here += step
    return True
