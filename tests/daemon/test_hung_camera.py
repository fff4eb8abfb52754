"""A camera control that does not answer: settings and abort do not wait for it."""

from __future__ import annotations

import json
import threading
import time

import pytest

from stemd.adapters.merlin.control import OK
from tests.conftest import wait_until
from tests.daemon.rig import BASE, Rig

pytestmark = pytest.mark.mosquitto


def test_behind_a_start_that_hangs_a_slider_ends_at_its_newest_value_and_abort_arrives(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, stopped = threading.Event(), threading.Event()

    def hangs(name: str) -> int:
        if name == "STARTACQUISITION":
            answer.wait(20.0)
        elif name == "STOPACQUISITION":
            stopped.set()
        return OK

    monkeypatch.setattr(rig.camera, "_command", hangs)
    publish = rig.client.client.publish
    try:
        for number in range(3):
            body = {"id": f"hang-{number}-{time.time_ns()}", "command": "start"}
            publish(f"{BASE}/command", json.dumps(body), 1)
        for number in range(200):
            publish(f"{BASE}/settings/set", json.dumps({"optics.rotation_deg": number * 0.5}), 1)
        began = time.monotonic()
        assert rig.order("abort")["ok"]
        assert stopped.is_set()
        assert time.monotonic() - began < 2.0, "it did not wait for the start"
        wait_until(
            lambda: rig.documents("settings")[-1]["optics"]["rotation_deg"] == 99.5, "newest value"
        )
    finally:
        answer.set()
    wait_until(
        lambda: (
            [r["ok"] for r in rig.documents("reply") if "hang" in str(r["id"])].count(False) >= 2
        ),
        "the starts that waited are refused",
    )
