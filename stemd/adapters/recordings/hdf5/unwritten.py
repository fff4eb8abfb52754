"""Patterns of an HDF5 file that were never written, which the library gives as zeros."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.recordings.hdf5.choice import Chosen
from stemd.errors import FormatError


def unwritten(chosen: Chosen, order: Sequence[int], path: Path) -> NDArray[np.bool_] | None:
    """Which patterns (n,) of what was chosen have a part that was never written; None for none.

    `order` says which axis of the datasets each axis of the patterns is. A file gets space for a
    chunk when it is written, so an acquisition that was broken off leaves chunks without any. The
    sources of virtual datasets are not looked at. Raises FormatError where nothing was written.
    """
    grids = [_written(part) for part in chosen.parts]
    series_of_one_index = len(grids) > 1 and chosen.index[0] is not None
    if series_of_one_index or all(grid.all() for grid in grids):
        return None
    if not any(grid.any() for grid in grids):
        raise FormatError(
            f"{path}: nothing was ever written into {chosen.name}",
            "the acquisition was broken off, or the file was copied too early",
        )
    scan = sorted(order[:-2])
    found = [
        _of_patterns(part, grid, chosen.index, scan)
        for part, grid in zip(chosen.parts, grids, strict=True)
    ]
    whole = np.concatenate(found) if len(found) > 1 else found[0]
    return ~whole.transpose([scan.index(axis) for axis in order[:-2]]).ravel()


def _written(dataset: Any) -> NDArray[np.bool_]:
    """Which chunks of a dataset were written: one bool a chunk, or a single one, of all axes."""
    if dataset.is_virtual or dataset.external:
        return np.ones([1] * dataset.ndim, np.bool_)
    if dataset.chunks is None:
        return np.full([1] * dataset.ndim, dataset.id.get_storage_size() > 0)
    sizes = zip(dataset.shape, dataset.chunks, strict=True)
    grid = np.zeros([-(-n // chunk) for n, chunk in sizes], np.bool_)
    if dataset.id.get_num_chunks() >= grid.size:
        return np.ones_like(grid)

    def seen(chunk: Any) -> None:
        grid[
            tuple(
                int(n) // each for n, each in zip(chunk.chunk_offset, dataset.chunks, strict=True)
            )
        ] = True

    dataset.id.chunk_iter(seen)
    return grid


def _of_patterns(
    dataset: Any, grid: NDArray[np.bool_], index: Sequence[int | None], scan: Sequence[int]
) -> NDArray[np.bool_]:
    """Which patterns of a dataset were written, over its scan axes as they are stored."""
    chunks = dataset.chunks or dataset.shape
    for axis, at in enumerate(index):
        if axis in scan:
            grid = np.repeat(grid, chunks[axis], axis)
            grid = grid.take(range(dataset.shape[axis]), axis)
        elif at is not None:
            grid = grid.take([at // chunks[axis]], axis)
        else:
            grid = np.asarray(grid.all(axis, keepdims=True))
    return grid.reshape([dataset.shape[axis] for axis in scan])
