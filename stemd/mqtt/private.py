"""The private parts of aiomqtt and paho that stemd uses, all in this one module.

There is no public way to any of it (aiomqtt 2.5, paho 2.2), and an unattended publisher needs it:

- connecting in a thread that nobody waits for (`_client_connect`): aiomqtt connects in a thread of
  the loop's own pool, which a daemon that ends would have to wait for, for minutes where a name
  service hangs;
- a broker that hangs up in the middle of the handshake (`_connected`): aiomqtt waits until its
  timeout;
- the end of a connection as an awaitable (`_disconnected`), also while nothing is sent;
- closing the socket without goodbye (`_sock_close`), so that the broker publishes the last will;
- waiting that can be cancelled at any moment (`_wait_for`): before Python 3.12 `asyncio.wait_for`
  misses a cancellation that comes together with the broker's answer;
- every message where it is wanted, as it comes (`_on_message`): aiomqtt's queue drops what comes
  when it is full, an abort behind a flood too;
- an answer to a subscription that nobody waits for any more (`_on_subscribe`): aiomqtt writes a
  traceback into the log;
- a socket that is closed before the event loop comes to watch it (`_on_socket_register_write`):
  aiomqtt watches its number all the same, which may be another one's by then;
- an answer to a ping that is late behind a flood (`_ping_t`, `_last_bytes_received`): paho takes
  a broker that sends without pause for one that does not answer;
- sending without copying the payload, nor what is still to be sent at every call (`_send_publish`,
  `_packet_queue`, `uncopied`).

pyproject.toml has an upper bound for both, and tests/sinks/test_private_parts.py fails when one of
these parts changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import paho.mqtt.client as paho
from aiomqtt import Client, Message, MqttError
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from stemd.mqtt.uncopied import Uncopied

_UNSPECIFIED_ERROR = 0x80
PING_LOOK_SECONDS = 1.0
T = TypeVar("T")


class OpenClient(Client):
    """aiomqtt's client with what it keeps to itself. Open it once."""

    def __init__(self, *args: Any, connect_seconds: float, **named: Any) -> None:
        super().__init__(*args, **named)
        self.max_packet_bytes: int | None = None
        """What the broker has announced when it accepted the login."""
        self.refused: ReasonCode | None = None
        """Why the broker has refused the last message."""
        self.inbox: Callable[[Message], None] | None = None
        """Takes every message that comes, at once, and must not raise."""
        self._client.connect_timeout = connect_seconds
        client = self._client
        uncopied = Uncopied(client._send_publish, client._packet_queue)
        client._send_publish = uncopied.send_publish  # type: ignore[assignment, method-assign]
        client._packet_queue = uncopied.packet_queue  # type: ignore[assignment, method-assign]

    async def connect(self) -> None:
        """Resolve, connect, shake hands in a thread of its own, and log in.

        Raises OSError (with its own type), MqttError. Cancelling it returns at once.
        """
        try:
            await self._connect_aside()
            await self.__aenter__()
        except BaseException:
            self.hang_up()
            raise

    async def _connect_aside(self) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def deliver(error: BaseException | None) -> None:
            if done.done():  # nobody waits for it any more
                self.hang_up()
            elif error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        def connect() -> None:
            failed: BaseException | None = None
            try:
                super(OpenClient, self)._client_connect()
            except Exception as error:
                failed = error
            except BaseException as error:  # the thread is to die: whoever waits for it is told
                failed = MqttError(f"the thread that connects has died: {type(error).__name__}")
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
                loop.call_soon_threadsafe(deliver, failed)

        threading.Thread(target=connect, name="mqtt-connect", daemon=True).start()
        await done

    def _client_connect(self) -> None:
        """Nothing left to do for aiomqtt: `_connect_aside` has connected."""

    async def _wait_for(self, fut: Awaitable[T], timeout: float | None) -> T:  # noqa: ASYNC109, aiomqtt's own
        """What comes within a time. Raises MqttError when it does not."""
        seconds = self.timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(None if seconds == math.inf else seconds):
                return await fut
        except TimeoutError:
            raise MqttError("Operation timed out") from None

    async def ended(self) -> None:
        """Return, by raising MqttError or OSError, when the connection is lost.

        Sends the pings, too: aiomqtt has a task for them that nobody watches over.
        """
        while not self._disconnected.done():
            await asyncio.wait((self._disconnected,), timeout=PING_LOOK_SECONDS)
            client = self._client
            if 0 < client._ping_t < client._last_bytes_received:
                client._ping_t = 0.0  # what has come since tells as much as the answer
            client.loop_misc()
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
            why = ReasonCode(PacketTypes.CONNACK, identifier=_UNSPECIFIED_ERROR)
            self._connected.set_exception(MqttConnectError(why))
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_socket_register_write(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        def write() -> None:
            try:
                client.loop_write()
            except Exception as error:
                if not self._disconnected.done():
                    self._disconnected.set_exception(error)

        def register() -> None:
            if sock.fileno() >= 0:
                self._loop.add_writer(sock.fileno(), write)

        self._loop.call_soon_threadsafe(register)

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        if self.inbox is not None:
            self.inbox(Message._from_paho_message(message))
        else:
            super()._on_message(client, userdata, message)

    def _on_subscribe(
        self,
        client: paho.Client,
        userdata: Any,
        mid: int,
        reason_codes: list[ReasonCode],
        properties: Properties | None = None,
    ) -> None:
        if mid in self._pending_subscribes:  # who has asked may have been told to stop meanwhile
            super()._on_subscribe(client, userdata, mid, reason_codes, properties)

    def _on_publish(
        self,
        client: paho.Client,
        userdata: Any,
        mid: int,
        reason_code: ReasonCode,
        properties: Properties,
    ) -> None:
        if reason_code.is_failure:
            self.refused = reason_code
        super()._on_publish(client, userdata, mid, reason_code, properties)
