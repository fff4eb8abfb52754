"""The MQTT sink: everything the daemon has to tell goes out, requests come in.

Two connections, since one client is one FIFO: documents and requests on one, images on the
other. Nothing here ever waits for the broker on behalf of a pipeline: messages are left in
bounded mailboxes and two tasks carry them away.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiomqtt import Message, MqttError, Will

from stemd.config.mqtt import MqttSettings
from stemd.errors import SinkError, StemdError
from stemd.events import Hub
from stemd.mqtt.connection import ANSWER_SECONDS, Connection, Outgoing
from stemd.mqtt.errors import code_of, explain, refusal, thrown_out
from stemd.mqtt.images import ImagePublisher
from stemd.mqtt.link import Backoff, Dialer, race
from stemd.mqtt.mailbox import Image, Outbox
from stemd.mqtt.requests import RequestDesk
from stemd.mqtt.status import MqttStatus
from stemd.mqtt.topics import Topics, document
from stemd.results import Snapshot

log = structlog.get_logger()
Json = dict[str, Any]

STOP_SECONDS = 0.9
_DRAIN_SECONDS, _GOODBYE_SECONDS, _CLOSE_SECONDS = 0.4, 0.25, 0.15
_STOOD_SECONDS = 10.0
_TIMES_THROWN_OUT = 3
_IMAGES_KEEPALIVE_SECONDS = 60
"""At least: a ping waits behind an image, which takes long on a slow line."""


class MqttSink:
    """A `hub.Listener`. `run` until `stop`; everything on one event loop.

    Raises SinkError on construction when the url is still "embedded": start an EmbeddedBroker
    first and pass `settings.at_embedded(broker.url)`.
    """

    def __init__(self, settings: MqttSettings, instrument: str, hub: Hub) -> None:
        if settings.embedded:
            raise SinkError(
                'mqtt.url "embedded" has no address yet', "start the embedded broker first"
            )
        self._settings = settings
        self._hub = hub
        self._topics = Topics(instrument)
        self._client_id = settings.client_id or f"stemd-{instrument}"
        self._dialer = Dialer(settings)
        self._outbox = Outbox()
        self._outbox_ready = asyncio.Event()
        self._retained: dict[str, Outgoing] = {}
        self._images = ImagePublisher(self._topics, settings, self._report)
        self._desk = RequestDesk(self._topics, hub, self._answer)
        self._status = MqttStatus(settings.url)
        self._connected = asyncio.Event()
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._reported: set[tuple[str, str]] = set()
        self._thrown_out = 0

    @property
    def status(self) -> MqttStatus:
        """State of the connections and counters, as of now."""
        mailbox = self._images.mailbox
        self._status.counters = {
            "images_sent": self._images.sent,
            "images_replaced": mailbox.replaced,
            "images_refused": self._images.refused,
            "finals_dropped": mailbox.finals_dropped,
            "images_waiting": len(mailbox),
            "documents_waiting": len(self._outbox),
            "documents_dropped": self._outbox.dropped,
            "requests_refused": self._desk.refused,
        }
        return self._status

    async def wait_connected(self) -> None:
        """Return when the broker has accepted us for the first time, or again."""
        await self._connected.wait()

    async def run(self) -> None:
        """Publish and listen, connecting again for as long as it takes, until `stop`."""
        for pipeline, view in self._hub.views.items():
            if (snapshot := view.last_final) is not None:
                self._images.remember(
                    Image(pipeline, result, snapshot) for result in snapshot.results
                )
        self._hub.add(self)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._desk.run(self._stopping))
                tasks.create_task(self._keep(self._control))
                tasks.create_task(self._keep(self._carry_images))
        finally:
            self._hub.remove(self)
            self._stopped.set()

    async def stop(self) -> None:
        """Send what waits, say offline and goodbye; within a second whatever the broker does."""
        self._stopping.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), STOP_SECONDS + 0.1)

    # what the hub tells

    def on_daemon_state(self, state: Json) -> None:
        """The daemon's own state document (retained)."""
        self._retain("daemon", "state", state)

    def on_health(self, health: Json) -> None:
        """Rates, queues, memory, disk; every 5 s."""
        self._outbox.newest(document(self._topics.of("daemon", "health"), health))
        self._outbox_ready.set()

    def on_state(self, pipeline: str, state: Json) -> None:
        """A pipeline's state document (retained)."""
        self._retain(pipeline, "state", state)

    def on_settings(self, pipeline: str, settings: Json) -> None:
        """Every live setting of a pipeline as now in force (retained)."""
        self._retain(pipeline, "settings", settings)

    def on_snapshot(self, pipeline: str, snapshot: Snapshot) -> None:
        """Images of a running or just finished scan."""
        for result in snapshot.results:
            self._images.put(Image(pipeline, result, snapshot))

    def on_document(self, pipeline: str, document_: Json) -> None:
        """A scan document: `started`, `finished`, `aborted`; or a session's (retained)."""
        if document_.get("event") == "session":
            self._retain(pipeline, "session", document_)
            return
        self._queue(document(self._topics.of(pipeline, "scan"), document_, qos=1))

    def on_log(self, pipeline: str, entry: Json) -> None:
        """A warning or an error."""
        self._queue(document(self._topics.of(pipeline, "log"), entry))

    def _retain(self, pipeline: str, what: str, fields: Json) -> None:
        message = document(self._topics.of(pipeline, what), fields, qos=1, retain=True)
        self._retained[message.topic] = message
        self._outbox.newest(message)
        self._outbox_ready.set()

    def _queue(self, message: Outgoing) -> None:
        dropped = self._outbox.dropped
        self._outbox.queue(message)
        if self._outbox.dropped > dropped and not self._status.connected:
            self._complain(
                "outbox",
                SinkError(
                    f"MQTT broker {self._settings.url} has been away so long that documents "
                    "must be dropped",
                    "bring the broker back; the scans themselves are on disk",
                ),
            )
        self._outbox_ready.set()

    def _answer(self, message: Outgoing, *, needs_version5: bool) -> None:
        if not needs_version5 or self._status.version == "5":
            self._queue(message)

    # the two connections

    async def _keep(self, session: Callable[[], Awaitable[None]]) -> None:
        """Hold one session after the other until stopped."""
        backoff = Backoff()
        while not self._stopping.is_set():
            began = time.monotonic()
            failed: BaseException | None = None
            try:
                await session()
            except (MqttError, OSError, StemdError) as error:
                failed = error
                self._complain("connection", explain(error, self._settings))
            if time.monotonic() > began + _STOOD_SECONDS:
                backoff.reset()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), backoff.next(failed))

    async def _open(self, client_id: str, keepalive_s: int, will: Will | None) -> Connection | None:
        """A connection, None when `stop` came first."""
        dialing = asyncio.ensure_future(self._dialer.dial(client_id, keepalive_s, will))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((dialing, stopping), return_when=asyncio.FIRST_COMPLETED)
            return await dialing if dialing.done() else None
        finally:
            for task in (dialing, stopping):
                task.cancel()
            await asyncio.gather(dialing, stopping, return_exceptions=True)

    async def _control(self) -> None:
        will = Will(self._topics.availability, b"offline", qos=1, retain=True)
        connection = await self._open(self._client_id, self._settings.keepalive_s, will)
        if connection is None:
            return
        began = time.monotonic()
        try:
            await race(self._converse(connection), connection.ended(), self._until_stopped())
            await self._say_goodbye(connection)
        except (MqttError, OSError) as error:
            stood = time.monotonic() > began + _STOOD_SECONDS
            self._thrown_out = 0 if stood else self._thrown_out + 1
            if self._thrown_out < _TIMES_THROWN_OUT:
                raise
            raise thrown_out(self._settings, self._client_id) from error
        finally:
            self._status.connected = False
            self._connected.clear()
            connection.hang_up()

    async def _converse(self, connection: Connection) -> None:
        await connection.send(self._availability("online"))
        await connection.listen(self._topics.inbound)
        for message in self._retained.values():
            self._outbox.newest(message)
        self._status.connected, self._status.version = True, self._dialer.version
        self._status.connects += 1
        if self._thrown_out < _TIMES_THROWN_OUT:
            self._status.error = None
            self._reported.clear()
        self._connected.set()
        log.info("connected to MQTT", broker=self._settings.url, version=self._dialer.version)
        await race(self._listen(connection), self._speak(connection))

    async def _until_stopped(self) -> None:
        await self._stopping.wait()

    async def _listen(self, connection: Connection) -> None:
        async for message in connection.messages:
            self._receive(message)

    def _receive(self, message: Message) -> None:
        found = self._topics.parse(str(message.topic))
        if found is not None:
            self._desk.receive(message, *found)

    async def _speak(self, connection: Connection) -> None:
        while True:
            await self._drain_outbox(connection)
            self._outbox_ready.clear()
            if not len(self._outbox):
                await self._outbox_ready.wait()

    async def _drain_outbox(self, connection: Connection) -> None:
        while (item := self._outbox.peek()) is not None:
            key, message = item
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await connection.send(message)
            except MqttError as error:
                code = code_of(error)
                if code is None or connection.lost is not None:
                    raise
                reason = refusal(code, self._settings)
                self._complain(
                    message.topic,
                    SinkError(f"{message.topic} was not accepted: {reason.message}", reason.remedy),
                )
            self._outbox.sent(key, message)

    async def _say_goodbye(self, connection: Connection) -> None:
        """Leave nothing unsaid. If even `offline` does not go out, the last will says it."""
        with contextlib.suppress(MqttError, OSError, TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self._drain_outbox(connection)
        with contextlib.suppress(MqttError, OSError, TimeoutError):
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await connection.send(self._availability("offline"))
            await connection.close(_CLOSE_SECONDS)

    def _availability(self, state: str) -> Outgoing:
        return Outgoing(self._topics.availability, state.encode(), 1, True)

    async def _carry_images(self) -> None:
        await race(self.wait_connected(), self._until_stopped())
        if self._stopping.is_set():
            return
        keepalive = max(self._settings.keepalive_s, _IMAGES_KEEPALIVE_SECONDS)
        connection = await self._open(f"{self._client_id}-images", keepalive, None)
        if connection is None:
            return
        self._status.images_connected = True
        try:
            await race(self._images.session(connection), connection.ended(), self._until_stopped())
            with contextlib.suppress(MqttError, OSError, TimeoutError):
                async with asyncio.timeout(_DRAIN_SECONDS):
                    await self._images.drain(connection)
            await connection.close(_CLOSE_SECONDS)
        finally:
            self._status.images_connected = False
            if not self._stopping.is_set():
                self._images.disconnected(connection.lost)
            connection.hang_up()

    # what went wrong

    def _complain(self, about: str, error: StemdError) -> None:
        """Log an error once until the next connection; it stays visible in `status`."""
        self._status.error = error
        if (about, error.message) not in self._reported:
            self._reported.add((about, error.message))
            log.warning(error.message, remedy=error.remedy)

    def _report(self, pipeline: str, error: StemdError) -> None:
        """An image was not delivered: say it in the log, in `status` and on the log topic."""
        known = (pipeline, error.message) in self._reported
        self._complain(pipeline, error)
        if not known:
            entry = {"level": "error", "message": error.message, "remedy": error.remedy}
            self._hub.log(pipeline, entry)
