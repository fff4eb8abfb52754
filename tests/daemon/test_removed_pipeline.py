"""A renamed pipeline: its topics go, and a command to it is answered with those there are."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable

import pytest

from tests.conftest import OutsideClient, wait_until
from tests.daemon.rig import BASE, Rig

pytestmark = pytest.mark.mosquitto


def test_a_renamed_pipeline_leaves_no_topic_and_a_command_to_it_names_those_there_are(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig()
    rig.start()
    rig.camera.scan()
    rig.finished()
    rig.last_image()
    config = rig.daemon.config
    config.write_text(config.read_text().replace('name = "cam"', 'name = "camera"'))
    rig.daemon.process.send_signal(signal.SIGHUP)
    rig.client.wait_for("stemd/rig/camera/settings")

    def left() -> set[str]:
        late = OutsideClient(rig.broker.port, version5=True)
        late.wait_for("stemd/rig/camera/settings")
        topics = {m.topic for m in late.messages if m.retain and m.topic.startswith(f"{BASE}/")}
        late.close()
        return topics

    wait_until(lambda: not left(), "nothing is left of it", 30.0)
    rig.client.client.publish(f"{BASE}/command", b'{"id": "late", "command": "start"}', 1)
    wait_until(lambda: any(r["id"] == "late" for r in rig.documents("reply")), "it is answered")
    reply = next(r for r in rig.documents("reply") if r["id"] == "late")
    assert reply["error"]["allowed"] == ["camera"]
    assert "Traceback" not in (rig.folder / "log.txt").read_text()
    assert json.loads(rig.client.on("stemd/rig/daemon/state")[-1].payload)["pipelines"] == [
        "camera"
    ]
