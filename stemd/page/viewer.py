"""One viewer of the page: what it wants, what waits for it, and the task that sends it.

Nothing here grows with a viewer's slowness: of each image, and of each retained document, only
the newest waits; log lines wait in a short queue that drops its oldest. A newer frame of an
image is sent when the viewer has drawn all but the last one, so that neither the socket's
buffers nor the browser's queue fill with old frames: one is on its way while one is drawn.

A message costs the event loop about the same whatever its size, and the scan's threads pay for it
with the interpreter's lock. So an image that can go at once does: no task is woken, and all viewers
are written the same bytes. Thumbnails are most of the messages and nobody reads them closely, so a
viewer that can take bundles gets all of them in one message, a few times a second.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, deque

from aiohttp import web

from stemd.documents import compact_json
from stemd.logs import get_logger
from stemd.page import protocol
from stemd.page.encoder import Encoder, Payload, Waiting
from stemd.results import Snapshot

log = get_logger(__name__)

MAX_LINES = 200
"""Log lines and scan documents that wait for one viewer."""
TICK_S = 5.0
"""Longest silence towards a viewer; the page takes 30 s of it for a lost connection."""
MAX_UNDRAWN = 2
"""Frames of one image that a viewer has been sent and has not drawn."""
THUMBNAIL_INTERVAL_S = 0.3
"""Least time between two bundles; the last images of a scan and newly wanted ones do not wait."""

Key = tuple[str, str]
"""(pipeline, image name)."""


class Viewer:
    """The sending side of one WebSocket. Everything but `send` returns at once."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        transport: asyncio.WriteTransport,
        encoder: Encoder,
        *,
        operator: bool,
    ) -> None:
        self.socket = socket
        self._transport = transport
        self.operator = operator
        self.watched: dict[Key, int] = {}
        self.skipped = 0
        self._encoder = encoder
        self._images: dict[Key, Waiting | bytes] = {}
        self._bundles = False
        self._short = False
        self._thumbnails_due = 0.0
        self._taken = asyncio.Event()
        self._undrawn: Counter[Key] = Counter()
        self._retained: dict[tuple[str, str], str] = {}
        self._lines: deque[str] = deque(maxlen=MAX_LINES)
        self._replies = itertools.count()
        self._wake = asyncio.Event()
        self._rests_until = 0.0

    def cut_off(self) -> None:
        """End the connection at once."""
        self._transport.abort()

    def retain(self, kind: str, pipeline: str, text: str) -> None:
        """A document of which only the newest matters."""
        self._retained[(kind, pipeline)] = text
        self._wake.set()

    def forget(self, pipeline: str, text: str) -> None:
        """A pipeline is gone, as `text` says: nothing that waits of it is sent any more."""
        for kept in [key for key in self._retained if key[1] == pipeline]:
            del self._retained[kept]
        for key in [key for key in self._images if key[0] == pipeline]:
            del self._images[key]
            self._taken.set()
        self.retain("removed", pipeline, text)

    def line(self, text: str) -> None:
        """A log line or a scan document."""
        self._lines.append(text)
        self._wake.set()

    def reply(self, text: str) -> None:
        """An answer to this viewer's request; never dropped."""
        self.retain("reply", str(next(self._replies)), text)

    def watch(self, message: protocol.Watch) -> list[Key]:
        """Take a new list of wanted images; returns those that are new or of a new size."""
        wanted = {
            (pipeline, name): side
            for pipeline, images in message.images.items()
            for name, side in images.items()
        }
        fresh = [key for key, side in wanted.items() if self.watched.get(key) != side]
        self.watched = wanted
        self._bundles, self._short = message.bundle, message.short
        if fresh:
            self._thumbnails_due = 0.0
        for key in self._images.keys() - wanted.keys():
            del self._images[key]
            self._taken.set()
        return fresh

    def offer(self, pipeline: str, snapshot: Snapshot, only: set[str] | None = None) -> None:
        """New images: each takes its slot, the older one that still waited there is skipped."""
        fresh = False
        for result in snapshot.results:
            key = (pipeline, result.name)
            side = self.watched.get(key)
            if side is None or (only is not None and result.name not in only):
                continue
            self.skipped += key in self._images
            self._images[key] = Waiting(snapshot, result, side, self._short)
            fresh = True
        if fresh:
            if snapshot.final:
                self._thumbnails_due = 0.0
            if only is None:
                self._go_on()
            else:  # others may follow at once, and go together
                self._wake.set()

    async def give(self, key: Key, frame: bytes) -> None:
        """An image made for this viewer alone; returns when it is on its way, or not wanted."""
        if key not in self.watched:
            return
        self._images[key] = frame
        self._wake.set()
        while self._images.get(key) is frame:
            self._taken.clear()
            await self._taken.wait()

    def drawn(self, message: protocol.Drawn) -> None:
        """The viewer has drawn, or left out for newer ones, images of these names."""
        for name in message.names:
            key = (message.pipeline, name)
            if self._undrawn[key] > 1:
                self._undrawn[key] -= 1
            else:
                del self._undrawn[key]
        if self._images:
            self._go_on()

    @property
    def waiting(self) -> int:
        """Images and texts that wait to be sent: bounded whatever the viewer does."""
        return len(self._images) + len(self._retained) + len(self._lines)

    def _next_images(self) -> tuple[list[tuple[Key, Waiting | bytes]], float]:
        """The images of the next message; where there are none, how long (s) it may be quiet."""
        thumbnails = []
        for key, waiting in self._images.items():
            if self._undrawn[key] >= MAX_UNDRAWN:
                continue
            if not self._bundles or isinstance(waiting, bytes) or not waiting.thumbnail:
                return [self._take(key)], 0.0
            thumbnails.append(key)
        if not thumbnails:
            return [], TICK_S
        now = time.monotonic()
        if now < self._thumbnails_due:
            return [], self._thumbnails_due - now
        # one clock for all viewers: the same bundle serves them all
        self._thumbnails_due = (now // THUMBNAIL_INTERVAL_S + 1) * THUMBNAIL_INTERVAL_S
        return [self._take(key) for key in thumbnails], 0.0

    def _take(self, key: Key) -> tuple[Key, Waiting | bytes]:
        self._taken.set()
        return key, self._images.pop(key)

    @property
    def _free(self) -> bool:
        """Whether the task rests, and nothing has to be sent before an image."""
        return not (
            self._rests_until == 0.0
            or self._wake.is_set()
            or self._retained
            or self._lines
            or self.socket.closed
            or self._transport.is_closing()
            or self._transport.get_write_buffer_size()
        )

    def _go_on(self) -> None:
        """Send at once what can be; wake the task for the rest, unless it wakes in time itself."""
        while self._free:
            due = self._thumbnails_due
            images, quiet_s = self._next_images()
            if not images:
                if time.monotonic() + quiet_s >= self._rests_until:
                    return
                break
            frames = self._ready_frames(images)
            if frames is None:
                self._images = dict(images) | self._images
                self._thumbnails_due = due
                break
            if frames:
                self._transport.write(self._encoder.bundle(frames).message)
        self._wake.set()

    def _ready_frames(self, images: list[tuple[Key, Waiting | bytes]]) -> list[Payload] | None:
        """Their frames, less those that cannot be made; None where one takes longer."""
        frames = {}
        for key, waiting in images:
            try:
                if isinstance(waiting, bytes):
                    return None
                ready = self._encoder.at_once(key[0], waiting)
            except Exception:
                self._left_out(key)
                continue
            if ready is None:
                return None
            frames[key] = ready
        self._undrawn.update(frames.keys())
        return list(frames.values())

    async def send(self) -> None:
        """Send what waits, texts first, until cancelled or the socket is gone."""
        while not self.socket.closed:
            self._wake.clear()
            while self._retained:
                await self.socket.send_str(self._retained.pop(next(iter(self._retained))))
            while self._lines:
                await self.socket.send_str(self._lines.popleft())
            images, quiet_s = self._next_images()
            if images:
                await self._send_images(images)
            elif not self._retained and not self._lines:
                await self._idle(quiet_s)

    async def _send_images(self, images: list[tuple[Key, Waiting | bytes]]) -> None:
        frames = []
        for key, waiting in images:
            try:
                if isinstance(waiting, bytes):
                    frame = Payload(waiting)
                else:
                    frame = await self._encoder.frame(key[0], waiting)
            except Exception:
                self._left_out(key)
                continue
            self._undrawn[key] += 1
            frames.append(frame)
        if frames:
            await self.socket.send_bytes(self._encoder.bundle(frames).bytes)

    def _left_out(self, key: Key) -> None:
        """An engine's mistake in one image must not cost the viewer the others."""
        log.exception("page: an image cannot be shown", pipeline=key[0], image=key[1])

    async def _idle(self, quiet_s: float) -> None:
        """Wait for news. Silence is told too, else a dead network would look like a calm one."""
        self._rests_until = time.monotonic() + quiet_s
        try:
            async with asyncio.timeout(quiet_s):
                await self._wake.wait()
        except TimeoutError:
            if quiet_s == TICK_S:
                await self.socket.send_str(compact_json({"type": "tick"}))
        finally:
            self._rests_until = 0.0
