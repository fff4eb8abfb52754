"""A camera armed for all repeats of a place, the daemon, and the record: one aligned sum."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from stemd.acquisition import Scan
from stemd.adapters.merlin.encoder import Camera
from stemd.cli.main import main
from stemd.virtual import diffraction
from stemd.virtual.merlin.camera import MerlinCamera, MerlinRunning
from stemd.virtual.merlin.frames import RenderedSource
from stemd.virtual.microscope import Microscope, Setup
from tests import ordinary_priority
from tests.conftest import Mosquitto, OutsideClient, wait_until
from tests.daemon.running import RunningDaemon

SIDE, FRAMES, RATE = 40, 4, 4000.0
DRIFT_NM_PER_S = (0.08, -0.12)
SCAN = Scan(shape=(SIDE, SIDE), repeats=FRAMES, step_size_angstrom=0.4, dwell_time_us=250.0)
CONFIG = """
[daemon]
instrument = "repeats"
data_dir = @DATA@
reserve_mb = 1

[mqtt]
url = "{broker}"

[[pipeline]]
name = "cam"

[pipeline.adapter]
type = "merlin"
host = "127.0.0.1"
data_port = {port}
control_port = {control}

[pipeline.adapter.scan]
shape = [40, 40]
repeats = 4
flyback = 0
step_size_angstrom = 0.4
dwell_time_us = 250.0

[pipeline.optics]
energy_ev = 300e3
convergence_semi_angle_mrad = 20.0
pixel_size_mrad = 2.5
measured = "off"

[[pipeline.engine]]
type = "com"

[[pipeline.engine]]
type = "virtual_detector"
detectors = {{ adf = [22.0, 40.0] }}

[[pipeline.engine]]
type = "direct"
pixels_per_angle = 4

[pipeline.publish]
rate_hz = 20.0

[pipeline.record]
raw = true
"""


def camera() -> MerlinCamera:
    """One acquisition of all repeats, then silence."""
    drift = (DRIFT_NM_PER_S[0] * 10.0, DRIFT_NM_PER_S[1] * 10.0)
    setup = Setup(
        SCAN, camera=diffraction.Camera((32, 32), 2.5), dose=200.0, frame_time_s=1.0 / RATE,
        drift_angstrom_per_s=drift,
    )  # fmt: skip
    source = RenderedSource(Microscope(setup), Camera((32, 32), 12))
    running = MerlinRunning(port=0, control_port=0, rate=RATE, scans=1, stay=True)
    return MerlinCamera(source, running)


def described(client: OutsideClient, image: str) -> list[dict[str, Any]]:
    """The descriptions of all images of this name so far."""
    found = []
    for heard in client.on(f"stemd/repeats/cam/image/{image}"):
        with tifffile.TiffFile(io.BytesIO(heard.payload)) as tiff:
            found.append(json.loads(tiff.pages.first.description))
    return found


def documents(client: OutsideClient, event: str) -> list[dict[str, Any]]:
    heard = [json.loads(m.payload) for m in client.on("stemd/repeats/cam/scan")]
    return [document for document in heard if document["event"] == event]


@pytest.mark.slow
def test_repeats_of_one_place_are_one_aligned_scan_live_and_from_the_record(
    tmp_path: Path, mosquitto: Mosquitto, outside: Callable[..., OutsideClient]
) -> None:
    client, merlin = outside(mosquitto.port), camera()
    serving = threading.Thread(target=merlin.run, daemon=True)
    ports = {"port": merlin.data_port, "control": merlin.control_port}
    (tmp_path / "site").mkdir()
    daemon = RunningDaemon(
        tmp_path,
        CONFIG.format(broker=mosquitto.url, **ports),
        ordinary_priority.environment(tmp_path / "site"),
    )
    try:
        serving.start()
        wait_until(lambda: documents(client, "finished"), "the scan is over")
        wait_until(lambda: documents(client, "completion"), "its images are completed")
    finally:
        merlin.close()
        serving.join(10.0)
        daemon.stop()
        daemon.log.close()
    (scan,) = documents(client, "finished")
    assert scan["status"] == "complete"
    assert scan["positions_done"] == FRAMES * SIDE * SIDE

    # live the sum grows with each frame; at the end it knows the drift
    shown = [about["repeats"]["frames"] for about in described(client, "adf")]
    assert shown == sorted(shown)
    assert len(set(shown)) > 2
    last = described(client, "adf")[-1]["repeats"]
    assert (last["frames"], last["of"]) == (FRAMES, FRAMES)
    assert last["drift_nm_per_s"]["value"] == pytest.approx(DRIFT_NM_PER_S, abs=0.01)
    assert last["dose_e_per_square_angstrom"] == pytest.approx(FRAMES * 200.0 / 0.16, rel=0.05)

    # what a camera sends once shows the first frame, says so, and is completed from the record
    first, *_, completed = described(client, "direct_phase")
    assert first["repeats"] == {"frames": 1, "of": FRAMES}
    assert completed["repeats"]["frames"] == FRAMES
    told = [n["text"] for n in scan["notices"] if n["kind"] == "first_frame_only"]
    assert told == [
        f"only the first of {FRAMES} frames is shown by direct until the images are completed "
        "from the record"
    ]
    assert documents(client, "completion")[-1]["completion"]["status"] == "done"

    # the record gives the same images, bit for bit
    folder = next(daemon.data_dir.glob(f"*/{scan['id']}"))
    out = ["--out", str(tmp_path / "out"), "--jobs", "2"]
    assert main(["process", str(folder / "raw.mib"), "--config", str(daemon.config), *out]) == 0
    names = sorted(path.name for path in folder.glob("*.tif"))
    assert {"adf.tif", "com_x.tif", "direct_phase.tif"} <= set(names)
    for name in names:
        live, again = (tifffile.imread(at / name) for at in (folder, tmp_path / "out" / "raw"))
        np.testing.assert_array_equal(live, again, name)
