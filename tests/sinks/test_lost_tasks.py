"""Tasks of the MQTT connection that are cancelled at the worst moment: MQTT comes back."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from aiomqtt import Client, MqttError

from stemd import tasks as tasks_module
from stemd.config.mqtt import MqttSettings
from stemd.events import Hub
from stemd.mqtt import link
from stemd.mqtt.complaints import Complaints
from stemd.mqtt.link import Line, TaskLostError, race
from stemd.mqtt.private import OpenClient
from stemd.mqtt.status import MqttStatus
from stemd.tasks import Tasks, end_all

LIMIT_S = 20.0
URL = "mqtt://127.0.0.1:1"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that go on after they were cancelled are told again soon."""
    monkeypatch.setattr(tasks_module, "CANCEL_AGAIN_S", 0.02)


class Deaf:
    """Work that misses its first cancellation, as `asyncio.wait_for` may make it."""

    def __init__(self) -> None:
        self.missed = 0
        self.began = asyncio.Event()

    async def work(self) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.missed += 1
        await asyncio.Event().wait()


async def failing(began: asyncio.Event) -> None:
    await began.wait()
    raise MqttError("the broker has gone")


async def test_whoever_ends_a_task_that_misses_it_waits_no_longer_than_it_is_told_again() -> None:
    deaf = Deaf()
    task = asyncio.create_task(deaf.work())
    await deaf.began.wait()
    async with asyncio.timeout(LIMIT_S):
        await end_all([task])
    assert (deaf.missed, task.cancelled()) == (1, True)


async def test_who_is_cancelled_while_it_ends_others_ends_after_them() -> None:
    deaf = Deaf()
    task = asyncio.create_task(deaf.work())
    await deaf.began.wait()
    ending = asyncio.create_task(end_all([task]))
    await asyncio.sleep(0)
    ending.cancel()
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(asyncio.CancelledError):
            await ending
    assert task.cancelled()


async def test_kept_tasks_that_miss_their_end_are_ended() -> None:
    deaf, owner = Deaf(), Tasks()
    owner.keep(deaf.work, "deaf")
    await deaf.began.wait()
    async with asyncio.timeout(LIMIT_S):
        await owner.stop()
    assert deaf.missed == 1


async def test_a_connection_whose_tasks_miss_their_end_is_given_up_all_the_same() -> None:
    deaf = Deaf()
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(MqttError, match="has gone"):
            await race(deaf.work(), failing(deaf.began))
    assert deaf.missed == 1


async def test_a_task_that_somebody_cancels_ends_its_connection_and_not_the_owner() -> None:
    inner: list[asyncio.Task[Any]] = []

    async def work() -> None:
        inner.append(cast("asyncio.Task[Any]", asyncio.current_task()))
        inner[0].get_loop().call_soon(inner[0].cancel)
        await asyncio.Event().wait()

    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(TaskLostError, match="was cancelled"):
            await race(work(), asyncio.Event().wait())  # type: ignore[arg-type]


async def test_the_owner_of_a_race_may_be_cancelled() -> None:
    owner = asyncio.create_task(race(asyncio.sleep(LIMIT_S)))
    await asyncio.sleep(0)
    owner.cancel()
    with pytest.raises(asyncio.CancelledError):
        await owner


async def test_a_connection_that_loses_its_tasks_again_and_again_is_soon_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "LOST_WAIT_SECONDS", 0.001)
    settings, status = MqttSettings(url=URL), MqttStatus(URL)
    line = Line(settings, Complaints(status, Hub()))
    sessions = 0

    async def session() -> None:
        nonlocal sessions
        sessions += 1
        if sessions == 30:  # with waits that double this would take hours
            line.stopping.set()
        raise TaskLostError("a task of the MQTT connection was cancelled", "")

    async with asyncio.timeout(LIMIT_S):
        await line.keep(session)
    assert status.error is not None


def at_once(future: asyncio.Future[None], waiter: asyncio.Task[None]) -> None:
    """The broker answers and the waiter is cancelled in one turn of the event loop."""
    future.set_result(None)
    waiter.cancel()


@pytest.mark.parametrize("limit_s", [None, 5.0])
async def test_a_cancellation_that_comes_together_with_the_brokers_answer_is_heard(
    limit_s: float | None,
) -> None:
    client = OpenClient("127.0.0.1", connect_seconds=1.0)
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiter = asyncio.create_task(client._wait_for(answer, limit_s))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(at_once, answer, waiter)
    with pytest.raises(asyncio.CancelledError):
        await waiter


async def test_an_answer_that_does_not_come_is_said_as_an_mqtt_error() -> None:
    client = OpenClient("127.0.0.1", connect_seconds=1.0)
    with pytest.raises(MqttError, match="timed out"):
        await client._wait_for(asyncio.Event().wait(), 0.01)


class Killed(BaseException):
    """What no part of stemd expects."""


def killed(self: object) -> None:
    raise Killed


async def test_a_connecting_thread_that_dies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Client, "_client_connect", killed)
    client = OpenClient("127.0.0.1", connect_seconds=1.0)
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(MqttError, match="has died: Killed"):
            await client.connect()
