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
from collections.abc import Sequence
from dataclasses import dataclass

import paho.mqtt.client as paho
from aiomqtt import MqttCodeError, MqttError, ProtocolVersion, Will
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from stemd.config.mqtt import MqttSettings
from stemd.mqtt.private import OpenClient

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


class Connection(OpenClient):
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
            connect_seconds=CONNECT_SECONDS,
            keepalive=keepalive_s,
            max_queued_incoming_messages=MAX_INBOUND,
            tls_context=settings.tls_context(),
            # without it Nagle's algorithm holds every acknowledgement back for 40 ms
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        self.version5 = version5

    async def send(self, message: Outgoing) -> None:
        """Publish; returns when written (QoS 0) or acknowledged (QoS 1).

        One at a time: the acknowledgement belongs to the message under way. A slow broker may
        take as long as it likes; the keep-alive ends the connection to a dead one. Raises
        MqttError; its `rc` is the reason code when the broker has refused.
        """
        self.refused = None
        await self.publish(
            message.topic,
            message.payload,
            message.qos,
            message.retain,
            message.properties() if self.version5 else None,
            timeout=math.inf,
        )
        if self.refused is not None:
            raise MqttCodeError(self.refused, "the broker refused the message")

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
        """Say goodbye; where that takes longer than this time the connection is dropped."""
        with contextlib.suppress(MqttError, TimeoutError, OSError):
            async with asyncio.timeout(seconds):
                await self.__aexit__(None, None, None)
        self.hang_up()
