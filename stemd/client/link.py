"""The connection of a client: begun again when it is lost, with everything subscribed anew."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

import aiomqtt

from stemd.client.address import Address
from stemd.client.errors import NotConnectedError
from stemd.tasks import end_all

RETRY_S, KEEPALIVE_S = 1.0, 20
_QUIET = logging.getLogger("stemd.client.mqtt")
_QUIET.setLevel(logging.CRITICAL)

log = logging.getLogger("stemd.client")


class Link:
    """A connection in MQTT 3.1.1. On one event loop.

    `take` gets (topic, payload, retained) of every message, and must not raise; `lost` is called
    when the connection is lost.
    """

    def __init__(
        self,
        address: Address,
        take: Callable[[str, bytes, bool], None],
        lost: Callable[[], None],
    ) -> None:
        self._address, self._take, self._lost = address, take, lost
        self._topics: list[str] = []
        self._client: aiomqtt.Client | None = None
        self._task: asyncio.Task[None] | None = None

    async def open(self, timeout_s: float) -> None:
        """Connect. Raises NotConnectedError where that fails the first time."""
        loop = asyncio.get_running_loop()
        if isinstance(loop, getattr(asyncio, "ProactorEventLoop", ())):
            raise NotConnectedError(
                "the default event loop of Windows cannot watch the broker's socket",
                "run it in another one: asyncio.Runner(loop_factory=asyncio.SelectorEventLoop), "
                "or use stemd.client.Client",
            )
        connected: asyncio.Future[None] = loop.create_future()
        self._task = asyncio.create_task(self._run(connected, timeout_s), name="stemd-client")
        await asyncio.shield(connected)

    async def close(self) -> None:
        """Disconnect."""
        if self._task is not None:
            await end_all((self._task,))

    async def subscribe(self, *topics: str) -> None:
        """Hear these topics from now on, also after the connection was lost."""
        new = [topic for topic in topics if topic not in self._topics]
        self._topics += new
        client = self._client
        if client is None:
            return  # the next connection does
        with contextlib.suppress(aiomqtt.MqttError):  # likewise
            for topic in new:
                await client.subscribe(topic, qos=1)

    async def publish(self, topic: str, payload: bytes) -> None:
        """Send at QoS 1; returns when the broker has it. Raises NotConnectedError."""
        client = self._client
        if client is None:
            raise self._away("it is not connected")
        try:
            await client.publish(topic, payload, qos=1)
        except aiomqtt.MqttError as error:
            raise self._away(error) from error

    async def _run(self, connected: asyncio.Future[None], timeout_s: float) -> None:
        while True:
            try:
                await self._session(connected, timeout_s)
            except Exception as error:  # whatever it is: nobody else would hear of it
                if not connected.done():
                    connected.set_exception(self._away(error))
                    return
                if not isinstance(error, aiomqtt.MqttError | OSError):
                    log.exception("the connection to the broker %s is begun again", self._address)
                elif self._client is not None:
                    log.warning("the connection to the broker %s is lost: %s", self._address, error)
            finally:
                self._client = None
                self._lost()
            await asyncio.sleep(RETRY_S)

    async def _session(self, connected: asyncio.Future[None], timeout_s: float) -> None:
        address = self._address
        async with aiomqtt.Client(
            address.host,
            address.port,
            username=address.username,
            password=address.password,
            tls_context=address.tls,
            timeout=timeout_s,
            keepalive=KEEPALIVE_S,
            logger=_QUIET,
        ) as client:
            for topic in self._topics:  # also those that come meanwhile
                await client.subscribe(topic, qos=1)
            self._client = client
            if not connected.done():
                connected.set_result(None)
            async for message in client.messages:
                payload = message.payload
                if isinstance(payload, bytes | bytearray):
                    self._take(str(message.topic), bytes(payload), message.retain)

    def _away(self, why: object) -> NotConnectedError:
        return NotConnectedError(
            f"the broker {self._address} cannot be reached: {why}",
            "check the address, the login, and whether the broker runs",
        )
