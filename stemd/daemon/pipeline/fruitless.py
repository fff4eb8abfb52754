"""A stream of which no frame comes: nonsense, another device's data, or sense without frames."""

from __future__ import annotations

import asyncio
import time

from stemd.adapters.base import Receives
from stemd.daemon.pipeline.reader import Reader
from stemd.daemon.pipeline.status import Status
from stemd.daemon.pipeline.troubles import Troubles

FRUITLESS_S = 10.0
"""Bytes that have come for so long without a frame are told."""
FRUITLESS_BYTES = 16_384
"""Fewer prove nothing: a camera that was armed some times announces its acquisitions."""
SILENT_S = 60.0
"""A stream that has been silent for so long is no trouble any more: longer than any pause that is
made before a camera is connected again."""
LOOK_S = 0.5
KIND = "stream"


class Fruit:
    """Compares what has come with what has come of it. `look` is called again and again."""

    def __init__(self) -> None:
        self.fruitless = False
        self._source: object = None
        self._bytes = self._blocks = self._came = 0
        self._first = self._last = 0.0

    def look(self, now: float, source: object, received: int, blocks: int) -> bool:
        """Whether `received` bytes of `source` in all, and `blocks` blocks, are no good stream.

        `now` in seconds, of a clock that never steps. Another source counts from zero again.
        """
        if source is not self._source:
            self._source, self._bytes = source, 0
        more, self._bytes = received - self._bytes, received
        if blocks != self._blocks or (self._came and now - self._last > SILENT_S):
            self._blocks, self._came = blocks, 0
            self.fruitless = False
        elif more > 0:
            self._first = self._first if self._came else now
            self._came, self._last = self._came + more, now
            lasted = now - self._first >= FRUITLESS_S
            self.fruitless = self.fruitless or (lasted and self._came >= FRUITLESS_BYTES)
        return self.fruitless


async def watch_stream(reader: Reader, status: Status, troubles: Troubles) -> None:
    """Tell of a stream of which no frame comes, until frames come, or nothing any more."""
    fruit = Fruit()
    while True:
        await asyncio.sleep(LOOK_S)
        adapter = reader.adapter
        if not isinstance(adapter, Receives):
            continue
        if fruit.look(time.monotonic(), adapter, adapter.received_bytes, reader.blocks):
            if not troubles.open(KIND):
                text = f"the camera sends, but no frame has come of it for {FRUITLESS_S:.0f} s"
                troubles.tell("error", text, adapter.no_frames, KIND)
                status.update()
        elif troubles.over(KIND):
            status.update()
