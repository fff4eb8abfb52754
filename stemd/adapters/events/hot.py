"""Finding hot pixels in the first hits of a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.events.front import Hits
from stemd.blocks import Notice
from stemd.compilation import njit

TIMES_NEIGHBOURS = 20.0
"""A hot pixel has more hits than so many times the median of its surroundings, ..."""
LEAST_HITS = 50
"""... and at least so many: a real pattern of few hits must not lose a pixel to chance."""
MOST_PIXELS = 2000
"""More than this are not hot pixels but a pattern: nothing is masked."""


@njit(nogil=True, cache=True)
def count_hits(places: NDArray[np.uint32], hits: int, counts: NDArray[np.int64]) -> None:
    """counts[y, x] += 1 for each place y << 16 | x."""
    for i in range(hits):
        counts[places[i] >> 16, places[i] & 0xFFFF] += 1


def hot_pixels(counts: NDArray[np.int64]) -> list[tuple[int, int]]:
    """(y, x) of pixels that stand out of the median of the 5 x 5 pixels around them.

    A diffraction disc is many pixels wide and the point-spread of the camera at least two, so
    that a lone pixel far above its surroundings is the camera's own.
    """
    candidates = np.argwhere(counts >= LEAST_HITS)
    padded = np.pad(counts, 2, mode="reflect")
    found = []
    for y, x in candidates[np.argsort(-counts[tuple(candidates.T)], kind="stable")]:
        around = np.delete(padded[y : y + 5, x : x + 5].ravel(), 12)
        if counts[y, x] > TIMES_NEIGHBOURS * max(1.0, float(np.median(around))):
            found.append((int(y), int(x)))
        if len(found) > MOST_PIXELS:
            return []
    return sorted(found)


class HotPixelFinder:
    """Counts the first hits of a stream, then says which pixels are hot."""

    def __init__(self, shape: tuple[int, int], hits: int) -> None:
        self.to_see = hits
        """Hits still to be counted, 0 when done."""
        self._counts: NDArray[np.int64] = np.zeros(shape if hits else (0, 0), np.int64)

    def look(self, hits: Hits, count: int) -> list[tuple[int, int]] | None:
        """Count these hits; the hot pixels (y, x) once, when enough were seen, else None."""
        if self.to_see == 0:
            return None
        used = min(count, self.to_see)
        count_hits(hits.places, used, self._counts)
        self.to_see -= used
        return None if self.to_see else hot_pixels(self._counts)

    def state(self) -> dict[str, NDArray[Any]]:
        """What was counted, as long as it still matters."""
        counts = self._counts if self.to_see else self._counts[:0]
        return {"to_see": np.array([self.to_see]), "counts": counts.copy()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on counting where another one was."""
        self.to_see = int(state["to_see"][0])
        self._counts = state["counts"].astype(np.int64)


def told_hot(hot: list[tuple[int, int]]) -> Iterator[Notice]:
    """What people are told of pixels (y, x) that were found to be hot."""
    if hot:
        listed = ", ".join(f"[{y}, {x}]" for y, x in hot[:20])
        yield Notice(
            "hot_pixels",
            f"{len(hot)} hot pixels are ignored from now on: {listed}"
            + (", ..." if len(hot) > 20 else ""),
            level="info",
            count=len(hot),
            remedy="write them to hot_pixels in the config to ignore them from the first hit",
        )
