"""The two connections to a broker: one for documents and requests, one for images.

One client is one queue: an image of some MiB must not delay a command.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

from aiomqtt import Message, MqttError, Will

from stemd.logs import get_logger
from stemd.mqtt.complaints import Complaints
from stemd.mqtt.connection import Connection, Outgoing
from stemd.mqtt.documents import Documents
from stemd.mqtt.errors import TAKEN_OVER, code_of, thrown_out
from stemd.mqtt.ghosts import Ghosts
from stemd.mqtt.images import ImagePublisher
from stemd.mqtt.link import STOOD_SECONDS, Line, race
from stemd.mqtt.requests import RequestDesk
from stemd.mqtt.rival import Rival
from stemd.mqtt.status import MqttStatus
from stemd.mqtt.topics import Topics

log = get_logger()

_DRAIN_SECONDS, _GOODBYE_SECONDS, _CLOSE_SECONDS = 0.4, 0.25, 0.15
_TIMES_THROWN_OUT = 3
_IMAGES_KEEPALIVE_SECONDS = 60
"""At least: a ping waits behind an image, which takes long on a slow line."""


class ControlSession:
    """The connection that says `online`, publishes documents and takes requests in."""

    def __init__(
        self,
        line: Line,
        topics: Topics,
        documents: Documents,
        desk: RequestDesk,
        ghosts: Ghosts,
        rival: Rival,
        status: MqttStatus,
        complaints: Complaints,
        client_id: str,
    ) -> None:
        self.connected = asyncio.Event()
        self._line = line
        self._topics = topics
        self._documents = documents
        self._desk = desk
        self._ghosts = ghosts
        self._rival = rival
        self._lost: int | None = None
        self._status = status
        self._complaints = complaints
        self._client_id = client_id
        self._thrown_out = 0

    async def hold(self) -> None:
        """One connection from beginning to end. Raises MqttError, OSError, StemdError."""
        settings = self._line.settings
        if self._thrown_out:
            await self._rival.wait_until_gone(taken_over=self._lost == TAKEN_OVER)
        will = Will(self._topics.availability, b"offline", qos=1, retain=True)
        connection = await self._line.open(self._client_id, settings.keepalive_s, will)
        if connection is None:
            return
        began = time.monotonic()
        try:
            await race(self._converse(connection), connection.ended(), self._line.until_stopped())
            await self._say_goodbye(connection)
        except (MqttError, OSError) as error:
            stood = time.monotonic() > began + STOOD_SECONDS
            self._thrown_out = 1 if stood else self._thrown_out + 1
            self._lost = code_of(error)
            if self._thrown_out < _TIMES_THROWN_OUT:
                raise
            raise thrown_out(settings, self._client_id) from error
        finally:
            self._status.connected = False
            self.connected.clear()
            connection.hang_up()

    async def _converse(self, connection: Connection) -> None:
        connection.inbox = self._take
        await connection.send(self._availability("online"))
        await connection.listen(self._topics.inbound)
        self._documents.renew()
        self._status.connected, self._status.version = True, self._line.version
        self._status.connects += 1
        if self._thrown_out < _TIMES_THROWN_OUT:
            self._complaints.over()
        self.connected.set()
        log.info("connected to MQTT", broker=self._line.settings.url, version=self._line.version)
        await race(
            self._documents.session(connection),
            self._ghosts.session(connection),
        )

    def _take(self, message: Message) -> None:
        """A message has come. Nothing that is sent here may end the connection."""
        try:
            found = self._topics.parse(str(message.topic))
            if found is not None:
                self._desk.receive(message, *found)
            else:
                self._ghosts.heard(message)
        except Exception as error:
            self._complaints.mistake("taking a request in", error)

    async def _say_goodbye(self, connection: Connection) -> None:
        """Send what waits. If even `offline` does not go out, the last will says it."""
        with contextlib.suppress(MqttError, OSError, TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self._documents.drain(connection)
        with contextlib.suppress(MqttError, OSError, TimeoutError):
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await connection.send(self._availability("offline"))
            await connection.close(_CLOSE_SECONDS)

    def _availability(self, state: str) -> Outgoing:
        return Outgoing(self._topics.availability, state.encode(), 1, True)


class ImageSession:
    """The connection that carries images, once the other one has found the broker."""

    def __init__(
        self,
        line: Line,
        images: ImagePublisher,
        status: MqttStatus,
        control: ControlSession,
        client_id: str,
    ) -> None:
        self._line = line
        self._images = images
        self._status = status
        self._control = control
        self._client_id = client_id

    async def hold(self) -> None:
        """One connection from beginning to end. Raises MqttError, OSError, StemdError."""
        line = self._line
        await race(self._found(), line.until_stopped())
        keepalive = max(line.settings.keepalive_s, _IMAGES_KEEPALIVE_SECONDS)
        connection = await line.open(self._client_id, keepalive)
        if connection is None:
            return
        self._status.images_connected = True
        try:
            await race(self._images.session(connection), connection.ended(), line.until_stopped())
            with contextlib.suppress(MqttError, OSError, TimeoutError):
                async with asyncio.timeout(_DRAIN_SECONDS):
                    await self._images.drain(connection)
            await connection.close(_CLOSE_SECONDS)
        finally:
            self._status.images_connected = False
            if not line.stopping.is_set():
                self._images.disconnected(connection.lost)
            connection.hang_up()

    async def _found(self) -> None:
        await self._control.connected.wait()
