"""Getting a connection and getting it again: versions, waiting times, what ends first."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from aiomqtt import MqttError, Will

from stemd.config.mqtt import MqttSettings
from stemd.errors import SinkError, StemdError
from stemd.mqtt.complaints import Complaints
from stemd.mqtt.connection import Connection
from stemd.mqtt.errors import UNSUPPORTED_VERSION, code_of, explain
from stemd.tasks import end_all

FIRST_WAIT_SECONDS = 0.3
LONGEST_WAIT_SECONDS = 30.0
LOST_WAIT_SECONDS = 3.0
"""The longest wait where nothing was wrong with the broker."""
STOOD_SECONDS = 10.0
"""A connection that was there for so long was a good one."""
_UNSPECIFIED = 0x80
T = TypeVar("T")


class TaskLostError(SinkError):
    """A task of a connection has ended though nobody who owns it wanted that."""


class Dialer:
    """Opens connections to one broker in the newest MQTT version that it speaks."""

    def __init__(self, settings: MqttSettings) -> None:
        self.settings = settings
        self._version5 = settings.version != "3.1.1"

    @property
    def version(self) -> str:
        """The version in use, or to be tried first."""
        return "5" if self._version5 else "3.1.1"

    async def dial(self, client_id: str, keepalive_s: int, will: Will | None = None) -> Connection:
        """An open connection. Raises OSError, MqttError, SinkError."""
        if self._version5 and self.settings.version == "auto":
            try:
                return await self._open(client_id, keepalive_s, will)
            except MqttError as error:
                # brokers that do not know MQTT 5 say so, or hang up, or wait for more bytes
                if code_of(error) not in (UNSUPPORTED_VERSION, _UNSPECIFIED, None):
                    raise
            self._version5 = False
            try:
                return await self._open(client_id, keepalive_s, will)
            except (MqttError, OSError):
                self._version5 = True
                raise
        return await self._open(client_id, keepalive_s, will)

    async def _open(self, client_id: str, keepalive_s: int, will: Will | None) -> Connection:
        connection = Connection(
            self.settings, client_id, version5=self._version5, keepalive_s=keepalive_s, will=will
        )
        await connection.connect()
        return connection


class Backoff:
    """Waiting times that double, with jitter so that a lab's daemons do not come all at once."""

    def __init__(self) -> None:
        self._wait = FIRST_WAIT_SECONDS

    def reset(self) -> None:
        """The connection stood: begin again with a short wait."""
        self._wait = FIRST_WAIT_SECONDS

    def next(self) -> float:
        """Seconds to wait before the next try."""
        wait, self._wait = self._wait, min(self._wait * 2, LONGEST_WAIT_SECONDS)
        return wait * random.uniform(0.5, 1.0)


class Line:
    """The way to the broker: held open by one session after the other until `stopping` is set."""

    def __init__(self, settings: MqttSettings, complaints: Complaints) -> None:
        self.settings = settings
        self.stopping = asyncio.Event()
        self._dialer = Dialer(settings)
        self._complaints = complaints

    @property
    def version(self) -> str:
        """The MQTT version in use."""
        return self._dialer.version

    async def until_stopped(self) -> None:
        """Return when stopping."""
        await self.stopping.wait()

    async def keep(self, session: Callable[[], Awaitable[None]]) -> None:
        """Hold one session after the other until stopped."""
        backoff = Backoff()
        while not self.stopping.is_set():
            began, most = time.monotonic(), LONGEST_WAIT_SECONDS
            try:
                await session()
            except TaskLostError as error:
                self._complaints.tell("connection", error)
                most = LOST_WAIT_SECONDS
            except (MqttError, OSError, StemdError) as error:
                self._complaints.tell("connection", explain(error, self.settings))
            except Exception as error:  # a mistake of ours: it must not end MQTT for good
                found = self._complaints.mistake("the connection", error)
                self._complaints.tell("connection", found)
                most = LOST_WAIT_SECONDS
            if time.monotonic() > began + STOOD_SECONDS:
                backoff.reset()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), min(backoff.next(), most))

    async def open(
        self, client_id: str, keepalive_s: int, will: Will | None = None
    ) -> Connection | None:
        """A connection, None when stopping came first."""
        if self.stopping.is_set():
            return None
        dialing = asyncio.ensure_future(self._dialer.dial(client_id, keepalive_s, will))
        stopping = asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait((dialing, stopping), return_when=asyncio.FIRST_COMPLETED)
            return _result(dialing) if dialing.done() else None
        finally:
            await end_all((dialing, stopping))


async def race(*runners: Coroutine[Any, Any, None]) -> None:
    """Run until the first ends, cancel the others, raise what it raised.

    Raises TaskLostError where one of them was cancelled, and not whoever waits here.
    """
    tasks = [asyncio.ensure_future(runner) for runner in runners]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end_all(tasks)
    for task in done:
        _result(task)


def _result(task: asyncio.Future[T]) -> T:
    """What a task that has ended gives or raises."""
    if task.cancelled():
        raise TaskLostError("a task of the MQTT connection was cancelled", "stemd connects again")
    return task.result()
