"""Images that follow from a scan's maps: of a large one drawn when somebody wants them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.drawing import Drawing, LineChanges
from stemd.engines.base import PositionMaps
from stemd.engines.vectors import stretches

LARGE = 1 << 21
"""Positions of a scan whose images are not kept beside the maps that they follow from."""

Values = Callable[[int, int], NDArray[np.floating[Any]]]
"""Gives the values of positions first..stop-1."""


class Growing:
    """The images of an engine whose values follow from a scan's maps, position by position.

    Those of a large scan are drawn from the maps, line by line, by whoever wants them: they need no
    memory, and one that grows shows positions that are newer than its snapshot too, each value
    whole. Of other scans each snapshot has arrays of its own.
    """

    def __init__(self, maps: PositionMaps) -> None:
        self._maps = maps
        self._changes = LineChanges(maps.shape[0])

    @property
    def drawn(self) -> bool:
        """Whether images are drawn when they are wanted."""
        return self._maps.total.size >= LARGE and self._maps.counts is None

    def came(self, first: int, stop: int) -> None:
        """These positions have become complete."""
        nx = self._maps.shape[1]
        self._changes.changed(first // nx, (stop - 1) // nx + 1)

    def anew(self) -> None:
        """The values of all positions are others in the drawings that are made from now on."""
        self._changes = LineChanges(self._maps.shape[0])

    def drawing(self, values: Values, *, final: bool) -> Drawing:
        """An image of these values, which depend on nothing else that changes but the maps."""
        (ny, nx), done = self._maps.shape, self._maps.done

        def draw(first: int, stop: int) -> NDArray[np.float32]:
            lines = np.zeros((stop - first, nx), np.float32)
            # copied before the sums are read: what becomes complete meanwhile may be half there
            flat, there = lines.reshape(-1), done[first * nx : stop * nx].copy()
            for at, end in stretches(0, flat.size):
                if final or there[at:end].any():
                    flat[at:end] = values(first * nx + at, first * nx + end)
            if not final:  # hits of positions that are not complete
                flat[~there] = 0.0
            return lines

        return Drawing((ny, nx), draw, None if final else self._changes)


def in_stretches(values: Values, positions: int) -> NDArray[np.float32]:
    """The values of all positions, made in parts of bounded memory."""
    image = np.empty(positions, np.float32)
    for first, stop in stretches(0, positions):
        image[first:stop] = values(first, stop)
    return image


def where_done(
    image: NDArray[np.float32], maps: PositionMaps, first: int = 0
) -> NDArray[np.float32]:
    """A copy of an image, or of its lines from position `first` on, 0 where nothing was scanned.

    For images that a position adds to its neighbourhood of: beyond what was scanned there is no
    specimen that anybody has seen.
    """
    done = maps.done[first : first + image.size].reshape(image.shape)
    return np.where(done, image, np.float32(0.0))


def clear_not_done(image: NDArray[np.float32], maps: PositionMaps) -> None:
    """Make an image (ny, nx) 0 where nothing was scanned."""
    flat = image.reshape(-1)
    for first, stop in stretches(0, flat.size):
        flat[first:stop][~maps.done[first:stop]] = 0.0
