"""Patterns of an HDF5 file that were never written, which the library gives as zeros."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.recordings.hdf5.bounds import beside_of
from stemd.adapters.recordings.hdf5.choice import Chosen
from stemd.adapters.recordings.hdf5.virtual import box_of, covered
from stemd.errors import FormatError


def unwritten(chosen: Chosen, order: Sequence[int], path: Path) -> NDArray[np.bool_] | None:
    """Which patterns (n,) of what was chosen have a part that was never written; None for none.

    `order` says which axis of the datasets each axis of the patterns is. A file gets space for a
    chunk when it is written, so an acquisition that was broken off leaves chunks without any, also
    in the sources of a virtual dataset, and these may give but a part of it. Raises FormatError
    where nothing was written.
    """
    grids = [_written(part) for part in chosen.parts]
    series_of_one_index = len(grids) > 1 and chosen.index[0] is not None
    gaps = any(part is None for part, _ in chosen.pieces)
    if series_of_one_index or (not gaps and all(grid.seen.all() for grid in grids)):
        return None
    if not any(grid.seen.any() for grid in grids):
        raise FormatError(
            f"{path}: nothing was ever written into {chosen.name}",
            "the acquisition was broken off, or the file was copied too early",
        )
    scan = sorted(order[:-2])
    found = [
        _of_patterns(part.shape, grid, chosen.index, scan)
        for part, grid in zip(chosen.parts, grids, strict=True)
    ]
    if gaps:
        left = iter(found)
        size = found[0].shape[1:]
        found = [
            next(left) if part is not None else np.zeros((count, *size), np.bool_)
            for part, count in chosen.pieces
        ]
    whole = np.concatenate(found) if len(found) > 1 else found[0]
    return ~whole.transpose([scan.index(axis) for axis in order[:-2]]).ravel()


@dataclass(frozen=True, slots=True)
class _Grid:
    """Which chunks of a dataset were written: `seen` over all its axes, of chunks of `sides`."""

    seen: NDArray[np.bool_]
    sides: tuple[int, ...]


def _written(dataset: Any) -> _Grid:
    one = [1] * dataset.ndim
    if dataset.is_virtual:
        return _of_sources(dataset)
    if dataset.external:
        return _Grid(np.ones(one, np.bool_), dataset.shape)
    if dataset.chunks is None:
        return _Grid(np.full(one, dataset.id.get_storage_size() > 0), dataset.shape)
    sizes = zip(dataset.shape, dataset.chunks, strict=True)
    grid = np.zeros([-(-n // chunk) for n, chunk in sizes], np.bool_)
    if dataset.id.get_num_chunks() >= grid.size:
        return _Grid(np.ones_like(grid), dataset.chunks)

    def seen(chunk: Any) -> None:
        grid[
            tuple(
                int(n) // each for n, each in zip(chunk.chunk_offset, dataset.chunks, strict=True)
            )
        ] = True

    dataset.id.chunk_iter(seen)
    return _Grid(grid, dataset.chunks)


def _of_sources(dataset: Any) -> _Grid:
    """Of a virtual dataset: each index of all axes but the last two, by what its sources hold.

    A source whose place is no plain box, or grows, counts as written where any source is.
    """
    import h5py

    shape = dataset.shape
    grid = np.ones([*shape[:-2], 1, 1], np.bool_)
    grid &= covered(dataset)[..., None, None]
    sides = (*([1] * (len(shape) - 2)), *shape[-2:])
    some = False
    for source in dataset.virtual_sources():
        near = source.file_name == "."
        beside = beside_of(Path(dataset.file.filename), source.file_name)
        with nullcontext(dataset.file) if near else h5py.File(beside, "r") as file:
            item = file[source.dset_name]
            if item.ndim < 2:
                return _Grid(np.ones_like(grid), sides)
            written, size = _written(item), item.shape
        some |= bool(written.seen.any())
        if written.seen.all():
            continue
        here, there = box_of(source.vspace, shape), box_of(source.src_space, size)
        if here is None or there is None:
            continue
        seen = _stretched(written, size, range(len(size) - 2))[there[:-2]].all((-2, -1))
        place = grid[..., 0, 0][here[:-2]]
        if place.size == seen.size:
            place &= seen.reshape(place.shape)
    grid &= some
    return _Grid(grid, sides)


def _stretched(grid: _Grid, shape: Sequence[int], axes: Iterable[int]) -> NDArray[np.bool_]:
    """What was written, index by index of these axes, chunk by chunk of the others."""
    seen = grid.seen
    for axis in axes:
        seen = np.repeat(seen, grid.sides[axis], axis).take(range(shape[axis]), axis)
    return seen


def _of_patterns(
    shape: Sequence[int], grid: _Grid, index: Sequence[int | None], scan: Sequence[int]
) -> NDArray[np.bool_]:
    """Which patterns of a dataset were written, over its scan axes as they are stored."""
    seen = _stretched(grid, shape, scan)
    for axis, at in enumerate(index):
        if axis in scan:
            continue
        if at is not None:
            seen = seen.take([at // grid.sides[axis]], axis)
        else:
            seen = np.asarray(seen.all(axis, keepdims=True))
    return seen.reshape([shape[axis] for axis in scan])
