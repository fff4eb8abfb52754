"""What stemd uses of aiomqtt and paho though it is private: still there, still the same."""

from __future__ import annotations

import asyncio
import inspect
import re
import socket
import tomllib
import tracemalloc
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiomqtt
import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from stemd.mqtt import private
from stemd.mqtt.private import OpenClient
from stemd.mqtt.uncopied import UNCOPIED_BYTES
from tests.conftest import wait_until

ROOT = Path(__file__).parents[2]
NAMES = (
    r"\._(client|client_connect|wait_for|connected|disconnected|sock_close|packet_queue|send_publish|sock"
    r"|servers|ping_t|last_bytes_received)\b"
)


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (paho.Client._packet_queue, ["self", "command", "packet", "mid", "qos", "info"]),
        (
            paho.Client._send_publish,
            ["self", "mid", "topic", "payload", "qos", "retain", "dup", "info", "properties"],
        ),
        (paho.Client._sock_close, ["self"]),
        (aiomqtt.Client._client_connect, ["self"]),
        (aiomqtt.Client._wait_for, ["self", "fut", "timeout"]),
        (aiomqtt.Client._on_message, ["self", "client", "userdata", "message"]),
        (
            aiomqtt.Client._on_subscribe,
            ["self", "client", "userdata", "mid", "reason_codes", "properties"],
        ),
        (aiomqtt.Client._on_socket_register_write, ["self", "client", "userdata", "sock"]),
        (aiomqtt.Message._from_paho_message, ["message"]),
        *(
            (function, ["self", "client", "userdata", *rest, "reason_code", "properties"])
            for function, rest in (
                (aiomqtt.Client._on_connect, ["flags"]),
                (aiomqtt.Client._on_disconnect, ["flags"]),
                (aiomqtt.Client._on_publish, ["mid"]),
            )
        ),
    ],
)
def test_a_private_function_takes_what_it_took(
    function: Callable[..., Any], parameters: list[str]
) -> None:
    assert list(inspect.signature(function).parameters) == parameters


async def test_the_private_attributes_are_what_they_were() -> None:
    client = aiomqtt.Client("127.0.0.1")
    assert isinstance(client._client, paho.Client)
    assert isinstance(client._client.connect_timeout, float)
    assert client._client.on_publish == client._on_publish
    assert not client._connected.done()
    assert not client._disconnected.done()


async def test_an_answer_that_nobody_waits_for_any_more_is_no_traceback_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = OpenClient("127.0.0.1", connect_seconds=1.0)
    waiting = asyncio.get_running_loop().create_future()
    client._pending_subscribes[5] = waiting
    for mid in (4, 5):
        client._on_subscribe(client._client, None, mid, [])
    assert waiting.result() == []
    assert caplog.messages == []


async def test_a_socket_that_is_closed_before_it_is_watched_is_left_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = OpenClient("127.0.0.1", connect_seconds=1.0)
    with socket.socket() as closed:
        client._on_socket_register_write(client._client, None, closed)
    await asyncio.sleep(0.01)
    assert caplog.messages == []


async def test_a_broker_that_sends_without_pause_is_there_though_its_answer_is_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(private, "PING_LOOK_SECONDS", 0.001)
    client = OpenClient("127.0.0.1", connect_seconds=1.0)
    looked = list[float]()
    monkeypatch.setattr(client._client, "loop_misc", lambda: looked.append(client._client._ping_t))
    client._client._ping_t, client._client._last_bytes_received = 10.0, 9.0
    ending = asyncio.ensure_future(client.ended())
    await asyncio.to_thread(wait_until, lambda: looked, "it looks")
    client._client._last_bytes_received = 11.0
    await asyncio.to_thread(wait_until, lambda: not looked[-1], "it does not wait any more")
    ending.cancel()
    assert looked[0] == 10.0, "nothing had come since"


async def test_a_large_payload_goes_out_as_it_is_without_being_copied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Byte for byte what paho makes of it, in MQTT 3.1.1 and 5, whatever the socket takes."""
    payload = bytes(range(256)) * 8192
    assert len(payload) > UNCOPIED_BYTES
    properties = Properties(PacketTypes.PUBLISH)
    properties.ContentType = "image/tiff"
    for protocol, qos in ((4, 0), (4, 1), (5, 1)):
        sent = []
        for client in (
            paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=protocol),
            OpenClient("", connect_seconds=1.0, protocol=aiomqtt.ProtocolVersion(protocol))._client,
        ):
            out = bytearray()
            taken = iter([3, 7, 100_000] + [1 << 20] * 9)

            def take(buffer: Any, out: bytearray = out, taken: Any = taken) -> int:
                part = memoryview(buffer)[: next(taken)]
                out += part
                return len(part)

            monkeypatch.setattr(client, "_sock", object())
            monkeypatch.setattr(client, "_sock_send", take)
            monkeypatch.setattr(client, "_call_socket_register_write", lambda: None)
            tracemalloc.start()
            client._send_publish(
                7, b"a/b", payload, qos, True, False, paho.MQTTMessageInfo(7),
                properties if protocol == 5 else None,
            )  # fmt: skip
            grown = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            client._packet_write()
            sent.append((bytes(out), grown))
            monkeypatch.undo()
        assert sent[0][0] == sent[1][0]
        assert sent[0][0].endswith(payload)
        assert sent[1][1] < 100_000 < len(payload) <= sent[0][1]


def test_the_source_still_calls_what_is_replaced() -> None:
    assert inspect.getsource(paho.Client.publish).count("self._send_publish(") == 2
    assert "self._packet_queue(" in inspect.getsource(paho.Client._send_publish)
    assert "self._client_connect" in inspect.getsource(aiomqtt.Client.__aenter__)
    assert "self._wait_for(self._connected" in inspect.getsource(aiomqtt.Client.__aenter__)
    assert "self._wait_for(callback_result" in inspect.getsource(aiomqtt.Client.subscribe)
    assert "self._disconnected.set_exception" in inspect.getsource(aiomqtt.Client._on_disconnect)


@pytest.mark.parametrize("name", ["aiomqtt", "paho-mqtt"])
def test_a_version_that_nobody_has_looked_at_is_not_installed(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (wanted,) = (each for each in project["dependencies"] if re.match(rf"{name}\b", each))
    limit = re.search(r"<(\d+)\.(\d+)$", wanted)
    assert limit is not None, f"{wanted} has no upper bound"
    installed = tuple(int(part) for part in version(name).split(".")[:2])
    assert installed < (int(limit[1]), int(limit[2]))


def test_no_other_module_touches_them() -> None:
    for path in (ROOT / "stemd" / "mqtt").glob("*.py"):
        text = path.read_text()
        foreign = re.sub(r"self\._connected\b|self\._client_id\b", "", text)
        found = re.search(NAMES, foreign) if path.name != "private.py" else None
        assert found is None, f"{path}: {found and found[0]}"
    for path in (ROOT / "stemd").rglob("*.py"):
        assert "._mmap" not in path.read_text(), f"{path}: numpy's, for which there is `base`"
