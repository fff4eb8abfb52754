"""Bad neighbours on the broker: bytes of every kind, floods, ghosts of earlier runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Mosquitto, OutsideClient, a_snapshot, an_acquisition, wait_until
from tests.outside.strategies import values as json_values
from tests.sinks.running import BASE, RunningSink

Sinks = Callable[..., RunningSink]
Outside = Callable[..., OutsideClient]

pytestmark = [pytest.mark.mosquitto, pytest.mark.waits]

NASTY = [
    rb'{"id": "\ud800", "command": "save"}',
    rb'{"id": "x", "command": "\udfff", "args": {"\ud800": "\ud800"}}',
    rb'{"id": "1e999", "command": "save", "args": {"a": 1e999, "b": -0, "c": -0.0}}',
    b'{"id": %d, "command": "save"}' % 2**70,
    b'{"id": "deep", "command": "save", "args": {"a": ' + b"[" * 60 + b"]" * 60 + b"}}",
    b'{"id": "deeper", "command": "save", "args": ' + b"[" * 100_000,
    b"\xff\xfe\x00",
    b"",
    b"null",
    b'{"id": {"id": []}, "command": 7}',
    rb'{"id": "s", "optics": "\ud800", "\udc00.x": 1}',
]


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_no_message_ends_a_task_and_the_next_request_is_answered(
    mosquitto: Mosquitto, sink_at: Sinks, outside: Outside, version: str
) -> None:
    client = outside(mosquitto.port)
    for number, payload in enumerate(NASTY):  # what lies there before the daemon comes
        client.client.publish(f"{BASE}/merlin{number}/command", payload, 1, retain=True)
    client.client.publish(f"{BASE}/merlin/command", NASTY[0], 1, retain=True)
    sink = sink_at(mosquitto.url, version=version)
    sink.connected()
    count = 0

    @settings(
        max_examples=120,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        st.sampled_from(["settings/set", "command"]),
        st.sampled_from(NASTY)
        | st.binary(max_size=200)
        | st.dictionaries(
            st.sampled_from(["id", "command", "args", "optics", "a.b"]) | st.text(), json_values
        ).map(lambda found: json.dumps(found).encode()),
    )
    def send(topic: str, payload: bytes) -> None:
        nonlocal count
        client.client.publish(f"{BASE}/merlin/{topic}", payload, 1)
        count += 1

    send()
    for kind in ("settings/set", "command"):
        name = f"last of {kind}"
        body = json.dumps({"id": name, "command": "save"} if kind == "command" else {"id": name})
        client.client.publish(f"{BASE}/merlin/{kind}", body, 1)

        def answered(name: str = name) -> bool:
            replies = client.on(f"{BASE}/merlin/reply")
            return any(json.loads(m.payload)["id"] == name for m in replies)

        wait_until(answered, f"the {name} is answered")
    assert len(client.on(f"{BASE}/merlin/reply")) >= count
    assert sink.sink.status.connects == 1
    assert sink.sink.status.failures == 0


def test_a_mistake_in_taking_a_request_in_is_counted_and_ends_nothing(
    mosquitto: Mosquitto, sink_at: Sinks, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = outside(mosquitto.port)
    sink = sink_at(mosquitto.url)
    sink.connected()
    with monkeypatch.context() as broken:
        broken.setattr(sink.sink._desk, "receive", lambda *_: 1 / 0)
        client.client.publish(f"{BASE}/merlin/command", b'{"id": "1", "command": "save"}', 1)
        wait_until(lambda: sink.sink.status.failures == 1, "it is counted")
    client.client.publish(f"{BASE}/merlin/command", b'{"id": "2", "command": "save"}', 1)
    assert json.loads(client.wait_for(f"{BASE}/merlin/reply")[0].payload)["id"] == "2"
    assert sink.sink.status.connects == 1


def test_a_session_that_breaks_is_begun_again(
    mosquitto: Mosquitto, sink_at: Sinks, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = sink_at(mosquitto.url)
    sink.connected()
    with monkeypatch.context() as broken:
        broken.setattr(sink.sink._documents._outbox, "peek", lambda: 1 / 0)
        sink.call(sink.hub.state, "merlin", {"state": "waiting"})
        wait_until(lambda: sink.sink.status.failures >= 2, "it failed, and was tried again")
    wait_until(lambda: sink.sink.status.connected, "it is connected again", 60.0)


def test_replies_of_a_flood_push_out_no_scan_document(
    mosquitto: Mosquitto, sink_at: Sinks, outside: Outside
) -> None:
    client = outside(mosquitto.port)
    sink = sink_at(mosquitto.url)
    sink.connected()
    for number in range(6000):
        body = b'{"id": "%d", "command": "save"}' % number
        client.client.publish(f"{BASE}/merlin/command", body, 0)
        if number % 1000 == 0:
            sink.call(sink.hub.document, "merlin", {"event": "finished", "number": number})
    sent = client.wait_for(f"{BASE}/merlin/scan", 6)
    assert sink.sink.status.connects == 1
    assert [json.loads(m.payload)["number"] for m in sent] == list(range(0, 6000, 1000))
    assert sink.sink.status.as_json()["documents_dropped"] == 0


def test_a_command_is_not_carried_out_again_by_the_next_run(
    mosquitto: Mosquitto, outside: Outside, tmp_path: Path
) -> None:
    client = outside(mosquitto.port)
    body = b'{"id": "once", "command": "start"}'
    replies: list[Any] = []
    # another instrument of this data folder has heard the same id for a pipeline of that name
    (tmp_path / "state").mkdir()
    other = {"pipeline": "merlin", "id": "once", "time": time.time()}
    (tmp_path / "state" / "requests-other.jsonl").write_text(json.dumps(other) + "\n")
    for run in (1, 2):
        sink = RunningSink(mosquitto.url, state_dir=tmp_path / "state")
        sink.connected()
        client.client.publish(f"{BASE}/merlin/command", body, 1)
        heard = client.wait_for(f"{BASE}/merlin/reply", run)
        replies = [json.loads(m.payload) for m in heard]
        sink.close()
        with (tmp_path / "state" / "requests-titan.jsonl").open("ab") as file:
            file.write(b'{"cut off')  # as by a power cut
    assert [reply["ok"] for reply in replies] == [True, False]
    assert "already been received" in replies[1]["error"]["message"]


def test_images_of_engines_and_pipelines_that_are_gone_do_not_stay_on_the_broker(
    mosquitto: Mosquitto, outside: Outside, tmp_path: Path
) -> None:
    client = outside(mosquitto.port)

    def kept() -> set[str]:
        newest = {message.topic: message.payload for message in list(client.messages)}
        ends = ("/last", "/preview")
        return {t.removeprefix(f"{BASE}/") for t, p in newest.items() if p and t.endswith(ends)}

    pictures = {"publish": {"preview": True}}
    state = tmp_path / "state"
    made = {"merlin": ["ricom", "adf"], "old": ["ricom"]}
    first = RunningSink(mosquitto.url, expected=made, state_dir=state, images=made)
    first.connected()
    last = a_snapshot(an_acquisition(), names=("ricom", "adf"), final=True)
    for pipeline in made:
        first.call(first.hub.settings, "merlin", pictures)
        first.call(first.hub.snapshot, pipeline, last)
    everything = {f"merlin/image/{n}/{w}" for n in ("ricom", "adf") for w in ("last", "preview")}
    everything |= {"old/image/ricom/last", "old/image/adf/last"}
    wait_until(lambda: kept() == everything, "all images are retained")
    first.close()

    now = {"merlin": ["ricom"]}
    second = RunningSink(mosquitto.url, expected=now, state_dir=state, images=now, last=last)
    second.call(second.hub.settings, "merlin", pictures)
    second.connected()
    left = {"merlin/image/ricom/last", "merlin/image/ricom/preview"}
    wait_until(lambda: kept() == left, "what nothing makes any more is cleared")
    second.close()
    assert json.loads((state / "retained-titan.json").read_text()) == {"merlin": ["ricom"]}


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_retained_messages_of_others_on_stemd_s_own_topics_are_cleared_and_told(
    mosquitto: Mosquitto, sink_at: Sinks, outside: Outside, version: str, capsys: Any
) -> None:
    before = outside(mosquitto.port)
    foreign = {
        f"{BASE}/merlin/{what}": payload
        for what, payload in {
            "scan": b'{"event": "finished"}',
            "log": b"hello",
            "reply": b"{}",
            "session": b"\xff\xfe",
            "optics": b"[1]",
        }.items()
    } | {f"{BASE}/daemon/health": b"{}"}
    kept = {
        f"{BASE}/merlin/state": b"garbage",  # which stemd's own replaces
        f"{BASE}/soon/optics": b'{"scan": "of an earlier run"}',
        f"{BASE}/merlin/image/ricom/last": b"an image",
        f"{BASE}/merlin/notes": b"somebody's own",
        "stemd/other/merlin/scan": b"{}",
        "elsewhere/scan": b"{}",
    }
    for topic, payload in {**foreign, **kept}.items():
        before.client.publish(topic, payload, 1, retain=True).wait_for_publish(10)
    sink = sink_at(mosquitto.url, version=version, expected=["merlin", "soon"])
    sink.connected()
    sink.call(sink.hub.state, "merlin", {"state": "waiting"})

    def left() -> dict[str, bytes]:
        late = outside(mosquitto.port)
        late.wait_for("elsewhere/scan")
        late.wait_for(f"{BASE}/soon/optics")
        return {m.topic: m.payload for m in late.messages if m.topic in {*foreign, *kept}}

    wait_until(lambda: not left().keys() & foreign, "what is foreign is gone", 30.0)
    found = left()
    assert json.loads(found.pop(f"{BASE}/merlin/state"))["state"] == "waiting"
    assert found == {topic: each for topic, each in kept.items() if topic in found}
    assert found.keys() == kept.keys() - {f"{BASE}/merlin/state"}
    said = capsys.readouterr().out
    lines = [line for line in said.splitlines() if "is not stemd's own is cleared" in line]
    told = {topic for topic in {*foreign, *kept} if any(topic in line for line in lines)}
    assert set(foreign) <= told <= {*foreign, f"{BASE}/merlin/state"}
    assert "hello" in said


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_ghosts_of_earlier_runs_are_cleared_and_nothing_else(
    mosquitto: Mosquitto, sink_at: Sinks, outside: Outside, version: str
) -> None:
    before = outside(mosquitto.port)
    ghosts = [f"{BASE}/old{n}/{what}" for n in range(7) for what in ("state", "image/x/last", "z")]
    kept = [f"{BASE}/merlin/image/ricom/last", f"{BASE}/soon/state", "stemd/other/old1/state"]
    for topic in (*ghosts, *kept):
        before.client.publish(topic, b"{}", 1, retain=True).wait_for_publish(10)
    sink = sink_at(mosquitto.url, version=version, expected=["merlin", "soon"])
    sink.connected()

    def left() -> set[str]:
        late = outside(mosquitto.port)
        late.wait_for("stemd/other/old1/state")
        late.wait_for(f"{BASE}/soon/state")
        return {m.topic for m in late.messages} & {*ghosts, *kept}

    wait_until(lambda: left() == set(kept), "the ghosts are gone", 30.0)
    sink.call(sink.hub.state, "merlin", {"state": "waiting"})
    before.wait_for(f"{BASE}/merlin/state")
    sink.call(sink.hub.expect, ["soon"])
    sink.call(sink.hub.state, "merlin", {"state": "stopped"})  # said too late
    gone = {f"{BASE}/merlin/state", kept[0]}
    wait_until(lambda: not left() & gone, "what was removed is gone, too", 30.0)
    before.client.publish(f"{BASE}/merlin/command", b'{"id": "1", "command": "save"}', 1)
    reply = json.loads(before.wait_for(f"{BASE}/merlin/reply")[0].payload)
    assert reply["error"]["allowed"] == ["soon"]
    before.client.publish(f"{BASE}/soon/command", b'{"id": "1", "command": "save"}', 1)
    reply = json.loads(before.wait_for(f"{BASE}/soon/reply")[0].payload)
    assert "not ready yet" in reply["error"]["message"]
