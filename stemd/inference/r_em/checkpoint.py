"""TensorFlow's checkpoint files ("tensor bundles") read with numpy.

`variables.index` is a sorted table of the kind that LevelDB writes: blocks of entries whose keys
share prefixes, an index block, a footer. Its values are small protobuf messages that say where
in `variables.data-00000-of-00001` a variable lies.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.errors import FormatError
from stemd.inference.protobuf import fields, varint

_FOOTER_BYTES = 48
_MAGIC = 0xDB4775248B80FB57
_TRAILER_BYTES = 5  # of a block: its compression, and a checksum
_DTYPE, _SHAPE, _SHARD, _OFFSET, _SIZE = 1, 2, 3, 4, 5  # BundleEntryProto
_DIMENSION, _EXTENT = 2, 1  # TensorShapeProto
_FLOAT = 1  # DT_FLOAT


@dataclass(frozen=True, slots=True)
class Place:
    """Where a variable lies in the data file, in bytes."""

    dtype: int
    shape: tuple[int, ...]
    offset: int
    size: int


def read_index(data: bytes) -> dict[str, Place]:
    """{key: place} of every variable. Raises FormatError when the bytes are no such index."""
    try:
        return dict(_entries(data))
    except (IndexError, ValueError, struct.error, UnicodeDecodeError) as error:
        raise FormatError(
            f"the checkpoint's index cannot be read: {error}", "download the package again"
        ) from error


def read_float(data: bytes | memoryview, place: Place) -> NDArray[np.float32]:
    """One float32 variable. Raises FormatError when it is not one, or lies beyond the data."""
    count = int(np.prod(place.shape, dtype=np.int64))
    if place.dtype != _FLOAT or place.size != 4 * count:
        raise FormatError(f"a variable of type {place.dtype} and {place.size} bytes is not float32")
    if place.offset + place.size > len(data):
        raise FormatError("the checkpoint's data file is cut off", "download the package again")
    return np.frombuffer(data, "<f4", count, place.offset).reshape(place.shape).copy()


def _entries(data: bytes) -> Iterator[tuple[str, Place]]:
    if len(data) < _FOOTER_BYTES or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise ValueError("it is not a table")
    footer = data[-_FOOTER_BYTES:]
    _, _, at = _handle(footer, 0)  # the table of other tables
    offset, size, _ = _handle(footer, at)
    for _, handle in _block(data, offset, size):
        first, length, _ = _handle(handle, 0)
        for key, value in _block(data, first, length):
            if key:  # the empty key describes the bundle itself
                yield key.decode(), _place(value)


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    if offset + size + _TRAILER_BYTES > len(data):
        raise ValueError("it is cut off")
    if data[offset + size] != 0:
        raise ValueError("it is compressed, which TensorFlow does not do")
    block = data[offset : offset + size]
    (restarts,) = struct.unpack("<I", block[-4:])
    end = size - 4 * (restarts + 1)
    if end < 0:
        raise ValueError("a block is shorter than its own tail")
    at, key = 0, b""
    while at < end:
        shared, at = varint(block, at)
        fresh, at = varint(block, at)
        length, at = varint(block, at)
        key = key[:shared] + block[at : at + fresh]
        at += fresh
        yield key, block[at : at + length]
        at += length


def _handle(data: bytes, at: int) -> tuple[int, int, int]:
    offset, at = varint(data, at)
    size, at = varint(data, at)
    return offset, size, at


def _place(message: bytes) -> Place:
    numbers: dict[int, int] = {}
    shape: list[int] = []
    for number, value in fields(message):
        if isinstance(value, int):
            numbers[number] = value
        elif number == _SHAPE:
            shape += [_extent(part) for key, part in fields(value) if key == _DIMENSION]
    if numbers.get(_SHARD, 0) != 0:
        raise ValueError("its data are in several files")
    return Place(
        numbers.get(_DTYPE, 0), tuple(shape), numbers.get(_OFFSET, 0), numbers.get(_SIZE, 0)
    )


def _extent(dimension: int | memoryview) -> int:
    if isinstance(dimension, int):
        raise ValueError("a shape without sides")
    found = [value for key, value in fields(dimension) if key == _EXTENT]
    return found[0] if found and isinstance(found[0], int) else 0
