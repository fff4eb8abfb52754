"""Datasets one after the other, some axes fixed or in another order, as one array."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.recordings.hdf5.choice import Chosen


class Joined:
    """An array (n or ny, nx, height, width) of what was chosen of an HDF5 file.

    `order` says which axis of the dataset each axis of the array is; by default the remaining
    axes as they are. It reads what is indexed along its first axes; HDF5 has one lock for all, and
    its objects are not to be used by two threads at a time.
    """

    def __init__(self, chosen: Chosen, order: Sequence[int] | None = None) -> None:
        self._chosen = chosen
        self._order = tuple(order if order is not None else chosen.axes)
        self._lock = threading.Lock()
        first = chosen.parts[0]
        self._pieces = chosen.pieces
        ends = np.cumsum([size for _, size in self._pieces])
        self._ends: NDArray[np.int64] = ends.astype(np.int64)
        stored = (int(ends[-1]), *(int(n) for n in first.shape[1:]))
        self.shape: tuple[int, ...] = tuple(stored[axis] for axis in self._order)
        self.ndim = len(self.shape)
        self.dtype: np.dtype[Any] = first.dtype
        chunks = first.chunks
        self.chunks = tuple(chunks[axis] for axis in self._order) if chunks else None

    @property
    def plain(self) -> Any:
        """The one dataset that the array is, as it is stored; None where it is not so simple."""
        straight = self._order == tuple(range(len(self._chosen.index)))
        return self._chosen.parts[0] if straight and len(self._pieces) == 1 else None

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Patterns by numbers and slices of the first axes."""
        given = index if isinstance(index, tuple) else (index,)
        where: list[Any] = [slice(None) if at is None else at for at in self._chosen.index]
        for axis, at in zip(self._order, given, strict=False):
            where[axis] = at
        with self._lock:
            read = self._read(where)
        kept = [axis for axis in range(len(where)) if not isinstance(where[axis], int)]
        wanted = [axis for axis in self._order if axis in kept]
        return read.transpose([kept.index(axis) for axis in wanted])

    def _of_piece(self, number: int, where: tuple[Any, ...]) -> NDArray[Any]:
        """A part of a piece; zeros where its file is not there."""
        part, size = self._pieces[number]
        if part is not None:
            return np.asarray(part[where])
        shape = (size, *self._chosen.parts[0].shape[1:])
        zeros: NDArray[Any] = np.broadcast_to(np.zeros((), self.dtype), shape)[where]
        return zeros

    def _read(self, where: list[Any]) -> NDArray[Any]:
        if len(self._ends) == 1:
            return np.asarray(self._chosen.parts[0][tuple(where)])
        at = where[0]
        first, stop = (at, at + 1) if isinstance(at, int) else at.indices(int(self._ends[-1]))[:2]
        pieces = []
        part = int(np.searchsorted(self._ends, first, side="right"))
        while first < stop:
            begin = int(self._ends[part - 1]) if part else 0
            end = min(stop, int(self._ends[part]))
            some = (slice(first - begin, end - begin), *where[1:])
            pieces.append(self._of_piece(part, some))
            first, part = end, part + 1
        whole = np.concatenate(pieces) if len(pieces) != 1 else pieces[0]
        return whole[0] if isinstance(at, int) else whole
