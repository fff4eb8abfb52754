"""Brokers that go, come back, hang, refuse, and daemons that are killed."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from stemd.config.mqtt import MqttSettings
from stemd.errors import SinkError
from stemd.events import Hub
from stemd.mqtt.connection import Connection
from stemd.mqtt.sink import MqttSink
from tests.conftest import (
    Mosquitto,
    OutsideClient,
    a_snapshot,
    an_acquisition,
    free_port,
    wait_until,
)
from tests.sinks.running import BASE, INSTRUMENT, RunningSink

Sinks = Callable[..., RunningSink]
Outside = Callable[..., OutsideClient]

pytestmark = [pytest.mark.mosquitto, pytest.mark.waits]

SECRET = "correct-horse"


def error_of(sink: RunningSink) -> SinkError:
    wait_until(lambda: sink.sink.status.error, "the sink says what is wrong")
    error = sink.sink.status.error
    assert isinstance(error, SinkError)
    return error


def test_after_the_broker_was_restarted_everything_retained_is_there_again(
    mosquitto: Mosquitto, sink_at: Sinks, outside: Outside
) -> None:
    sink = sink_at(mosquitto.url)
    sink.connected()
    sink.call(sink.hub.daemon, {"version": "1"})
    sink.call(sink.hub.state, "merlin", {"state": "waiting"})
    sink.call(sink.hub.settings, "merlin", {"revision": 7})
    final = a_snapshot(an_acquisition(), final=True)
    sink.call(sink.hub.snapshot, "merlin", final)
    wait_until(lambda: sink.sink.status.counters["images_sent"] == 1, "the image was sent")
    mosquitto.stop()
    wait_until(lambda: not sink.sink.status.connected, "the loss was noticed")
    sink.call(sink.hub.state, "merlin", {"state": "acquiring"})
    sink.call(sink.hub.document, "merlin", {"document": "finished", "id": "while away"})
    mosquitto.start()
    sink.connected()
    client = outside(mosquitto.port)
    assert client.wait_for(f"{BASE}/availability")[0].payload == b"online"
    assert json.loads(client.wait_for(f"{BASE}/merlin/state")[-1].payload)["state"] == "acquiring"
    assert json.loads(client.wait_for(f"{BASE}/merlin/settings")[0].payload)["revision"] == 7
    client.wait_for(f"{BASE}/daemon/state")
    assert len(client.wait_for(f"{BASE}/merlin/image/ricom/last")[0].payload) > 4 * 54


def test_documents_of_the_time_without_a_broker_arrive_when_it_is_back(
    mosquitto: Mosquitto, sink_at: Sinks, outside: Outside
) -> None:
    sink = sink_at(mosquitto.url)
    sink.connected()
    mosquitto.send(signal.SIGSTOP)
    for number in range(5):
        sink.call(sink.hub.document, "merlin", {"document": "finished", "id": str(number)})
    mosquitto.stop()
    mosquitto.start()
    client = outside(mosquitto.port)
    heard = [json.loads(m.payload)["id"] for m in client.wait_for(f"{BASE}/merlin/scan", 5)]
    assert sorted(set(heard)) == [str(number) for number in range(5)]


def test_a_daemon_that_is_killed_is_announced_as_offline_by_the_broker(
    mosquitto: Mosquitto, outside: Outside
) -> None:
    program = f"""
import asyncio
from stemd.events import Hub
from stemd.mqtt.sink import MqttSink
from stemd.config.mqtt import MqttSettings
async def main():
    await MqttSink(MqttSettings(url={mosquitto.url!r}), {INSTRUMENT!r}, Hub()).run()
asyncio.run(main())
"""
    client = outside(mosquitto.port)
    with subprocess.Popen([sys.executable, "-c", program]) as daemon:
        assert client.wait_for(f"{BASE}/availability")[0].payload == b"online"
        daemon.kill()
    assert client.wait_for(f"{BASE}/availability", 2)[1].payload == b"offline"
    newcomer = outside(mosquitto.port)
    assert newcomer.wait_for(f"{BASE}/availability")[0].payload == b"offline"


def test_while_the_broker_hangs_only_the_newest_of_each_image_waits_and_finals_all_arrive(
    mosquitto: Mosquitto, sink_at: Sinks, outside: Outside
) -> None:
    client = outside(mosquitto.port)
    sink = sink_at(mosquitto.url)
    sink.connected()
    big = (512, 512)  # 1 MiB: more than fits into the socket buffers
    scans = [an_acquisition(big) for _ in range(3)]
    mosquitto.send(signal.SIGSTOP)
    sequence = 0
    for number, scan in enumerate(scans):
        for _ in range(20):
            sequence += 1
            sink.call(sink.hub.snapshot, "merlin", a_snapshot(scan, sequence=sequence))
        sequence += 1
        final = a_snapshot(scan, final=True, sequence=sequence, fill=float(number))
        sink.call(sink.hub.snapshot, "merlin", final)
    sequence += 1
    sink.call(sink.hub.snapshot, "merlin", a_snapshot(an_acquisition(big), sequence=sequence))
    assert sink.sink.status.counters["images_waiting"] <= 4
    mosquitto.send(signal.SIGCONT)
    client.wait_for(f"{BASE}/merlin/image/ricom/last", 3)
    wait_until(lambda: sequences(client)[-1] == sequence, "the newest image came")
    heard = sequences(client)
    assert {21, 42, 63, sequence} <= set(heard)
    assert heard == sorted(heard)
    assert len(heard) < 20
    assert sink.sink.status.counters["finals_dropped"] == 0


def sequences(client: OutsideClient) -> list[int]:
    messages = client.on(f"{BASE}/merlin/image/ricom")
    return [int(dict(m.properties.UserProperty)["sequence"]) for m in messages] or [0]


def test_a_subscriber_that_does_not_read_holds_nobody_up(
    mosquitto_with: Callable[..., Mosquitto], sink_at: Sinks, outside: Outside
) -> None:
    mosquitto = mosquitto_with("allow_anonymous true", "max_queued_messages 40")
    stalled = subprocess.Popen(
        ["mosquitto_sub", "-p", str(mosquitto.port), "-t", "stemd/#"], stdout=subprocess.DEVNULL
    )
    try:
        client = outside(mosquitto.port)
        sink = sink_at(mosquitto.url)
        sink.connected()
        stalled.send_signal(signal.SIGSTOP)
        scan = an_acquisition((512, 512))
        for number in range(1, 30):
            sink.call(sink.hub.snapshot, "merlin", a_snapshot(scan, sequence=number))
            wait_until(lambda n=number: sequences(client)[-1] == n, f"image {number} came")
        sink.call(sink.hub.snapshot, "merlin", a_snapshot(scan, final=True, sequence=99))
        client.wait_for(f"{BASE}/merlin/image/ricom/last")
    finally:
        stalled.kill()
        stalled.wait()


def test_stopping_does_not_wait_for_a_broker_that_hangs(
    mosquitto: Mosquitto, sink_at: Sinks, outside: Outside
) -> None:
    client = outside(mosquitto.port)
    sink = sink_at(mosquitto.url, keepalive_s=2)
    sink.connected()
    mosquitto.send(signal.SIGSTOP)
    sink.call(sink.hub.snapshot, "merlin", a_snapshot(an_acquisition((1024, 1024)), final=True))
    sink.call(sink.hub.document, "merlin", {"document": "aborted"})
    sink.stop()  # the broker is still stopped: that this returns is the test
    assert sink.running.done()
    mosquitto.send(signal.SIGCONT)
    wait_until(lambda: client.on(f"{BASE}/availability")[-1].payload == b"offline", "offline came")


def test_stopping_does_not_wait_for_a_peer_that_accepts_and_says_nothing(sink_at: Sinks) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        sink = sink_at(f"mqtt://127.0.0.1:{mute.getsockname()[1]}")
        peer, _ = mute.accept()
        with peer:
            sink.stop()
            assert sink.running.done()


@pytest.fixture
def guarded(mosquitto_with: Callable[..., Mosquitto], tmp_path: Path) -> Mosquitto:
    """A broker that wants a login."""
    passwords = tmp_path / "passwords"
    passwords.touch()
    subprocess.run(["mosquitto_passwd", "-b", str(passwords), "stemd", SECRET], check=True)
    return mosquitto_with("allow_anonymous false", f"password_file {passwords}")


@pytest.mark.parametrize("version", ["auto", "5", "3.1.1"])
def test_a_wrong_password_is_named_with_its_remedy_and_healed_without_a_restart(
    guarded: Mosquitto, sink_at: Sinks, tmp_path: Path, version: str
) -> None:
    password_file = tmp_path / "secret"
    password_file.write_text("wrong-guess\n")
    with structlog.testing.capture_logs() as logs:
        sink = sink_at(guarded.url, username="stemd", password_file=password_file, version=version)
        error = error_of(sink)
        assert "password_file" in error.remedy
        assert guarded.url in error.message
        password_file.write_text(SECRET + "\n")
        sink.connected()
    assert sink.sink.status.error is None
    told = json.dumps([logs, sink.sink.status.as_json(), str(error)], default=str)
    assert "wrong-guess" not in told
    assert SECRET not in told


def test_a_closed_port_an_unknown_host_and_a_port_without_tls_each_say_what_to_do(
    mosquitto: Mosquitto, sink_at: Sinks
) -> None:
    closed = error_of(sink_at(f"mqtt://127.0.0.1:{free_port()}"))
    assert "nothing listens" in closed.message
    assert "start the broker" in closed.remedy
    unknown = error_of(sink_at("mqtt://no-such-host.invalid:1883"))
    assert "no host 'no-such-host.invalid'" in unknown.message
    no_tls = error_of(sink_at(f"mqtts://127.0.0.1:{mosquitto.port}"))
    assert "TLS" in no_tls.message
    assert "8883" in no_tls.remedy


def test_a_certificate_of_an_unknown_authority_is_named_and_a_known_one_is_accepted(
    mosquitto_with: Callable[..., Mosquitto], sink_at: Sinks, tmp_path: Path
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1"
    command += f" -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    subprocess.run(command.split(), check=True, capture_output=True)
    broker = mosquitto_with("allow_anonymous true", f"certfile {certificate}", f"keyfile {key}")
    url = f"mqtts://127.0.0.1:{broker.port}"
    stranger = error_of(sink_at(url))
    assert "certificate" in stranger.message
    assert "mqtt.ca_file" in stranger.remedy
    sink_at(url, ca_file=certificate).connected()


@pytest.mark.parametrize("limit", ["message_size_limit 100000", "max_packet_size 100000"])
def test_an_image_too_large_for_the_broker_is_reported_and_smaller_ones_go_on(
    mosquitto_with: Callable[..., Mosquitto], sink_at: Sinks, outside: Outside, limit: str
) -> None:
    mosquitto = mosquitto_with("allow_anonymous true", limit)
    client = outside(mosquitto.port)
    sink = sink_at(mosquitto.url)
    sink.connected()
    large = a_snapshot(an_acquisition((256, 256)), names=("large",), final=True)
    sink.call(sink.hub.snapshot, "merlin", large)
    entry = json.loads(client.wait_for(f"{BASE}/merlin/log")[0].payload)
    assert "image large (256 x 256" in entry["message"]
    assert "max_packet_size" in entry["remedy"]
    small = a_snapshot(an_acquisition(), names=("small",), final=True)
    sink.call(sink.hub.snapshot, "merlin", small)
    client.wait_for(f"{BASE}/merlin/image/small/last")
    assert client.on(f"{BASE}/merlin/image/large") == []


def test_a_broker_of_3_1_1_that_hangs_up_on_a_large_image_is_understood_and_smaller_ones_go_on(
    mosquitto_with: Callable[..., Mosquitto], sink_at: Sinks, outside: Outside
) -> None:
    mosquitto = mosquitto_with("allow_anonymous true", "max_packet_size 100000")
    client = outside(mosquitto.port, version5=False)
    sink = sink_at(mosquitto.url, version="3.1.1")
    sink.connected()
    large = a_snapshot(an_acquisition((256, 256)), names=("large",), final=True)
    sink.call(sink.hub.snapshot, "merlin", large)
    entry = json.loads(client.wait_for(f"{BASE}/merlin/log")[0].payload)
    assert "image large (256 x 256" in entry["message"]
    small = a_snapshot(an_acquisition(), names=("small",), final=True)
    sink.call(sink.hub.snapshot, "merlin", small)
    client.wait_for(f"{BASE}/merlin/image/small/last")


def test_auto_speaks_mqtt_5_where_it_can_and_3_1_1_where_it_must(
    mosquitto: Mosquitto, embedded: Any, sink_at: Sinks
) -> None:
    new, old = sink_at(mosquitto.url), sink_at(embedded.url)
    new.connected()
    old.connected()
    assert (new.sink.status.version, old.sink.status.version) == ("5", "3.1.1")


def test_auto_falls_back_when_a_broker_hangs_up_on_mqtt_5_without_a_word(sink_at: Sinks) -> None:
    versions: list[int] = []

    def serve(listener: socket.socket) -> None:
        while len(versions) < 2:
            peer, _ = listener.accept()
            with peer:
                versions.append(peer.recv(100)[8])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        sink = sink_at(f"mqtt://127.0.0.1:{listener.getsockname()[1]}")
        thread.join(10)
        sink.stop()
    assert versions == [5, 4]


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_of_two_daemons_of_one_name_the_older_stands_by_and_comes_back(
    mosquitto: Mosquitto, sink_at: Sinks, version: str
) -> None:
    older, newer = sink_at(mosquitto.url, version=version), None
    older.call(older.hub.daemon, {"boot_id": "1", "host": "microscope-1"})
    older.connected()
    newer = sink_at(mosquitto.url, version=version)
    newer.call(newer.hub.daemon, {"boot_id": "2", "host": "microscope-2"})

    def told() -> bool:
        error = older.sink.status.error
        return error is not None and "another daemon on microscope-2" in error.message

    wait_until(told, "the older one says that there is another one", 30.0)
    assert "daemon.instrument" in error_of(older).remedy
    newer.connected()
    connects = newer.sink.status.connects, older.sink.status.connects
    time.sleep(3.0)  # no battle
    assert (newer.sink.status.connects, older.sink.status.connects) == connects
    assert newer.sink.status.connected
    assert not older.sink.status.connected
    newer.stop()
    wait_until(lambda: older.sink.status.connected, "the older one is back", 30.0)
    assert older.sink.status.error is None


async def test_an_embedded_broker_has_to_be_started_first() -> None:
    with pytest.raises(SinkError, match="no address yet"):
        MqttSink(MqttSettings(), INSTRUMENT, Hub())


async def test_a_quiet_connection_stands_though_aiomqtts_own_task_for_pings_died(
    mosquitto: Mosquitto,
) -> None:
    settings = MqttSettings(url=mosquitto.url)
    connection = Connection(settings, "quiet", version5=True, keepalive_s=1)
    await connection.connect()
    try:
        (pings,) = (
            task for task in asyncio.all_tasks() if "Client._misc_loop" in repr(task.get_coro())
        )
        pings.cancel()
        with pytest.raises(TimeoutError):  # mosquitto hangs up after 1.5 s of silence
            await asyncio.wait_for(connection.ended(), 4.0)
        assert connection.lost is None
    finally:
        await connection.close(1.0)
