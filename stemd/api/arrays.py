"""Arrays of a notebook as recordings: NumPy, memmaps, dask, h5py, zarr and their like."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Scan
from stemd.adapters.base import Recording
from stemd.adapters.recordings.arrays import ArrayRecording, Fetch
from stemd.adapters.recordings.remote import pieces
from stemd.errors import FormatError, UsageError

NAME = Path("the array")
"""Stands where a recording has its file."""
BAND_BYTES = 16 * 1024 * 1024
"""Of an array that is not in memory, about so much is read at a time by one thread."""
MOST_BYTES = 256 * 1024 * 1024
"""Whole chunks are read at a time up to this size; larger ones are computed more than once."""
READERS = 2
"""Threads that read an array whose chunks compute themselves, each with bands of its own."""


def is_lazy(data: Any) -> bool:
    """Whether reading the array computes it, with threads of its own (dask)."""
    return hasattr(data, "__dask_graph__")


def sound_array(data: Any) -> Any:
    """The data as something of counts with a shape, a type and an index.

    Lists become arrays. Raises UsageError for what is not an array of patterns.
    """
    if isinstance(data, list | tuple):
        try:
            data = np.asarray(data)
        except ValueError as error:
            raise UsageError(
                f"the list is not an array: {error}", "give lists of equal length, or an array"
            ) from error
    if isinstance(data, np.ma.MaskedArray):
        raise UsageError(
            "the array is masked, but stemd knows no masked counts", "give data.filled(0)"
        )
    try:
        shape, dtype = tuple(data.shape), np.dtype(data.dtype)
        data.__getitem__  # noqa: B018
    except (AttributeError, TypeError) as error:
        raise UsageError(
            f"{type(data).__name__} is not an array of patterns",
            "give a NumPy or dask array, or a path; of a HyperSpy or py4DSTEM object its .data",
        ) from error
    if not all(isinstance(n, int | np.integer) for n in shape):
        raise UsageError(
            f"the size of the array is not known: {shape}", "call its compute_chunk_sizes()"
        )
    if len(shape) not in (3, 4):
        raise UsageError(
            f"an array of shape {shape} is not a scan of patterns",
            "patterns are 4D (y, x, ky, kx), or 3D (n, ky, kx) with scan=(ny, nx)"
            + ("; an image goes to restore()" if len(shape) == 2 else ""),
        )
    if 0 in shape:
        raise UsageError(f"the array is empty: its shape is {shape}", "give it some patterns")
    if dtype.kind not in "uifb":
        raise UsageError(
            f"patterns of type {dtype} are not counts",
            "of complex waves give the intensity, numpy.abs(data) ** 2, in whole counts",
        )
    return data


def open_array(data: Any, scan: Scan) -> Recording:
    """A sound array as a recording; nothing of it is read yet.

    Raises UsageError where the scan is not the array's. Values that are no counts raise
    FormatError when they are read.
    """
    shape = tuple(int(n) for n in data.shape)
    columns = scan.line_frames
    if len(shape) == 4 and (scan.leading or shape[:2] != (scan.shape[0], columns)):
        ny, nx = scan.shape
        raise UsageError(
            f"the array has {shape[0]} x {shape[1]} patterns, which is not a scan of {ny} x {nx} "
            f"with {scan.flyback_frames} flyback frames a line and {scan.leading} leading frames",
            f"leave the shape out, or give all patterns as 3D: data.reshape(-1, {shape[2]}, "
            f"{shape[3]})",
        )
    fetch = _in_memory(np.asarray(data)) if isinstance(data, np.ndarray) else _by_bands(data)
    dtype = np.dtype(data.dtype)
    if dtype.kind == "u" and dtype.itemsize == 8:
        fetch, dtype = _narrowed(fetch), np.dtype(np.uint32)
    try:
        return ArrayRecording(NAME, shape, dtype, fetch, scan, close=lambda: None)
    except FormatError as error:
        raise UsageError(error.message, error.remedy) from error


def _in_memory(array: NDArray[Any]) -> Fetch:
    """Patterns of an array that can be looked at without a copy of the whole."""
    height, width = array.shape[-2:]
    flat: NDArray[Any] | None
    try:
        flat = np.reshape(array, (-1, height, width), copy=False)
    except ValueError:
        flat = None  # of columns first, say: no view has its patterns in a row

    def fetch(first: int, stop: int, each: int) -> Iterator[NDArray[Any]]:
        for low, high in pieces(first, stop, each):
            some = flat[low:high] if flat is not None else _across_lines(array, low, high)
            # kernels know writable arrays only
            yield some if some.flags.writeable else some.copy()

    return fetch


def _across_lines(array: NDArray[Any], first: int, stop: int) -> NDArray[Any]:
    columns = array.shape[1]
    parts = []
    while first < stop:
        y, x = divmod(first, columns)
        parts.append(array[y, x : min(columns, x + stop - first)])
        first += parts[-1].shape[0]
    return np.concatenate(parts)


def _narrowed(fetch: Fetch) -> Fetch:
    """64-bit counts as 32-bit ones: the sums of larger ones would overflow."""

    def narrow(first: int, stop: int, each: int) -> Iterator[NDArray[Any]]:
        for some in fetch(first, stop, each):
            if int(some.max()) > np.iinfo(np.uint32).max:
                raise FormatError(
                    f"{NAME}: near pattern {first} there are values above 2^32 - 1",
                    "no camera counts so far: look at where the values come from",
                )
            yield some.astype(np.uint32)

    return narrow


def _by_bands(array: Any) -> Fetch:
    """Patterns of an array that is somewhere else, a band of whole chunks at a time.

    A band is some lines that end where chunks end, or a part of a line where that is large.
    """
    read = _reader(array)
    height, width = (int(n) for n in array.shape[-2:])
    columns = int(array.shape[1]) if array.ndim == 4 else 1
    size = height * width * np.dtype(array.dtype).itemsize
    good, most = max(1, BAND_BYTES // size), max(1, MOST_BYTES // size)
    line_ends, column_ends = (_chunk_ends(array, axis) for axis in (0, 1))

    def band(first: int, stop: int) -> NDArray[Any]:
        y, x = divmod(first, columns)
        if columns > 1 and (x or columns > most or stop < (y + 1) * columns):
            end = min(columns, stop - y * columns)
            return read((y, slice(x, _band_end(x, end, good, most, column_ends))))
        some, many = max(1, good // columns), most // columns
        return read(slice(y, _band_end(y, stop // columns, some, many, line_ends)))

    def fetch(first: int, stop: int, each: int) -> Iterator[NDArray[Any]]:
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


def _reader(array: Any) -> Callable[[Any], NDArray[Any]]:
    if is_lazy(array):
        return lambda index: np.asarray(array[index])
    lock = threading.Lock()  # HDF5's objects are not for two threads at a time

    def read(index: Any) -> NDArray[Any]:
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
