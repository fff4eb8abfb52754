"""One viewer of the page: what it wants, what waits for it, and the task that sends it.

Nothing here grows with a viewer's slowness: of each image, and of each retained document, only
the newest waits; log lines wait in a short queue that drops its oldest. A newer frame of an
image is sent when the viewer has drawn all but the last one, so that neither the socket's
buffers nor the browser's queue fill with old frames: one is on its way while one is drawn.
"""

from __future__ import annotations

import asyncio
import itertools
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

Key = tuple[str, str]
"""(pipeline, image name)."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The newest image of one name that a viewer has not been sent."""

    snapshot: Snapshot
    result: Result
    max_side: int


class Encoder:
    """Encodes an image once for all viewers that want it at the same size."""

    def __init__(self) -> None:
        self._newest: dict[tuple[str, str, int], tuple[Result, asyncio.Task[bytes]]] = {}

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

    def clear(self) -> None:
        """Forget all frames (nobody is looking)."""
        self._newest.clear()


class Viewer:
    """The sending side of one WebSocket. Everything but `send` returns at once."""

    def __init__(self, socket: web.WebSocketResponse, encoder: Encoder, *, operator: bool) -> None:
        self.socket = socket
        self.operator = operator
        self.watched: dict[Key, int] = {}
        self.skipped = 0
        self._encoder = encoder
        self._images: dict[Key, Waiting | bytes] = {}
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
        """The viewer has drawn, or left out for a newer one, an image of this name."""
        key = (message.pipeline, message.name)
        if self._undrawn[key] > 1:
            self._undrawn[key] -= 1
        else:
            del self._undrawn[key]
        self._wake.set()

    @property
    def waiting(self) -> int:
        """Images and texts that wait to be sent: bounded whatever the viewer does."""
        return len(self._images) + len(self._retained) + len(self._lines)

    def _next_image(self) -> tuple[Key, Waiting | bytes] | None:
        for key in self._images:
            if self._undrawn[key] < MAX_UNDRAWN:
                self._taken.set()
                return key, self._images.pop(key)
        return None

    async def send(self) -> None:
        """Send what waits, texts first, until cancelled or the socket is gone."""
        while not self.socket.closed:
            self._wake.clear()
            while self._retained:
                await self.socket.send_str(self._retained.pop(next(iter(self._retained))))
            while self._lines:
                await self.socket.send_str(self._lines.popleft())
            found = self._next_image()
            if found is None:
                if not self._retained and not self._lines:
                    await self._idle()
                continue
            key, waiting = found
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
            await self.socket.send_bytes(frame)

    async def _idle(self) -> None:
        """Wait for news. Silence is told too, else a dead network would look like a calm one."""
        try:
            async with asyncio.timeout(TICK_S):
                await self._wake.wait()
        except TimeoutError:
            await self.socket.send_str(protocol.dumps({"type": "tick"}))
