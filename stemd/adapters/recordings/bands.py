"""Patterns of an array that is not in memory: read by bands of whole chunks, or mapped."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.recordings.mapped import Window, map_of
from stemd.adapters.recordings.remote import pieces

Patterns = NDArray[Any]
Fetch = Callable[[int, int, int], Iterator[Patterns]]
"""(first, stop, each) -> the patterns first..stop-1, (n, height, width) of the stored type, at most
`each` at a time; views where possible."""

BAND_BYTES = 16 * 1024 * 1024
"""About so much is read at a time by one thread."""
MOST_BYTES = 256 * 1024 * 1024
"""Whole chunks are read at a time up to this size; larger ones are computed more than once."""


def is_lazy(data: Any) -> bool:
    """Whether reading the array computes it, with threads of its own (dask)."""
    return hasattr(data, "__dask_graph__")


def by_bands(
    array: Any,
    read: Callable[[Any], Patterns] | None = None,
    *,
    good_bytes: int | None = None,
    most_bytes: int | None = None,
) -> Fetch:
    """Patterns of an array (n or ny, nx, height, width) that reads what is indexed.

    A band is some lines that end where chunks end, or a part of a line where that is large.
    `read` takes an index of the first axes; by default the array is indexed, by one thread at a
    time unless it is dask's. Bands aim at `good_bytes` and have at most `most_bytes`.
    """
    read = read or _reader(array)
    height, width = (int(n) for n in array.shape[-2:])
    columns = int(array.shape[1]) if array.ndim == 4 else 1
    size = height * width * np.dtype(array.dtype).itemsize
    good = max(1, (good_bytes or BAND_BYTES) // size)
    most = max(1, (most_bytes or MOST_BYTES) // size)
    line_ends, column_ends = (_chunk_ends(array, axis) for axis in (0, 1))

    def band(first: int, stop: int) -> Patterns:
        y, x = divmod(first, columns)
        if columns > 1 and (x or columns > most or stop < (y + 1) * columns):
            end = min(columns, stop - y * columns)
            return read((y, slice(x, _band_end(x, end, good, most, column_ends))))
        some, many = max(1, good // columns), most // columns
        return read(slice(y, _band_end(y, stop // columns, some, many, line_ends)))

    def fetch(first: int, stop: int, each: int) -> Iterator[Patterns]:
        at, some = first, np.empty((0, height, width), array.dtype)
        for low, high in pieces(first, stop, each):
            parts = []
            while low < high:
                if low >= at + some.shape[0]:
                    some = some[:0].copy()  # two bands at a time are not needed
                    at, some = low, band(low, stop).reshape(-1, height, width)
                parts.append(some[low - at : high - at])
                low += parts[-1].shape[0]
            whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
            yield whole if whole.flags.writeable else whole.copy()

    return fetch


def mapped_fetch(array: Any) -> Fetch:
    """Patterns of a memory map (n or ny, nx, height, width), read ahead and released behind."""
    flat = np.asarray(array).reshape(-1, *array.shape[-2:])
    size = flat[0].nbytes
    # a map begins at a page of the file
    mapped, begin = map_of(array), array.offset % mmap.ALLOCATIONGRANULARITY

    def fetch(first: int, stop: int, each: int) -> Iterator[Patterns]:
        window = None
        if array.flags.c_contiguous and mapped is not None:
            window = Window(mapped, begin + first * size, begin + stop * size)
        for low, high in pieces(first, stop, each):
            if window is not None:
                window.at(begin + low * size)
            yield flat[low:high]

    return fetch


def _reader(array: Any) -> Callable[[Any], Patterns]:
    if is_lazy(array):
        return lambda index: np.asarray(array[index])
    lock = threading.Lock()  # HDF5's objects are not for two threads at a time

    def read(index: Any) -> Patterns:
        with lock:
            return np.asarray(array[index])

    return read


def _chunk_ends(array: Any, axis: int) -> Sequence[int]:
    """Where chunks end along an axis, for dask (a tuple of sizes), h5py and zarr (one size)."""
    chunks = getattr(array, "chunks", None)
    if not chunks or not all(chunks):
        return ()
    size = chunks[axis]
    if isinstance(size, tuple):
        return [int(n) for n in np.cumsum(size)]
    return range(int(size), int(array.shape[axis]) + int(size), int(size))


def _band_end(first: int, stop: int, good: int, most: int, ends: Sequence[int]) -> int:
    """Where a band of about `good` steps ends: with a chunk, unless that is beyond `most`."""
    near = [end for end in ends if first < end <= first + most]
    within = [end for end in near if end <= first + good]
    end = within[-1] if within else near[0] if near else first + good
    return min(end, stop)
