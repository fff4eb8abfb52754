"""Images as bytes, made once for all viewers that want the same ones."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass

from stemd import image_frames
from stemd.image_frames import ReducedImage
from stemd.results import Result, Snapshot

INLINE_BYTES = 1 << 20
"""Images up to this size are encoded on the event loop (under 1 ms), larger ones in a thread."""
THUMBNAIL_SIDE = 256
"""Images wanted at most this large (pixels) are thumbnails: they may be bundled."""

_BINARY_FINAL = 0x82

_Key = tuple[str, str, int, bool]
"""(pipeline, image, reduction, whether of 16 bits)."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The newest image of one name that a viewer has not been sent."""

    snapshot: Snapshot
    result: Result
    max_side: int
    short: bool = False

    @property
    def thumbnail(self) -> bool:
        """Whether it may be bundled."""
        return 0 < self.max_side <= THUMBNAIL_SIDE


class Payload:
    """One image frame or several, and the WebSocket message that carries them to any viewer."""

    __slots__ = ("_message", "bytes")

    def __init__(self, data: bytes) -> None:
        self.bytes = data
        self._message: bytes | None = None

    @property
    def message(self) -> bytes:
        """Head and payload in one piece (RFC 6455, 5.2): a server's messages have no mask."""
        if self._message is None:
            size = len(self.bytes)
            if size < 126:
                head = struct.pack("!BB", _BINARY_FINAL, size)
            elif size < 1 << 16:
                head = struct.pack("!BBH", _BINARY_FINAL, 126, size)
            else:
                head = struct.pack("!BBQ", _BINARY_FINAL, 127, size)
            self._message = head + self.bytes
        return self._message


class Encoder:
    """Encodes an image once for all viewers that want it at the same size."""

    def __init__(self) -> None:
        self._newest: dict[_Key, tuple[Result, asyncio.Task[Payload] | Payload]] = {}
        self._bundle: tuple[list[Payload], Payload] = ([], Payload(b""))
        self._reduced: dict[tuple[str, str, int], ReducedImage] = {}

    def at_once(self, pipeline: str, waiting: Waiting) -> Payload | None:
        """The frame of an image that is small or encoded already, else None.

        Raises whatever a wrong image makes the encoding raise.
        """
        key, known = self._known(pipeline, waiting)
        if known is None and waiting.result.nbytes <= INLINE_BYTES:
            known = self._encode(pipeline, waiting, key[2])
            self._newest[key] = (waiting.result, known)
        return known if isinstance(known, Payload) else None

    async def frame(self, pipeline: str, waiting: Waiting) -> Payload:
        """The frame of any image."""
        ready = self.at_once(pipeline, waiting)
        if ready is not None:
            return ready
        key, known = self._known(pipeline, waiting)
        if not isinstance(known, asyncio.Task):
            known = asyncio.create_task(self._in_a_thread(pipeline, waiting, key))
            self._newest[key] = (waiting.result, known)
        # shielded: a viewer that leaves must not cancel what another one waits for
        return await asyncio.shield(known)

    async def _in_a_thread(self, pipeline: str, waiting: Waiting, key: _Key) -> Payload:
        payload = await asyncio.to_thread(self._encode, pipeline, waiting, key[2])
        if key in self._newest and self._newest[key][0] is waiting.result:
            self._newest[key] = (waiting.result, payload)
        return payload

    def _known(
        self, pipeline: str, waiting: Waiting
    ) -> tuple[_Key, asyncio.Task[Payload] | Payload | None]:
        result = waiting.result
        step = image_frames.reduction(result.shape, waiting.max_side)
        key = (pipeline, result.name, step, waiting.short)
        known = self._newest.get(key)
        return key, known[1] if known is not None and known[0] is result else None

    def bundle(self, frames: list[Payload]) -> Payload:
        """Frames in one payload, copied once for all viewers that get the same ones in turn."""
        if len(frames) == 1:
            return frames[0]
        # frames are compared by identity, so equal bundles cost nothing
        if frames != self._bundle[0]:
            self._bundle = (frames, Payload(b"".join(frame.bytes for frame in frames)))
        return self._bundle[1]

    def clear(self) -> None:
        """Forget all frames (nobody is looking)."""
        self._newest.clear()
        self._reduced.clear()
        self._bundle = ([], Payload(b""))

    def _encode(self, pipeline: str, waiting: Waiting, step: int) -> Payload:
        result = waiting.result
        meta = image_frames.image_meta(pipeline, waiting.snapshot, result, step)
        reduced = self._reduced.setdefault((pipeline, result.name, step), ReducedImage(step))
        encode = image_frames.encode_short_image if waiting.short else image_frames.encode_image
        return Payload(encode(meta, reduced.of(result), final=waiting.snapshot.final))
