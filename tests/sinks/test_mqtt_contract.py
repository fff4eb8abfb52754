"""What an outside client sees: topics, retained flags, QoS, properties, replies."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import paho.mqtt.client as paho
import PIL.Image
import pytest
import tifffile
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.conftest import OutsideClient, a_snapshot, an_acquisition, wait_until
from tests.sinks.running import BASE, RunningSink

Sinks = Callable[..., RunningSink]
Outside = Callable[..., OutsideClient]
Broker = tuple[str, int, bool]


@pytest.fixture
def talk(broker: Broker, sink_at: Sinks, outside: Outside) -> tuple[RunningSink, OutsideClient]:
    """A connected sink and an outside client that hears everything."""
    url, port, version5 = broker
    client = outside(port, version5=version5)
    sink = sink_at(url, version="5" if version5 else "3.1.1")
    sink.connected()
    return sink, client


def body(message: paho.MQTTMessage) -> Any:
    return json.loads(message.payload)


def late(outside: Outside, broker: Broker) -> OutsideClient:
    """A client that comes when all is said: it gets what is retained."""
    return outside(broker[1], version5=broker[2])


def test_documents_go_to_their_topics_and_only_the_retained_ones_are_kept(
    talk: tuple[RunningSink, OutsideClient], outside: Outside, broker: Broker
) -> None:
    sink, client = talk
    sink.call(sink.hub.daemon, {"version": "1", "boot_id": "b"})
    sink.call(sink.hub.state, "merlin", {"state": "waiting"})
    sink.call(sink.hub.settings, "merlin", {"revision": 1, "rotation_deg": 0.0})
    sink.call(sink.hub.healthy, {"lag_ms": 1.0})
    sink.call(sink.hub.document, "merlin", {"document": "started", "id": "x"})
    sink.call(sink.hub.log, "merlin", {"level": "warning", "message": "m", "remedy": "r"})
    sent = ["daemon/state", "daemon/health"]
    sent += [f"merlin/{name}" for name in ("state", "settings", "scan", "log")]
    for topic in sent:
        assert client.wait_for(f"{BASE}/{topic}")[0].retain is False
    assert body(client.on(f"{BASE}/merlin/state")[0])["state"] == "waiting"
    assert client.on(f"{BASE}/merlin/scan")[0].qos == 1
    assert {m.topic for m in client.messages} == {f"{BASE}/{t}" for t in [*sent, "availability"]}

    newcomer = late(outside, broker)
    kept = {"availability", "daemon/state", "merlin/state", "merlin/settings"}
    for topic in kept:
        assert newcomer.wait_for(f"{BASE}/{topic}")[0].retain is True
    assert {m.topic for m in newcomer.messages} == {f"{BASE}/{t}" for t in kept}
    assert newcomer.on(f"{BASE}/availability")[0].payload == b"online"


def test_every_document_has_a_utc_time_with_microseconds_and_the_same_time_in_nanoseconds(
    talk: tuple[RunningSink, OutsideClient],
) -> None:
    sink, client = talk
    sink.call(sink.hub.state, "merlin", {"state": "waiting"})
    found = body(client.wait_for(f"{BASE}/merlin/state")[0])
    stamp = np.datetime64(found["time"].removesuffix("Z"), "us")
    assert found["time"].endswith("Z")
    assert len(found["time"]) == len("2026-01-01T00:00:00.000000Z")
    assert stamp.astype(np.int64) == found["time_ns"] // 1000


def test_a_growing_image_is_a_tiff_whose_description_and_properties_say_what_it_is(
    talk: tuple[RunningSink, OutsideClient], broker: Broker
) -> None:
    sink, client = talk
    acquisition = an_acquisition((6, 9))
    snapshot = a_snapshot(acquisition)
    sink.call(sink.hub.snapshot, "merlin", snapshot)
    message = client.wait_for(f"{BASE}/merlin/image/ricom")[0]
    with tifffile.TiffFile(io.BytesIO(message.payload)) as file:
        assert np.array_equal(file.asarray(), snapshot.results[0].image)
        description = json.loads(file.pages[0].description)
    expected = {
        "name": "ricom",
        "units": "a.u.",
        "scan": acquisition.id,
        "shape": [6, 9],
        "pixel_size_angstrom": 0.2,
        "positions_done": 27,
        "positions_total": 54,
        "final": False,
        "sequence": 1,
        "time": "2025-11-24T16:00:00.123456Z",
        "time_ns": 1_764_000_000_123_456_789,
        "settings_revision": 3,
        "axes": "scan",
        "kernel_size": 21,
    }
    assert description == expected
    if broker[2]:
        assert message.properties.ContentType == "image/tiff"
        user = dict(message.properties.UserProperty)
        assert {
            k: v if isinstance(expected[k], str) else json.loads(v) for k, v in user.items()
        } == expected


def test_a_finished_image_comes_live_and_stays_as_the_last_one(
    talk: tuple[RunningSink, OutsideClient], outside: Outside, broker: Broker
) -> None:
    sink, client = talk
    snapshot = a_snapshot(an_acquisition(), names=("ricom", "adf"), final=True)
    sink.call(sink.hub.snapshot, "merlin", snapshot)
    for name in ("ricom", "adf"):
        live = client.wait_for(f"{BASE}/merlin/image/{name}")[0]
        last = client.wait_for(f"{BASE}/merlin/image/{name}/last")[0]
        assert live.payload == last.payload
    newcomer = late(outside, broker)
    kept = newcomer.wait_for(f"{BASE}/merlin/image/adf/last")[0]
    assert kept.retain is True
    assert kept.payload == client.on(f"{BASE}/merlin/image/adf")[0].payload
    newcomer.wait_for(f"{BASE}/merlin/image/ricom/last")
    assert newcomer.on(f"{BASE}/merlin/image/ricom") == []


def test_pictures_are_sent_where_asked_for_one_a_second_and_the_finished_one_always(
    talk: tuple[RunningSink, OutsideClient], outside: Outside, broker: Broker
) -> None:
    sink, client = talk
    acquisition = an_acquisition((40, 60))
    topic = f"{BASE}/merlin/image/ricom/preview"

    def images(first: int, count: int) -> None:
        for sequence in range(first, first + count):
            growing = a_snapshot(acquisition, sequence=sequence)
            sink.call(sink.hub.snapshot, "merlin", growing)
            client.wait_for(f"{BASE}/merlin/image/ricom", sequence)

    images(1, 2)
    sink.call(sink.hub.settings, "merlin", {"revision": 2, "publish": {"preview": True}})
    began = time.monotonic()
    images(3, 8)
    final = a_snapshot(acquisition, final=True)
    sink.call(sink.hub.snapshot, "merlin", final)

    def told(message: paho.MQTTMessage) -> Any:
        picture = PIL.Image.open(io.BytesIO(message.payload))
        return json.loads(picture.text["Description"])  # type: ignore[attr-defined]

    wait_until(lambda: any(told(m)["final"] for m in client.on(topic)), "the finished picture")
    found = client.on(topic)
    assert 2 <= len(found) <= 2 + (time.monotonic() - began)
    assert [told(message)["final"] for message in found[-2:]] == [False, True]
    assert found[-1].qos == 1
    newcomer = late(outside, broker)
    assert newcomer.wait_for(topic)[0].payload == found[-1].payload
    assert newcomer.on(topic)[0].retain
    if broker[2]:
        assert found[-1].properties.ContentType == "image/png"
    assert PIL.Image.open(io.BytesIO(found[-1].payload)).size == (480, 320)

    sink.call(sink.hub.settings, "merlin", {"revision": 3, "publish": {"preview": False}})
    sink.call(sink.hub.snapshot, "merlin", final)
    client.wait_for(f"{BASE}/merlin/image/ricom/last", 2)
    pictures = [message for message in client.on(topic) if message.payload]
    assert len(pictures) == len(found), "none is sent any more"
    assert late(outside, broker).on(topic) == [], "and none is kept"


def test_a_settings_request_reaches_the_pipeline_and_its_reply_comes_back(
    talk: tuple[RunningSink, OutsideClient],
) -> None:
    sink, client = talk
    client.client.publish(f"{BASE}/merlin/settings/set", b'{"id": "a", "rotation_deg": 3}', qos=1)
    reply = body(client.wait_for(f"{BASE}/merlin/reply")[0])
    assert sink.requests == [("merlin", "settings", {"id": "a", "rotation_deg": 3})]
    assert (reply["id"], reply["ok"], reply["revision"]) == ("a", True, 1)


@pytest.mark.mosquitto
@pytest.mark.parametrize(
    ("topic", "payload", "key"),
    [
        ("settings/set", b"{not json", ""),
        ("settings/set", b"\xff\xfe", ""),
        ("settings/set", b'{"rotation_deg": NaN}', ""),
        ("settings/set", b"[1, 2]", ""),
        ("settings/set", b"[" * 50_000, ""),
        ("settings/set", b'"' + b"x" * 70_000 + b'"', ""),
        ("settings/set", b'{"id": {"a": 1}}', "id"),
        ("command", b'{"command": "start"}', "id"),
        ("command", b'{"id": "1", "command": 7}', "command"),
        ("command", b'{"id": "1", "command": "start", "args": []}', "args"),
        ("command", b'{"id": "1", "command": "start", "extra": 1}', "extra"),
    ],
)
def test_a_request_that_makes_no_sense_is_answered_with_what_is_wrong(
    mosquitto: Any, sink_at: Sinks, outside: Outside, topic: str, payload: bytes, key: str
) -> None:
    client = outside(mosquitto.port)
    sink = sink_at(mosquitto.url)
    sink.connected()
    client.client.publish(f"{BASE}/merlin/{topic}", payload, qos=1)
    reply = body(client.wait_for(f"{BASE}/merlin/reply")[0])
    assert reply["ok"] is False
    assert reply["error"]["key"] == key
    assert reply["error"]["message"]
    assert sink.requests == []


def test_a_command_is_carried_out_once_however_often_it_comes(
    talk: tuple[RunningSink, OutsideClient],
) -> None:
    sink, client = talk
    command = json.dumps({"id": "same", "command": "start", "args": {}})
    for _ in range(3):
        client.client.publish(f"{BASE}/merlin/command", command, qos=1)
    replies = [body(m) for m in client.wait_for(f"{BASE}/merlin/reply", 3)]
    assert sorted(r["ok"] for r in replies) == [False, False, True]
    assert len(sink.requests) == 1


def test_a_command_that_lies_retained_on_the_broker_is_refused_when_the_daemon_comes(
    broker: Broker, sink_at: Sinks, outside: Outside
) -> None:
    url, port, version5 = broker
    client = outside(port, version5=version5)
    command = json.dumps({"id": "old", "command": "start"})
    client.client.publish(f"{BASE}/merlin/command", command, qos=1, retain=True)
    client.wait_for(f"{BASE}/merlin/command")
    sink = sink_at(url, version="5" if version5 else "3.1.1")
    reply = body(client.wait_for(f"{BASE}/merlin/reply")[0])
    assert (reply["id"], reply["ok"], reply["error"]["key"]) == ("old", False, "retain")
    assert sink.requests == []


@pytest.mark.mosquitto
def test_with_mqtt_5_the_reply_also_goes_to_the_response_topic_with_the_correlation_data(
    mosquitto: Any, sink_at: Sinks, outside: Outside
) -> None:
    client = outside(mosquitto.port)
    sink = sink_at(mosquitto.url)
    sink.connected()
    properties = Properties(PacketTypes.PUBLISH)
    properties.ResponseTopic = "lab/answers"
    properties.CorrelationData = b"\x00\x01two"
    client.client.publish(
        f"{BASE}/merlin/command", b'{"id": "c", "command": "save"}', 1, properties=properties
    )
    for topic in ("lab/answers", f"{BASE}/merlin/reply"):
        message = client.wait_for(topic)[0]
        assert message.properties.CorrelationData == b"\x00\x01two"
        assert body(message)["ok"] is True


@pytest.mark.mosquitto
def test_a_response_topic_among_the_daemons_own_topics_is_not_used(
    mosquitto: Any, sink_at: Sinks, outside: Outside
) -> None:
    client = outside(mosquitto.port)
    sink = sink_at(mosquitto.url)
    sink.connected()
    properties = Properties(PacketTypes.PUBLISH)
    properties.ResponseTopic = f"{BASE}/merlin/settings/set"
    client.client.publish(
        f"{BASE}/merlin/command", b'{"id": "c", "command": "save"}', 1, properties=properties
    )
    client.wait_for(f"{BASE}/merlin/reply")
    client.client.publish(f"{BASE}/merlin/command", b'{"id": "d", "command": "save"}', 1)
    client.wait_for(f"{BASE}/merlin/reply", 2)
    assert client.on(f"{BASE}/merlin/settings/set") == []


@pytest.mark.mosquitto
def test_a_command_that_has_expired_while_it_waited_is_refused(
    mosquitto: Any, sink_at: Sinks, outside: Outside
) -> None:
    client = outside(mosquitto.port)
    sink = sink_at(mosquitto.url)
    sink.connected()
    sink.handler_waits = 1.5
    properties = Properties(PacketTypes.PUBLISH)
    properties.MessageExpiryInterval = 1
    client.client.publish(f"{BASE}/merlin/command", b'{"id": "1", "command": "save"}', 1)
    client.client.publish(
        f"{BASE}/merlin/command", b'{"id": "2", "command": "save"}', 1, properties=properties
    )
    replies = [body(m) for m in client.wait_for(f"{BASE}/merlin/reply", 2)]
    assert [(r["id"], r["ok"]) for r in replies] == [("1", True), ("2", False)]
    assert "expired" in replies[1]["error"]["message"]


@pytest.mark.mosquitto
def test_more_requests_than_can_wait_are_refused_and_every_one_is_answered(
    mosquitto: Any, sink_at: Sinks, outside: Outside
) -> None:
    client = outside(mosquitto.port)
    sink = sink_at(mosquitto.url)
    sink.connected()
    sink.handler_waits = 0.05
    for number in range(100):
        client.client.publish(
            f"{BASE}/merlin/command", json.dumps({"id": number, "command": "save"}), 1
        )
    replies = [body(m) for m in client.wait_for(f"{BASE}/merlin/reply", 100)]
    assert sorted(r["id"] for r in replies) == list(range(100))
    assert sum(r["ok"] for r in replies) == len(sink.requests)
    assert any("too many" in r["error"]["message"] for r in replies if not r["ok"])


def test_a_request_to_a_pipeline_that_does_not_exist_is_answered_with_those_that_do(
    talk: tuple[RunningSink, OutsideClient],
) -> None:
    _, client = talk
    client.client.publish(f"{BASE}/nobody/settings/set", b'{"id": "z"}', qos=1)
    reply = body(client.wait_for(f"{BASE}/nobody/reply")[0])
    assert reply["ok"] is False
    assert reply["error"]["allowed"] == ["merlin"]


def test_stopping_says_offline_after_what_was_still_to_be_said(
    talk: tuple[RunningSink, OutsideClient],
) -> None:
    sink, client = talk
    sink.call(sink.hub.document, "merlin", {"document": "aborted", "id": "x"})
    sink.stop()
    wait_until(lambda: len(client.on(f"{BASE}/availability")) == 2, "offline came")
    heard = [m.payload for m in client.on(f"{BASE}/availability")]
    assert heard == [b"online", b"offline"]
    order = [m.topic for m in client.messages]
    assert order.index(f"{BASE}/merlin/scan") < len(order) - 1
