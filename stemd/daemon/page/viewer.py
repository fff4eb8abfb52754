"""One viewer of the page: what it wants, what waits for it, and the task that sends it.

Nothing here grows with a viewer's slowness: of each image, and of each retained document, only
the newest waits; log lines wait in a short queue that drops its oldest. A newer frame of an
image is sent when the viewer has drawn all but the last one, so that neither the socket's
buffers nor the browser's queue fill with old frames: one is on its way while one is drawn.

A message costs the event loop about the same whatever its size, and the scan's threads pay for it
with the interpreter's lock. Thumbnails are most of the messages and nobody reads them closely, so a
viewer that can take bundles gets all of them in one message, a few times a second.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, deque
from dataclasses import dataclass

import numpy as np
import structlog
from aiohttp import web

from stemd.daemon.page import protocol
from stemd.results import Result, Snapshot

log = structlog.get_logger(__name__)

MAX_LINES = 200
"""Log lines and scan documents that wait for one viewer."""
TICK_S = 5.0
"""Longest silence towards a viewer; the page takes 30 s of it for a lost connection."""
MAX_UNDRAWN = 2
"""Frames of one image that a viewer has been sent and has not drawn."""
INLINE_BYTES = 1 << 20
"""Images up to this size are encoded on the event loop (under 1 ms), larger ones in a thread."""
THUMBNAIL_SIDE = 256
"""Images wanted at most this large (pixels) are thumbnails: they may be bundled."""
THUMBNAIL_INTERVAL_S = 0.3
"""Least time between two bundles; the last images of a scan and newly wanted ones do not wait."""

Key = tuple[str, str]
"""(pipeline, image name)."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The newest image of one name that a viewer has not been sent."""

    snapshot: Snapshot
    result: Result
    max_side: int

    @property
    def thumbnail(self) -> bool:
        """Whether it may be bundled."""
        return 0 < self.max_side <= THUMBNAIL_SIDE


class Encoder:
    """Encodes an image once for all viewers that want it at the same size."""

    def __init__(self) -> None:
        self._newest: dict[tuple[str, str, int], tuple[Result, asyncio.Task[bytes]]] = {}
        self._bundle: tuple[list[bytes], bytes] = ([], b"")

    async def frame(self, pipeline: str, waiting: Waiting) -> bytes:
        """The binary frame of an image."""
        result = waiting.result
        step = protocol.reduction(result.image.shape, waiting.max_side)
        key = (pipeline, result.name, step)
        known = self._newest.get(key)
        if known is None or known[0] is not result:
            task = asyncio.create_task(self._encode(pipeline, waiting, step))
            known = self._newest[key] = (result, task)
        # shielded: a viewer that leaves must not cancel what another one waits for
        return await asyncio.shield(known[1])

    async def _encode(self, pipeline: str, waiting: Waiting, step: int) -> bytes:
        result = waiting.result

        def encode() -> bytes:
            meta = protocol.image_meta(pipeline, waiting.snapshot, result, step)
            pixels = np.asarray(result.image, np.float32)
            image = protocol.reduced(pixels, step, mean=not protocol.is_angle(result))
            return protocol.encode_image(meta, image, final=waiting.snapshot.final)

        return encode() if result.image.nbytes <= INLINE_BYTES else await asyncio.to_thread(encode)

    def bundle(self, frames: list[bytes]) -> bytes:
        """Frames in one message, copied once for all viewers that get the same ones in turn."""
        if len(frames) == 1:
            return frames[0]
        # compares identities first, so equal bundles cost nothing
        if frames != self._bundle[0]:
            self._bundle = (frames, b"".join(frames))
        return self._bundle[1]

    def clear(self) -> None:
        """Forget all frames (nobody is looking)."""
        self._newest.clear()
        self._bundle = ([], b"")


class Viewer:
    """The sending side of one WebSocket. Everything but `send` returns at once."""

    def __init__(self, socket: web.WebSocketResponse, encoder: Encoder, *, operator: bool) -> None:
        self.socket = socket
        self.operator = operator
        self.watched: dict[Key, int] = {}
        self.skipped = 0
        self._encoder = encoder
        self._images: dict[Key, Waiting | bytes] = {}
        self._bundles = False
        self._thumbnails_due = 0.0
        self._taken = asyncio.Event()
        self._undrawn: Counter[Key] = Counter()
        self._retained: dict[tuple[str, str], str] = {}
        self._lines: deque[str] = deque(maxlen=MAX_LINES)
        self._replies = itertools.count()
        self._wake = asyncio.Event()

    def retain(self, kind: str, pipeline: str, text: str) -> None:
        """A document of which only the newest matters."""
        self._retained[(kind, pipeline)] = text
        self._wake.set()

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
        self._bundles = message.bundle
        if fresh:
            self._thumbnails_due = 0.0
        for key in self._images.keys() - wanted.keys():
            del self._images[key]
            self._taken.set()
        return fresh

    def offer(self, pipeline: str, snapshot: Snapshot, only: set[str] | None = None) -> None:
        """New images: each takes its slot, the older one that still waited there is skipped."""
        for result in snapshot.results:
            key = (pipeline, result.name)
            side = self.watched.get(key)
            if side is None or (only is not None and result.name not in only):
                continue
            self.skipped += key in self._images
            self._images[key] = Waiting(snapshot, result, side)
            self._wake.set()
            if snapshot.final:
                self._thumbnails_due = 0.0

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
        # the task that sends is not woken for nothing
        if self._images:
            self._wake.set()

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
                    frame = waiting
                else:
                    frame = await self._encoder.frame(key[0], waiting)
            except Exception:
                # an engine's mistake in one image must not cost the viewer the others
                log.exception("page: an image cannot be shown", pipeline=key[0], image=key[1])
                continue
            self._undrawn[key] += 1
            frames.append(frame)
        if frames:
            await self.socket.send_bytes(self._encoder.bundle(frames))

    async def _idle(self, quiet_s: float) -> None:
        """Wait for news. Silence is told too, else a dead network would look like a calm one."""
        try:
            async with asyncio.timeout(quiet_s):
                await self._wake.wait()
        except TimeoutError:
            if quiet_s == TICK_S:
                await self.socket.send_str(protocol.dumps({"type": "tick"}))
