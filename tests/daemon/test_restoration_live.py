"""Restored images of a running daemon: on the broker, on disk, on the page, or one error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile

from tests.conftest import wait_until
from tests.daemon.rig import BASE, Rig
from tests.inference import models

ENGINE = """
[[pipeline.engine]]
type = "restoration"
input = "bf"
model = {model}
"""


def engine_table(path: Path) -> str:
    return ENGINE.format(model=json.dumps(str(path)))


def test_every_scan_gets_its_restored_image_on_the_broker_and_on_disk(
    make_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    model = models.write(tmp_path, models.box_blur(halo="4"), "blur")
    rig = make_rig(engines=engine_table(model))
    rig.start()
    rig.order("start")
    (scan,) = rig.finished()
    assert "bf_restored.tif" in {file["name"] for file in scan["files"]}
    rig.client.wait_for(f"{BASE}/image/bf_restored/last")
    image, about = rig.last_image("bf_restored")
    assert about["final"]
    assert about["model"] == "blur"
    assert about["scan"] == scan["id"]
    np.testing.assert_array_equal(tifffile.imread(rig.folder_of(scan) / "bf_restored.tif"), image)
    bright, _ = rig.last_image("bf")
    np.testing.assert_allclose(image.mean(), bright.mean(), rtol=1e-5)
    finals = [
        heard
        for heard in rig.client.on(f"{BASE}/image/ricom")
        if b'"final":true' in heard.payload.replace(b" ", b"")
    ]
    assert len(finals) == 1, "what was published early is not published again"
    rig.check_messages()


def test_a_missing_model_is_one_error_and_scans_go_on_until_it_is_there(
    make_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    path = tmp_path / "later.onnx"
    rig = make_rig(engines=engine_table(path))
    rig.start()
    for _ in range(2):
        rig.order("start")
        rig.until_state(lambda s: s["state"] == "waiting" and s["scans_finished"] > 0, "rest")
    rig.finished(2)
    told = [entry for entry in rig.documents("log") if entry["kind"] == "engine"]
    assert len(told) == 1
    assert "later.onnx" in told[0]["message"]
    assert told[0]["remedy"]
    assert {scan["status"] for scan in rig.finished(2)} == {"complete"}
    assert rig.state()["last_error"]["kind"] == "engine"
    rig.last_image("ricom")
    rig.camera.hang_up()
    both = ["camera", "engine"]
    wait_until(
        lambda: any([e["kind"] for e in es] == both for es in rig.states("errors")), "both are told"
    )
    rig.until_state(lambda s: s["camera_connected"], "the camera is back")
    assert [error["kind"] for error in rig.state()["errors"]] == ["engine"]
    models.write(tmp_path, models.box_blur(), "later")
    rig.order("start")
    scan = rig.finished(3)[-1]
    assert "bf_restored.tif" in {file["name"] for file in scan["files"]}
    wait_until(lambda: rig.state()["last_error"] is None, "the error is over")
    rig.check_messages()
