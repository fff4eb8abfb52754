"""A sink that is stopped after the test, and brokers of both kinds to run it against."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stemd.mqtt.broker import EmbeddedBroker
from tests.conftest import Mosquitto
from tests.sinks.running import RunningSink


@pytest.fixture
def sink_at() -> Iterator[Callable[..., RunningSink]]:
    """Starts sinks and stops them."""
    sinks: list[RunningSink] = []

    def start(url: str, **settings: Any) -> RunningSink:
        sinks.append(RunningSink(url, **settings))
        return sinks[-1]

    yield start
    for sink in sinks:
        sink.close()


@pytest.fixture
def embedded() -> Iterator[EmbeddedBroker]:
    """The embedded broker, running."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    broker = EmbeddedBroker()
    asyncio.run_coroutine_threadsafe(broker.start(), loop).result(20)
    yield broker
    asyncio.run_coroutine_threadsafe(broker.stop(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.close()


@pytest.fixture(
    params=[
        pytest.param("mosquitto, MQTT 5", marks=pytest.mark.mosquitto),
        pytest.param("mosquitto, MQTT 3.1.1", marks=pytest.mark.mosquitto),
        "embedded",
    ]
)
def broker(request: pytest.FixtureRequest) -> tuple[str, int, bool]:
    """(url, port, MQTT 5) of each kind of broker that stemd is made for."""
    if request.param == "embedded":
        found: EmbeddedBroker = request.getfixturevalue("embedded")
        return found.url, found.port, False
    mosquitto: Mosquitto = request.getfixturevalue("mosquitto")
    return mosquitto.url, mosquitto.port, request.param.endswith("5")


@pytest.fixture
def version_of() -> Callable[[bool], str]:
    """The config's word for an MQTT version."""
    return lambda version5: "5" if version5 else "3.1.1"
