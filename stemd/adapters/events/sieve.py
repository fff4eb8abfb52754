"""Which decoded hits go on to the scan: hot pixels are found, hits of one electron are joined."""

from __future__ import annotations

from collections.abc import Generator

from stemd.adapters.events import checkpoint
from stemd.adapters.events.cluster import WAIT_US, Joiner
from stemd.adapters.events.front import Front, Hits
from stemd.adapters.events.hot import HotPixelFinder, told_hot
from stemd.adapters.events.settings import EventSettings
from stemd.blocks import Message


class Sieve:
    """Owns the scratch that a front decodes into."""

    def __init__(self, settings: EventSettings, front: Front) -> None:
        self._front = front
        self._hits = Hits()
        self._joiner = None
        if settings.cluster is not None:
            wait_us = min(WAIT_US, settings.reorder_window_us / 2)
            self._joiner = Joiner(settings.cluster, wait_us, front.layout.shape, self._hits)
        learns = settings.hot_pixels == "learn"
        self._hot = HotPixelFinder(front.layout.shape, settings.learn_hits if learns else 0)
        if settings.hot_pixels != "learn":
            front.set_masked(settings.hot_pixels)

    def room(self) -> Hits:
        """Where the next hits are to be decoded to."""
        self._hits.limit = min(self._hits.room, self._hot.to_see or self._hits.room)
        return self._hits

    def passed(self, count: int, items: int) -> Generator[Message, None, tuple[Hits, int]]:
        """What goes on of `count` decoded hits: (hits, how many); its items count them."""
        found = self._hot.look(self._hits, count)
        if found is not None:
            self._front.set_masked(found)
            yield from told_hot(found)
        if self._joiner is not None:
            return self._joiner.join(self._hits, count, items)
        return self._hits, count

    def finish(self) -> tuple[Hits, int]:
        """Hits that waited for others of their electron: no more will come."""
        return self._joiner.finish() if self._joiner is not None else (self._hits, 0)

    def parts(self) -> dict[str, checkpoint.Resumable]:
        """What a checkpoint must hold."""
        parts: dict[str, checkpoint.Resumable] = {"hot": self._hot}
        return parts if self._joiner is None else {**parts, "joiner": self._joiner}
