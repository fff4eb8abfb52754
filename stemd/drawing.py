"""Images that are not kept: how their lines are made when somebody wants them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWN_AT_ONCE = 1 << 18
"""Pixels that are in memory at once where an image is made line by line."""

Runs = list[tuple[int, int]]
"""Lines first..stop-1, some times."""


class LineChanges:
    """Which lines of an image that grows have changed since when.

    One thread tells what changes, all others ask. Time is counted in changes: whoever has drawn the
    image asks with the `now` of before that. What changes meanwhile is then drawn twice, never not
    at all. An image that becomes another one altogether has another one of these.
    """

    def __init__(self, lines: int) -> None:
        self.now = 0
        self._at = np.zeros(lines, np.int64)

    def changed(self, first: int, stop: int) -> None:
        """Lines first..stop-1 have changed, as far as there are such lines."""
        self._at[max(0, first) : stop] = self.now + 1
        self.now += 1

    def since(self, then: int) -> Runs:
        """Lines that have changed since."""
        edges = np.flatnonzero(np.diff(self._at > then, prepend=False, append=False))
        return [(int(first), int(stop)) for first, stop in edges.reshape(-1, 2)]


@dataclass(frozen=True, slots=True)
class Drawing:
    """How an image of a large scan is made from what is there anyway.

    `draw` gives lines first..stop-1 as float32 (stop - first, nx), in an array that is not written
    to, by any thread at any time; of a growing image they are as they are now. `changes`: which of
    them are others by now; None for an image that is finished.
    """

    shape: tuple[int, int]
    draw: Callable[[int, int], NDArray[np.float32]]
    changes: LineChanges | None = None

    def whole(self) -> NDArray[np.float32]:
        """All of it, in memory of its own."""
        image = np.empty(self.shape, np.float32)
        for first, stop in parts_of(self.shape):
            image[first:stop] = self.draw(first, stop)
        return image


def parts_of(shape: tuple[int, ...], multiple: int = 1) -> Iterator[tuple[int, int]]:
    """The lines of an image (y, x) in parts of bounded memory, each but the last of so many times
    `multiple` lines.
    """
    height, width = shape
    lines = max(1, DRAWN_AT_ONCE // max(1, width * multiple)) * multiple
    for first in range(0, height, lines):
        yield first, min(height, first + lines)
