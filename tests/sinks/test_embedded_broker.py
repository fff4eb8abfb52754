"""The embedded broker starts, restarts and never outlives its daemon."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys

import psutil
import pytest

from stemd.errors import SinkError
from stemd.mqtt.broker import EmbeddedBroker
from tests.conftest import wait_until


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_it_accepts_connections_when_start_returns_and_none_after_stop() -> None:
    broker = EmbeddedBroker()
    await broker.start()
    assert broker.running
    assert broker.url == f"mqtt://127.0.0.1:{broker.port}"
    assert accepts(broker.port)
    await broker.stop()
    assert not broker.running
    assert not accepts(broker.port)


async def test_a_port_in_use_is_named_with_a_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        broker = EmbeddedBroker(port)
        with pytest.raises(SinkError, match=str(port)) as caught:
            await broker.start()
        assert "another port" in caught.value.remedy
        await broker.stop()


async def test_a_broker_that_dies_comes_back_on_the_same_port() -> None:
    broker = EmbeddedBroker()
    await broker.start()
    port = broker.port
    lost = [each for each in asyncio.all_tasks() if each.get_name() in ("broker", "broker-log")]
    assert len(lost) == 2
    for task in lost:
        task.cancel()  # a mistake of somebody's
    await asyncio.to_thread(wait_until, lambda: len(broker.tasks.failures) == 2, "both are told")
    (child,) = (p for p in psutil.Process().children() if "stemd.mqtt.broker" in p.cmdline())
    child.kill()

    def back() -> bool:
        return not child.is_running() and accepts(port)

    await asyncio.to_thread(wait_until, back, "the broker is back")
    assert broker.port == port
    await broker.stop()


PARENT = """
import asyncio, structlog
from stemd.mqtt.broker import EmbeddedBroker
structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
async def main():
    broker = EmbeddedBroker()
    await broker.start()
    print(broker.port, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def test_it_ends_when_its_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            port = int(parent.stdout.readline())
            assert accepts(port)
        finally:
            parent.kill()
    wait_until(lambda: not accepts(port), "the broker is gone")
