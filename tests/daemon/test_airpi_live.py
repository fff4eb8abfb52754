"""Phase images of a running daemon: on the broker, on disk, or one error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile

from tests.daemon.rig import BASE, Rig
from tests.engines import airpi_scenes

ENGINE = """
[[pipeline.engine]]
type = "airpi"
backend = "onnxruntime"
model = {model}
"""


def engine_table(path: str) -> str:
    return ENGINE.format(model=json.dumps(path))


def test_every_scan_gets_its_phase_on_the_broker_and_on_disk(
    make_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    path = airpi_scenes.write(tmp_path, airpi_scenes.reader(), "reader")
    rig = make_rig(engines=engine_table(path))
    rig.start()
    rig.order("start")
    (scan,) = rig.finished()
    names = {file["name"] for file in scan["files"]}
    assert {"airpi_phase.tif", "airpi_weight.tif", "ricom.tif"} <= names
    rig.client.wait_for(f"{BASE}/image/airpi_phase/last")
    image, about = rig.last_image("airpi_phase")
    assert about["final"]
    assert about["units"] == "rad"
    assert about["scan"] == scan["id"]
    assert about["groups"] == scan["positions_total"]
    assert np.ptp(image) > 0
    np.testing.assert_array_equal(tifffile.imread(rig.folder_of(scan) / "airpi_phase.tif"), image)
    finals = [
        heard
        for heard in rig.client.on(f"{BASE}/image/ricom")
        if b'"final":true' in heard.payload.replace(b" ", b"")
    ]
    assert len(finals) == 1, "riCOM's final image was not held up, nor published again"
    rig.check_messages()


def test_a_missing_network_is_one_error_and_scans_go_on(
    make_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    rig = make_rig(engines=engine_table(str(tmp_path / "later.onnx")))
    rig.start()
    for _ in range(2):
        rig.order("start")
        rig.until_state(lambda s: s["state"] == "waiting" and s["scans_finished"] > 0, "rest")
    rig.finished(2)
    told = [entry for entry in rig.documents("log") if entry["kind"] == "engine"]
    assert len(told) == 1
    assert "later.onnx" in told[0]["message"]
    assert {scan["status"] for scan in rig.finished(2)} == {"complete"}
    rig.last_image("ricom")
