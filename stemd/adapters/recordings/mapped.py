"""A map of a file for whoever goes through it once: read ahead, and released behind."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

PIECE_BYTES = 32 * 1024 * 1024


def map_of(array: Any) -> mmap.mmap | None:
    """The map in whose memory an array, or a view of one, lies; None where there is none."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array if isinstance(array, mmap.mmap) else None


class Window:
    """The pages that are in memory for one way through bytes first..stop-1 of a map.

    Two pieces are read ahead, and at most three are held, so that resident memory does not grow
    with the file; what is released stays in the page cache, and views of it remain valid.
    """

    def __init__(self, mapped: mmap.mmap, first: int, stop: int) -> None:
        self._map, self._first, self._stop = mapped, first, stop
        self._next = first

    def at(self, position: int) -> None:
        """The bytes from `position` on are used now; those before it are not needed any more."""
        while position >= self._next and self._next < self._stop:
            self._advise(self._next)
            self._next += PIECE_BYTES

    def _advise(self, at: int) -> None:
        if not hasattr(self._map, "madvise"):
            return  # Windows reads ahead as it likes
        page, first = mmap.PAGESIZE, self._first
        low = at // page * page
        if at > first:
            low += PIECE_BYTES
        ahead = min(self._stop, at + 2 * PIECE_BYTES)
        if low < ahead:
            self._map.madvise(mmap.MADV_WILLNEED, low, ahead - low)
        behind = (max(first, at - 2 * PIECE_BYTES) + page - 1) // page * page
        done = max(behind, (at - PIECE_BYTES) // page * page)
        if behind < done:
            self._map.madvise(mmap.MADV_DONTNEED, behind, done - behind)
