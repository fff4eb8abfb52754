"""The connection that carries images and nothing else, so that no image delays a command."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from aiomqtt import MqttError

from stemd.config.mqtt import MqttSettings
from stemd.errors import SinkError, StemdError
from stemd.events import Json
from stemd.mqtt.connection import Connection, Outgoing
from stemd.mqtt.errors import TOO_LARGE, code_of, refusal
from stemd.mqtt.mailbox import Image, ImageMailbox
from stemd.mqtt.previews import Previews
from stemd.mqtt.retained import RetainedImages
from stemd.mqtt.topics import Topics, images, last_image, preview, preview_topic

ASIDE_BYTES = 4 * 1024 * 1024
"""Larger images are encoded in a thread; smaller ones take less than a millisecond."""
_PACKET_OVERHEAD_BYTES = 2048
_BLAME_SECONDS = 2.0
_SHORT_SESSION_SECONDS = 5.0
_LOSSES_TO_BLAME = 2
_FORGIVE_SECONDS = 120.0

Report = Callable[[str, StemdError], None]
"""(pipeline, error) -> None: said once, on the log topic too."""


class SizeLimit:
    """The largest message the broker takes, as announced or as learned from being thrown out.

    MQTT 5 has a reason code for it. With 3.1.1 the broker just hangs up, again and again: two
    short sessions in a row, each ending straight after an image, are taken for that. After two
    minutes it is tried again.
    """

    def __init__(self) -> None:
        self.announced: int | None = None
        self._learned: int | None = None
        self._learned_at = 0.0
        self._last = (0, 0.0)
        self._losses = 0
        self._began = 0.0

    def begin(self, announced: int | None) -> None:
        """A session begins; `announced` is the broker's maximum packet size in bytes."""
        self.announced = announced
        self._last, self._began = (0, 0.0), time.monotonic()

    def allows(self, size: int) -> bool:
        """Whether a message of this size, in bytes, is worth sending."""
        if self._learned is not None and time.monotonic() > self._learned_at + _FORGIVE_SECONDS:
            self._learned = None
        limits = [limit for limit in (self.announced, self._learned) if limit is not None]
        return size <= min(limits, default=size)

    def sending(self, size: int) -> None:
        """A message of this size is about to be sent."""
        self._last = (size, time.monotonic())

    def delivered(self) -> None:
        """The broker has acknowledged a message: it was not too large."""
        self._last, self._losses = (0, 0.0), 0

    def lost(self, error: BaseException | None) -> bool:
        """The connection was lost; True when the size of the last message is to blame."""
        size, when = self._last
        now = time.monotonic()
        if size == 0 or now > when + _BLAME_SECONDS:
            self._losses = 0
            return False
        if code_of(error) != TOO_LARGE:
            short = now < self._began + _SHORT_SESSION_SECONDS
            self._losses = self._losses + 1 if short else 0
            if self._losses < _LOSSES_TO_BLAME:
                return False
        self._learned, self._learned_at, self._losses = size - 1, now, 0
        return True


class ImagePublisher:
    """Sends what lies in the mailbox, one image after the other, never two at once."""

    def __init__(
        self,
        topics: Topics,
        settings: MqttSettings,
        report: Report,
        retained: RetainedImages | None = None,
    ) -> None:
        self.mailbox = ImageMailbox()
        self.previews = Previews()
        self.last: dict[tuple[str, str], Image] = {}
        self.sent = 0
        self.refused = 0
        self.limit = SizeLimit()
        self._topics = topics
        self._settings = settings
        self._report = report
        self._retained = retained or RetainedImages()
        self._ready = asyncio.Event()
        self._blamed: Image | None = None

    @property
    def counters(self) -> dict[str, int]:
        """What was sent, what waits, and what never went."""
        return {
            "images_sent": self.sent,
            "images_replaced": self.mailbox.replaced,
            "images_refused": self.refused,
            "finals_dropped": self.mailbox.finals_dropped,
            "images_waiting": len(self.mailbox),
        }

    def remember(self, finished: Iterable[Image]) -> None:
        """Finished images of before, for the retained topics; of engines that are gone, none."""
        self.last.update(
            (image.key, image) for image in finished if self._retained.is_made(*image.key)
        )

    def left_behind(self, pipelines: Iterable[str]) -> list[str]:
        """Retained topics of an earlier run's pipelines that are none of these."""
        return [
            topic
            for gone in self._retained.others(pipelines)
            for name in sorted(self._retained.forget(gone))
            for topic in self._kept_topics(gone, name)
        ]

    def put(self, image: Image) -> None:
        """Leave an image to be sent; returns at once."""
        if image.snapshot.final:
            self.last[image.key] = image
            self._retained.add(*image.key)
        dropped = self.mailbox.put(image)
        if dropped:
            self._report(
                image.pipeline,
                SinkError(
                    f"{dropped} finished image(s) were dropped: the MQTT broker is away too long",
                    "start the broker again; they are on disk, the newest of each name is sent",
                ),
            )
        self._ready.set()

    def forget(self, pipeline: str) -> list[str]:
        """Drop what there is of a pipeline that is gone; returns its retained topics."""
        self.mailbox.forget(pipeline)
        self.previews.forget(pipeline)
        names = {key[1] for key in self.last if key[0] == pipeline}
        for name in names:
            del self.last[pipeline, name]
        names |= self._retained.forget(pipeline)
        return [t for name in sorted(names) for t in self._kept_topics(pipeline, name)]

    def on_settings(self, pipeline: str, settings: Json) -> list[str]:
        """A pipeline's live settings; returns retained topics that are not wanted any more."""
        unwanted = self.previews.on_settings(pipeline, settings)
        topics = [preview_topic(self._topics, key) for key in sorted(unwanted)]
        for name in sorted(self._retained.stale(pipeline)):
            self.last.pop((pipeline, name), None)
            topics += self._kept_topics(pipeline, name)
        return topics

    def _kept_topics(self, pipeline: str, name: str) -> list[str]:
        """What the broker may keep of an image."""
        last = self._topics.of(pipeline, f"image/{name}/last")
        return [last, preview_topic(self._topics, (pipeline, name))]

    async def session(self, connection: Connection) -> None:
        """Publish until cancelled or the connection is lost (MqttError)."""
        self.limit.begin(connection.max_packet_bytes)
        for image in list(self.last.values()):
            await self._send(connection, image, await self._encoded(image, retained_only=True))
            if self.previews.wanted(image.pipeline):
                await self._preview(connection, image)
        while True:
            await self.drain(connection)
            self._ready.clear()
            if not len(self.mailbox):
                await self._ready.wait()

    async def drain(self, connection: Connection) -> None:
        """Publish until the mailbox is empty."""
        await self._retained.keep()  # before the broker keeps them
        while (image := self.mailbox.take()) is not None:
            try:
                self.sent += await self._publish(connection, image)
            except StemdError as error:
                self.refused += 1
                self._report(image.pipeline, error)
            except BaseException:
                self.mailbox.put_back(image)
                raise
            if self.previews.due(image):
                await self._preview(connection, image)

    async def _publish(self, connection: Connection, image: Image) -> bool:
        # a function of its own: what was sent must be gone before the next image is encoded
        messages = await self._encoded(image)
        self._blamed = image
        return await self._send(connection, image, messages)

    async def _preview(self, connection: Connection, image: Image) -> None:
        began = time.monotonic()
        try:
            message = await asyncio.to_thread(preview, self._topics, image)
        except StemdError as error:
            self._report(image.pipeline, error)
            return
        finally:
            self.previews.made(image, time.monotonic() - began)
        await self._send(connection, image, [message])

    def disconnected(self, error: BaseException | None) -> None:
        """Find out whether an image was too large for the broker, and say so."""
        if self.limit.lost(error) and self._blamed is not None:
            self._refuse(self._blamed)

    async def _encoded(self, image: Image, *, retained_only: bool = False) -> list[Outgoing]:
        def encode() -> list[Outgoing]:
            if retained_only:
                return [last_image(self._topics, image)]
            return images(self._topics, image)

        return await asyncio.to_thread(encode) if image.bytes > ASIDE_BYTES else encode()

    async def _send(self, connection: Connection, image: Image, messages: list[Outgoing]) -> bool:
        """True when the broker has taken all messages; a refusal has been reported."""
        for message in messages:
            size = len(message.payload) + _PACKET_OVERHEAD_BYTES
            if not self.limit.allows(size):
                self._refuse(image)
                return False
            self.limit.sending(size)
            try:
                await connection.send(message)
            except MqttError as error:
                code = code_of(error)
                if code is None or connection.lost is not None:
                    raise
                self.refused += 1
                self._report(image.pipeline, self._too_large(image, code))
                return False
            if message.qos:
                self.limit.delivered()
        return True

    def _refuse(self, image: Image) -> None:
        self.refused += 1
        self._report(image.pipeline, self._too_large(image, TOO_LARGE))

    def _too_large(self, image: Image, code: int) -> SinkError:
        reason = refusal(code, self._settings)
        ny, nx = image.result.shape
        return SinkError(
            f"image {image.result.name} ({ny} x {nx}, {image.bytes} bytes) was not delivered: "
            f"{reason.message}",
            reason.remedy,
        )
