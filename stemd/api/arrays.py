"""Arrays of a notebook as recordings: NumPy, memmaps, dask, h5py, zarr and their like."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Scan
from stemd.adapters.base import Recording
from stemd.adapters.recordings.array_facts import ArrayFacts
from stemd.adapters.recordings.arrays import ArrayRecording
from stemd.adapters.recordings.bands import Fetch, by_bands
from stemd.adapters.recordings.remote import pieces
from stemd.errors import FormatError, UsageError

NAME = Path("the array")
"""Stands where a recording has its file."""
_EXACT = 2.0**24  # above it float32 no longer holds every whole number
READERS = 2
"""Threads that read an array whose chunks compute themselves, each with bands of its own."""


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
    fetch = _in_memory(np.asarray(data)) if isinstance(data, np.ndarray) else by_bands(data)
    dtype = np.dtype(data.dtype)
    if dtype.kind == "u" and dtype.itemsize == 8:
        fetch, dtype = _narrowed(fetch), np.dtype(np.uint32)
    elif dtype.kind in "if":
        fetch, dtype = _whole(fetch), np.dtype(np.uint32)
    try:
        facts = ArrayFacts(look=False)
        return ArrayRecording(NAME, shape, dtype, fetch, scan, lambda: None, facts)
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


def _whole(fetch: Fetch) -> Fetch:
    """Signed integers and real numbers as counts, where that is what they are."""

    def whole(first: int, stop: int, each: int) -> Iterator[NDArray[Any]]:
        for some in fetch(first, stop, each):
            with np.errstate(invalid="ignore"):
                counts = some.astype(np.uint32)
            exact = some.dtype.kind == "i" or float(np.max(some, initial=0.0)) <= _EXACT
            if not exact or not np.array_equal(counts, some):
                raise FormatError(
                    f"{NAME}: near pattern {first} there are values of type {some.dtype} "
                    "that are not counts (negative, fractions, not finite or above 2^24)",
                    "give counts as unsigned integers, for example "
                    "numpy.rint(patterns / gain).clip(0).astype(numpy.uint16); of a file, give its "
                    "path: real numbers in files are taken as they are",
                )
            yield counts

    return whole


def _narrowed(fetch: Fetch) -> Fetch:
    """64-bit counts as 32-bit ones: the sums of larger ones would overflow."""

    def narrow(first: int, stop: int, each: int) -> Iterator[NDArray[Any]]:
        for some in fetch(first, stop, each):
            if int(some.max()) > np.iinfo(np.uint32).max:
                raise FormatError(
                    f"{NAME}: near pattern {first} there are values above 2^32 - 1",
                    "no camera counts that high: look at where the values come from",
                )
            yield some.astype(np.uint32)

    return narrow
