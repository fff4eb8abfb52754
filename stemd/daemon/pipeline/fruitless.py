"""A stream of which no frame comes: nonsense, another device's data, or sense without frames."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial

from stemd.adapters.base import Adapter, CameraReading, Instrumented, Receives
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
MOST_S = 2.0 * LOOK_S
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


class Listening:
    """A clock that stands still while nobody listens to the camera.

    While a scan waits to begin or kernels are compiled, what has come waits, too: no frame can
    come of it. From one look to the next it goes on by `MOST_S`, as the computer may be busy.
    """

    def __init__(self) -> None:
        self._time = self._heard = 0.0

    def now(self, time_s: float, silent_s: float) -> float:
        """Seconds that were listened.

        `time_s`: of a clock that never steps; the reader's last sign of life is `silent_s` old.
        """
        before, self._heard = self._heard, time_s - silent_s
        self._time += min(max(0.0, self._heard - before), MOST_S)
        return self._time


async def watch_stream(reader: Reader, status: Status, troubles: Troubles) -> None:
    """Ask the adapter again and again how its camera is, and what has come.

    A stream of which no frame comes is told, until frames come, or nothing any more.
    """
    fruit, listening = Fruit(), Listening()
    while True:
        await asyncio.sleep(LOOK_S)
        now = listening.now(time.monotonic(), reader.age_s)
        asking = reader.adapter.asking
        ask = asking.ask("saying how the camera is", partial(_said_by, asking.adapter))
        answer = asyncio.ensure_future(ask)
        try:
            while not answer.done() and reader.adapter.asking is asking:
                await asyncio.wait({answer}, timeout=LOOK_S)
            if not answer.done():  # another one is there: this one may hang as long as it likes
                continue
            reader.adapter.camera_status, stream = answer.result()
        finally:
            answer.cancel()
        if stream is None:
            continue
        received, no_frames = stream
        if fruit.look(now, asking, received, reader.feed.blocks):
            if not troubles.open(KIND):
                text = f"the camera sends, but no frame has come of it for {FRUITLESS_S:.0f} s"
                troubles.tell("error", text, no_frames, KIND)
                status.update()
        elif troubles.over(KIND):
            status.update()


def _said_by(adapter: Adapter) -> tuple[Sequence[CameraReading], tuple[int, str] | None]:
    """What the camera says of itself; bytes that have come, and a remedy should they be no good."""
    readings = tuple(adapter.camera_status) if isinstance(adapter, Instrumented) else ()
    stream = (adapter.received_bytes, adapter.no_frames) if isinstance(adapter, Receives) else None
    return readings, stream
