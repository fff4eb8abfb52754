"""Compressed images: the framings of HDF5's filters and of the stream, whole blocks at a time.

bslz4: bytes of all values (8, big-endian), bytes of a block (4), then for each block its
compressed length (4) and the LZ4 block of its bit planes; fewer than 8 values that are left are
stored as they are. lz4: the same head and lengths, a block that would not become smaller is stored
as it is. Without a head, as in the old stream: a single LZ4 block.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.dectris.kernels import lz4, table
from stemd.adapters.dectris.kernels.bitshuffle import shuffle
from stemd.adapters.dectris.kernels.expanding import BLOCK_BYTES, HEAD_BYTES, expand_images
from stemd.adapters.dectris.kernels.memory import SLACK_BYTES

Bytes = NDArray[np.uint8]
Algorithm = Literal["none", "lz4", "bslz4"]

__all__ = ["ALGORITHMS", "HEAD_BYTES", "Algorithm", "compress_image", "expand_array", "scratch"]

ALGORITHMS: tuple[Algorithm, ...] = ("none", "lz4", "bslz4")
"""In the order of their codes in the kernels."""


def scratch(image_bytes: int) -> Bytes:
    """`planes` of `expand_images`."""
    return np.zeros(image_bytes + SLACK_BYTES, np.uint8)


def expand_array(data: bytes, algorithm: Algorithm, item: int, size: int) -> Bytes | None:
    """The `size` bytes of one array as they are, None where `data` is damaged."""
    out = np.zeros(size, np.uint8)
    room = np.frombuffer(bytearray(data + bytes(SLACK_BYTES)), np.uint8)
    rows = np.zeros((1, table.COLUMNS), np.int64)
    rows[0, table.DATA_END] = len(data)
    rows[0, table.ALGORITHM] = ALGORITHMS.index(algorithm)
    good = np.zeros(1, np.uint8)
    expand_images(room, rows, item, size, False, scratch(size), out, good)
    return out if good[0] else None


def compress_image(
    image: NDArray[np.unsignedinteger], algorithm: Algorithm, block_bytes: int = BLOCK_BYTES
) -> bytes:
    """An image of little-endian values as a camera sends it; lz4 is a single block."""
    data = np.ascontiguousarray(image).view(np.uint8).reshape(-1)
    if algorithm == "none":
        return data.tobytes()
    item = image.dtype.itemsize
    if algorithm == "lz4":
        block_bytes = max(1, data.size)
    whole = data.size if algorithm == "lz4" else data.size - data.size % (8 * item)
    room = np.empty(lz4.most_bytes(min(block_bytes, data.size)), np.uint8)
    parts = [data.size.to_bytes(8, "big"), block_bytes.to_bytes(4, "big")]
    for at in range(0, whole, block_bytes):
        size = min(block_bytes, whole - at)
        block = data[at : at + size]
        if algorithm == "bslz4":
            planes = np.empty(size, np.uint8)
            shuffle(block, size // item, item, planes)
            block = planes
        length = lz4.compress(block, 0, size, room, 0)
        stored = algorithm == "lz4" and length >= size
        packed = block.tobytes() if stored else room[:length].tobytes()
        parts += [len(packed).to_bytes(4, "big"), packed]
    return b"".join([*parts, data[whole:].tobytes()])


def compress_plain_lz4(image: NDArray[np.unsignedinteger]) -> bytes:
    """An image as one LZ4 block without a head, the encoding "lz4<" of the old stream."""
    data = np.ascontiguousarray(image).view(np.uint8).reshape(-1)
    room = np.empty(lz4.most_bytes(data.size), np.uint8)
    return room[: lz4.compress(data, 0, data.size, room, 0)].tobytes()
