"""Joining the hits that one electron leaves in neighbouring pixels, optional."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.events.front import Hits
from stemd.adapters.events.settings import ClusterSettings
from stemd.adapters.events.ticks import CLOCK_RESET, TICK_NS, TICKS_PER_US
from stemd.compilation import njit

OPEN = 1 << 14
"""Clusters that can be open at a time; the oldest is given out early when more are needed."""
WAIT_US = 20.0
"""A cluster waits so long for pixels that come late: pixels of one chip leave by columns."""

_FIELDS = 6  # first time, last time, sum of ToT, sum of y ToT, sum of x ToT, hits
_LATEST, _HEAD, _COUNT = 0, 1, 2


@njit(nogil=True, cache=True)
def _give_out(cluster: Any, times: Any, places: Any, tots: Any, n: int) -> int:
    """Append one electron: earliest time, ToT-weighted centroid rounded to a pixel."""
    if cluster[5] <= 0:
        return n
    weight = cluster[2]
    y = (2 * cluster[3] + weight) // (2 * weight)
    x = (2 * cluster[4] + weight) // (2 * weight)
    times[n] = cluster[0]
    places[n] = y << 16 | x
    tots[n] = min(weight, 65535)
    cluster[5] = 0
    return n + 1


@njit(nogil=True, cache=True)
def finish(
    clusters: NDArray[np.int64],
    marks: NDArray[np.int64],
    out_times: NDArray[np.int64],
    out_places: NDArray[np.uint32],
    out_tots: NDArray[np.uint16],
) -> int:
    """Give out every open cluster; returns electrons."""
    n = 0
    for k in range(marks[_HEAD], marks[_COUNT]):
        if clusters[k % clusters.shape[0], 5] > 0:
            n = _give_out(clusters[k % clusters.shape[0]], out_times, out_places, out_tots, n)
    marks[_HEAD] = marks[_COUNT]
    marks[_LATEST] = -(1 << 62)
    return n


@njit(nogil=True, cache=True)
def join(
    times: NDArray[np.int64],
    places: NDArray[np.uint32],
    tots: NDArray[np.uint16],
    count: int,
    items: NDArray[np.int64],
    item_count: int,
    window: int,
    radius: int,
    wait: int,
    owner: NDArray[np.int64],
    clusters: NDArray[np.int64],
    marks: NDArray[np.int64],
    out_times: NDArray[np.int64],
    out_places: NDArray[np.uint32],
    out_tots: NDArray[np.uint16],
) -> int:
    """Join hits within `radius` pixels and `window` ticks of each other; returns electrons.

    Connected components in space and time, formed as the hits arrive. An electron is at the
    ToT-weighted centroid (rounded half up to whole pixels, so that sums stay integers), at the
    time of its earliest hit; a ToT of 0 counts 1. It is given out when the stream is `wait`
    ticks past it. `items[:, 0]` (hits before an item) is rewritten to electrons before it. The
    output must hold count + OPEN. About 15 ns a hit at radius 1.
    """
    n = 0
    j = 0
    height, width = owner.shape
    size = clusters.shape[0]
    for i in range(count):
        while j < item_count and items[j, 0] <= i:
            if items[j, 1] == CLOCK_RESET:
                n += finish(clusters, marks, out_times[n:], out_places[n:], out_tots[n:])
            items[j, 0] = n
            j += 1
        time, tot = times[i], max(np.int64(tots[i]), np.int64(1))
        y, x = int(places[i] >> 16), int(places[i] & 0xFFFF)
        marks[_LATEST] = max(marks[_LATEST], time)
        while marks[_HEAD] < marks[_COUNT]:
            oldest = clusters[marks[_HEAD] % size]
            full = marks[_COUNT] - marks[_HEAD] >= size
            if oldest[5] > 0 and oldest[1] + wait >= marks[_LATEST] and not full:
                break
            n = _give_out(oldest, out_times, out_places, out_tots, n)
            marks[_HEAD] += 1
        mine = np.int64(-1)
        for row in range(max(0, y - radius), min(height, y + radius + 1)):
            for column in range(max(0, x - radius), min(width, x + radius + 1)):
                k = owner[row, column]
                if k < marks[_HEAD] or k == mine:
                    continue
                other = clusters[k % size]
                # a cluster that was joined to another points to it by its hit count below zero
                while other[5] < 0:
                    k = -other[5] - 1
                    if k < marks[_HEAD]:
                        break
                    other = clusters[k % size]
                if k < marks[_HEAD] or k == mine or other[5] == 0:
                    continue
                if time > other[1] + window or time < other[0] - window:
                    continue
                if mine < 0:
                    mine = k
                    continue
                keep, gone = clusters[max(mine, k) % size], clusters[min(mine, k) % size]
                keep[0], keep[1] = min(keep[0], gone[0]), max(keep[1], gone[1])
                keep[2] += gone[2]
                keep[3] += gone[3]
                keep[4] += gone[4]
                keep[5] += gone[5]
                gone[5] = -(max(mine, k) + 1)
                mine = max(mine, k)
        if mine < 0:
            mine = marks[_COUNT]
            marks[_COUNT] += 1
            fresh = clusters[mine % size]
            fresh[0] = fresh[1] = time
            fresh[2], fresh[3], fresh[4], fresh[5] = tot, y * tot, x * tot, 1
        else:
            cluster = clusters[mine % size]
            cluster[0], cluster[1] = min(cluster[0], time), max(cluster[1], time)
            cluster[2] += tot
            cluster[3] += y * tot
            cluster[4] += x * tot
            cluster[5] += 1
        owner[y, x] = mine
    while j < item_count:
        if items[j, 1] == CLOCK_RESET:
            n += finish(clusters, marks, out_times[n:], out_places[n:], out_tots[n:])
        items[j, 0] = n
        j += 1
    return n


class Joiner:
    """Open clusters, and for each detector pixel the cluster that last took it."""

    def __init__(
        self, settings: ClusterSettings, wait_us: float, shape: tuple[int, int], hits: Hits
    ) -> None:
        self._window = int(settings.window_ns / TICK_NS)
        self._radius = settings.radius_px
        self._wait = int(wait_us * TICKS_PER_US)
        self._owner: NDArray[np.int64] = np.full(shape, -1, np.int64)
        self._open: NDArray[np.int64] = np.zeros((OPEN, _FIELDS), np.int64)
        self._marks: NDArray[np.int64] = np.zeros(3, np.int64)
        self._marks[_LATEST] = -(1 << 62)
        self._electrons = Hits(hits.times.size + OPEN)
        self._electrons.items = hits.items

    def join(self, hits: Hits, count: int, items: int) -> tuple[Hits, int]:
        """Electrons that are complete now; the items count electrons instead of hits."""
        out = self._electrons
        electrons = join(
            hits.times,
            hits.places,
            hits.tots,
            count,
            hits.items,
            items,
            self._window,
            self._radius,
            self._wait,
            self._owner,
            self._open,
            self._marks,
            out.times,
            out.places,
            out.tots,
        )
        return out, electrons

    def finish(self) -> tuple[Hits, int]:
        """The electrons that are still open."""
        out = self._electrons
        return out, finish(self._open, self._marks, out.times, out.places, out.tots)

    def state(self) -> dict[str, NDArray[Any]]:
        """The open clusters and the pixels that are theirs."""
        numbers = np.arange(self._marks[_HEAD], self._marks[_COUNT])
        pixels = np.flatnonzero(self._owner >= self._marks[_HEAD])
        return {
            "marks": self._marks.copy(),
            "open": self._open[numbers % OPEN],
            "pixels": pixels,
            "owners": self._owner.ravel()[pixels],
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on with the open clusters of another one."""
        self._marks = state["marks"].copy()
        numbers = np.arange(self._marks[_HEAD], self._marks[_COUNT])
        self._open[numbers % OPEN] = state["open"]
        self._owner[:] = -1
        self._owner.ravel()[state["pixels"]] = state["owners"]
