"""docs/asyncapi.yaml describes what is really on the wire."""

from __future__ import annotations

import json
from collections.abc import Callable

import jsonschema
import numpy as np
import pytest

from stemd.acquisition import Optics, iso_utc
from stemd.config.session_plan import SessionPlan
from stemd.daemon.sessions.book import SessionBook
from stemd.scan.measured_optics import measured_optics
from stemd.scan.run import ScanRun
from stemd.settings import Settings
from stemd.storage.files import FileRecord
from stemd.storage.folder import ScanSummary, scan_document
from tests.conftest import OutsideClient, a_snapshot, an_acquisition, wait_until
from tests.sinks import asyncapi
from tests.sinks.running import BASE, RunningSink


def test_every_schema_is_a_schema_and_every_reference_leads_somewhere() -> None:
    for schema in asyncapi.specification()["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    text = asyncapi.PATH.read_text()
    for part in text.split("$ref: '")[1:]:
        assert asyncapi.resolve(part.split("'")[0])


def test_all_that_a_sink_says_in_a_scan_is_as_described(
    broker: tuple[str, int, bool],
    sink_at: Callable[..., RunningSink],
    outside: Callable[..., OutsideClient],
) -> None:
    url, port, version5 = broker
    client = outside(port, version5=version5)
    sink = sink_at(url, version="5" if version5 else "3.1.1")
    sink.connected()
    tell_a_scan(sink)
    for body in (b'{"id": "1", "publish": {"rate_hz": 2}}', b"nonsense", b'{"id": "1"}'):
        client.client.publish(f"{BASE}/merlin/settings/set", body, qos=1)
    client.wait_for(f"{BASE}/merlin/reply", 3)
    sink.stop()
    wait_until(lambda: len(client.on(f"{BASE}/availability")) == 2, "offline came")

    spoken = [m for m in client.messages if not m.topic.endswith("settings/set")]
    channels = {asyncapi.check(message.topic, message.payload) for message in spoken}
    outbound = set(asyncapi.specification()["channels"]) - {"settingsSet", "command"}
    assert channels == outbound


def tell_a_scan(sink: RunningSink) -> None:
    """The documents of a short scan, of the sizes and shapes that a daemon would say."""
    acquisition = an_acquisition()
    scan = acquisition.scan.model_dump(mode="json")
    hub = sink.hub
    daemon = {"version": "0.1.0", "boot_id": "b", "since": iso_utc(1), "pipelines": ["merlin"]}
    status = sink.call(lambda: sink.sink.status.as_json())
    sink.call(hub.daemon, {**daemon, "broker": status, "page": None})
    pipeline = {"state": "waiting", "positions_per_second": 0.0, "last_frame_age_s": None}
    health = {"red": [], "memory_bytes": 1, "disk_free_bytes": 2, "pipelines": {"merlin": pipeline}}
    sink.call(hub.healthy, {**health, "broker": status})
    counts = {"positions_done": 0, "positions_total": 54, "missing": 0, "positions_per_second": 0.5}
    sink.call(
        hub.state,
        "merlin",
        {"state": "acquiring", "scan": "x", "last_error": None, "errors": [], **counts},
    )
    sink.call(hub.settings, "merlin", {"revision": 1, "publish": {"preview": True}})
    started = {"event": "started", "id": acquisition.id, "scan": scan, "settings": {}}
    sink.call(hub.document, "merlin", started)
    sink.call(hub.snapshot, "merlin", a_snapshot(acquisition))
    done = np.ones(54, np.bool_)
    done[7:9] = False
    summary = ScanSummary("incomplete", done)
    record = FileRecord("raw.mib", 3, "0" * 64)
    finished = scan_document(acquisition, "merlin", "titan", summary, [record])
    sink.call(hub.document, "merlin", {"event": "finished", **finished})
    sink.call(hub.snapshot, "merlin", a_snapshot(acquisition, final=True))
    run = ScanRun(acquisition, Settings(optics=Optics(center=(31.0, 24.0))), [])
    run.maps.total[:] = run.maps.moment_y[:] = run.maps.moment_x[:] = 5
    run.maps.done[:] = True
    sink.call(hub.optics, "merlin", measured_optics(run))
    book = SessionBook.begin(
        SessionPlan(name="night", scans=2), "merlin", "titan", 1, from_config=False
    )
    book.got(finished, 2)
    sink.call(hub.document, "merlin", book.shown())
    sink.call(hub.log, "merlin", {"level": "warning", "message": "m", "remedy": "r"})


@pytest.mark.parametrize(
    ("schema", "wrong"),
    [
        ("reply", {"id": "1", "ok": False, "time": iso_utc(1), "time_ns": 1}),
        ("state", {"state": "idle"}),
        ("command", {"id": "1", "command": "start", "extra": 1}),
        ("imageDescription", {"name": "ricom"}),
    ],
)
def test_the_description_tells_right_from_wrong(schema: str, wrong: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        asyncapi.validator(schema).validate(json.loads(json.dumps(wrong)))
