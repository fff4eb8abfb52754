"""One connection to a broker: aiomqtt with what an unattended publisher needs besides.

Beyond aiomqtt 2.5: connecting can be abandoned, a refused acknowledgement is an error, a broker
that hangs up in the middle of the handshake is noticed at once, the limits that it announces
are known, and closing never waits longer than it is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import paho.mqtt.client as paho
from aiomqtt import Client, MqttCodeError, MqttError, ProtocolVersion, Will
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from stemd.config.mqtt import MqttSettings

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
MAX_INBOUND = 256
_FIRST_ERROR_CODE = 0x80


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish. The properties are sent with MQTT 5 only."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    content_type: str = ""
    user: tuple[tuple[str, str], ...] = ()
    correlation: bytes | None = None

    def properties(self) -> Properties:
        """As MQTT 5 properties."""
        found = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if self.content_type:
            found.ContentType = self.content_type
        if self.user:
            found.UserProperty = list(self.user)
        if self.correlation is not None:
            found.CorrelationData = self.correlation
        return found


class Connection(Client):
    """A connection in MQTT 5 or 3.1.1. Open it once, close it once."""

    def __init__(
        self,
        settings: MqttSettings,
        client_id: str,
        *,
        version5: bool,
        keepalive_s: int,
        will: Will | None = None,
    ) -> None:
        super().__init__(
            settings.host,
            settings.port,
            username=settings.username,
            password=settings.password(),
            identifier=client_id,
            protocol=ProtocolVersion.V5 if version5 else ProtocolVersion.V311,
            will=will,
            clean_session=None if version5 else True,
            clean_start=True if version5 else paho.MQTT_CLEAN_START_FIRST_ONLY,
            timeout=CONNECT_SECONDS,
            keepalive=keepalive_s,
            max_queued_incoming_messages=MAX_INBOUND,
            tls_context=settings.tls_context(),
            # without it Nagle's algorithm holds every acknowledgement back for 40 ms
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        self.version5 = version5
        self.max_packet_bytes: int | None = None
        self._refused: ReasonCode | None = None
        self._client.connect_timeout = CONNECT_SECONDS
        # paho slices off what is still to be sent at every call, which for a large image copies
        # it hundreds of times; slices of a view cost nothing
        queue = self._client._packet_queue
        self._client._packet_queue = (  # type: ignore[method-assign]
            lambda command, packet, *rest, **named: queue(
                command, cast("bytes", memoryview(packet)), *rest, **named
            )
        )

    async def open(self) -> None:
        """Connect and log in. Raises OSError (with its own type), MqttError."""
        try:
            await self._connect_aside()
            await self.__aenter__()
        except BaseException:
            self.hang_up()
            raise

    async def _connect_aside(self) -> None:
        """Resolve, connect and shake hands in a thread that nobody has to wait for.

        paho blocks here for as long as the name service and the TLS peer please, and a thread
        of the loop's own pool would have to be waited for when the daemon ends.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def deliver(error: BaseException | None) -> None:
            if done.cancelled():
                self.hang_up()
            elif error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        def connect() -> None:
            failed: BaseException | None = None
            try:
                super(Connection, self)._client_connect()
            except Exception as error:
                failed = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
                loop.call_soon_threadsafe(deliver, failed)

        threading.Thread(target=connect, name="mqtt-connect", daemon=True).start()
        await done

    def _client_connect(self) -> None:
        """Nothing left to do for aiomqtt: `_connect_aside` has connected."""

    async def send(self, message: Outgoing) -> None:
        """Publish; returns when written (QoS 0) or acknowledged (QoS 1).

        One at a time: the acknowledgement belongs to the message under way. A slow broker may
        take as long as it likes; the keep-alive ends the connection to a dead one. Raises
        MqttError; its `rc` is the reason code when the broker has refused.
        """
        self._refused = None
        await self.publish(
            message.topic,
            message.payload,
            message.qos,
            message.retain,
            message.properties() if self.version5 else None,
            timeout=math.inf,
        )
        if self._refused is not None:
            raise MqttCodeError(self._refused, "the broker refused the message")

    async def listen(self, topics: Sequence[str]) -> None:
        """Subscribe at QoS 1; with MQTT 5 a message keeps the retain flag it was sent with."""
        for topic in topics:
            if self.version5:
                options = SubscribeOptions(qos=1, retainAsPublished=True)
                codes = await self.subscribe(topic, options=options)
            else:
                codes = await self.subscribe(topic, qos=1)
            for code in codes:
                value = code if isinstance(code, int) else code.value
                if value >= _FIRST_ERROR_CODE:
                    raise MqttCodeError(
                        ReasonCode(PacketTypes.SUBACK, identifier=value), "subscription refused"
                    )

    async def close(self, seconds: float) -> None:
        """Say goodbye, or hang up when the broker does not let us within this time."""
        with contextlib.suppress(MqttError, TimeoutError, OSError):
            async with asyncio.timeout(seconds):
                await self.__aexit__(None, None, None)
        self.hang_up()

    async def ended(self) -> None:
        """Return, by raising MqttError or OSError, when the connection is lost."""
        await asyncio.wait((self._disconnected,))
        raise self.lost or MqttError("the broker closed the connection")

    @property
    def lost(self) -> BaseException | None:
        """Why the connection has ended, None while it stands."""
        over = self._disconnected.done() and not self._disconnected.cancelled()
        return self._disconnected.exception() if over else None

    def hang_up(self) -> None:
        """Drop the connection without goodbye: the broker then publishes the last will."""
        self._client._sock_close()
        for future in (self._connected, self._disconnected):
            if future.done() and not future.cancelled():
                future.exception()  # looked at, so that asyncio does not complain of it later

    def _on_connect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        limit = getattr(properties, "MaximumPacketSize", None)
        self.max_packet_bytes = limit if isinstance(limit, int) else None
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if not self._connected.done():
            self._connected.set_exception(
                MqttConnectError(ReasonCode(PacketTypes.CONNACK, identifier=0x80))
            )
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_publish(
        self,
        client: paho.Client,
        userdata: Any,
        mid: int,
        reason_code: ReasonCode,
        properties: Properties,
    ) -> None:
        if reason_code.is_failure:
            self._refused = reason_code
        super()._on_publish(client, userdata, mid, reason_code, properties)
