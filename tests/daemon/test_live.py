"""The whole daemon: a TCP camera in, mosquitto and disk out, seen by an outside client."""

from __future__ import annotations

import io
import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from stemd.adapters.merlin.encoder import Camera, encode_frame, encode_hdr
from stemd.cli.main import main
from tests.conftest import Mosquitto, OutsideClient, wait_until
from tests.daemon.running import CuttingCamera, RunningDaemon
from tests.sinks.asyncapi import check

pytestmark = [pytest.mark.mosquitto, pytest.mark.waits]

SHAPE = (12, 16)
CONFIG = """
[daemon]
instrument = "test"
data_dir = @DATA@

[mqtt]
url = "{broker}"

[[pipeline]]
name = "cam"

[pipeline.adapter]
type = "merlin"
host = "127.0.0.1"
data_port = {port}
idle_timeout_s = 1.0
pause_timeout_s = 1.0
scan = {{ shape = [12, 16], step_size_angstrom = 0.5 }}

[pipeline.optics]
pixel_size_mrad = 1.0
mask = "auto"

[[pipeline.engine]]
type = "ricom"
kernel_size = 9

[[pipeline.engine]]
type = "com"

[[pipeline.engine]]
type = "sum"

[[pipeline.engine]]
type = "pacbed"

[[pipeline.engine]]
type = "virtual_detector"
detectors = {{ bf = [0.0, 20.0], adf = [22.0, 60.0] }}

[pipeline.publish]
rate_hz = 50.0

[pipeline.record]
raw = true
"""
NAMES = {
    *("ricom", "com_y", "com_x", "field_magnitude", "field_direction"),
    *("sum", "pacbed", "bf", "adf"),
}


@pytest.fixture
def frames() -> list[bytes]:
    rng = np.random.default_rng(7)
    kind = Camera(shape=(256, 256), depth=12)
    y, x = np.mgrid[:256, :256]
    patterns = []
    for _ in range(SHAPE[0] * SHAPE[1]):
        cy, cx = 120 + rng.normal(size=2)
        disc = np.hypot(y - cy, x - cx) < 22
        patterns.append(np.where(disc, rng.integers(0, 9, (256, 256)), 0).astype(np.uint16))
        patterns[-1][5, 250] = 4095  # broken: it is masked, live and afterwards
    return [encode_frame(p, kind, i + 1, 1_700_000_000_000_000_000) for i, p in enumerate(patterns)]


@pytest.fixture
def camera() -> Iterator[CuttingCamera]:
    serving = CuttingCamera(encode_hdr(Camera(shape=(256, 256), depth=12), SHAPE[0] * SHAPE[1]))
    yield serving
    serving.close()


@pytest.fixture
def daemon(tmp_path: Path, mosquitto: Mosquitto, camera: CuttingCamera) -> Iterator[RunningDaemon]:
    running = RunningDaemon(tmp_path, CONFIG.format(broker=mosquitto.url, port=camera.port))
    yield running
    running.close()


def documents(client: OutsideClient, topic: str) -> list[dict[str, Any]]:
    return [json.loads(message.payload) for message in client.on(topic)]


def wait_for_event(client: OutsideClient, event: str, count: int = 1) -> list[dict[str, Any]]:
    def found() -> list[dict[str, Any]]:
        return [d for d in documents(client, "stemd/test/cam/scan") if d["event"] == event]

    wait_until(lambda: len(found()) >= count, f"{count} documents {event}", 60.0)
    return found()


def test_a_scan_cut_at_random_places_gives_the_images_of_its_recording_everywhere(
    tmp_path: Path,
    daemon: RunningDaemon,
    camera: CuttingCamera,
    mosquitto: Mosquitto,
    outside: Callable[..., OutsideClient],
    frames: list[bytes],
) -> None:
    client = outside(mosquitto.port)
    camera.scan(frames, pause_s=0.0005)
    camera.scan(frames)
    finished = wait_for_event(client, "finished", 2)
    assert [document["status"] for document in finished] == ["complete", "complete"]

    mib = tmp_path / "direct.mib"
    mib.write_bytes(b"".join(frames))
    arguments = ["process", str(mib), "--config", str(daemon.config), "--out", str(tmp_path)]
    assert main(arguments) == 0
    direct = {path.stem: path for path in (tmp_path / "direct").glob("*.tif")}
    assert set(direct) == NAMES
    wait_until(
        lambda: len(client.on("stemd/test/cam/image/ricom/last")) >= 2, "the last images", 20.0
    )
    for folder in daemon.folders():
        assert (folder / "raw.mib").read_bytes() == mib.read_bytes()
        assert json.loads((folder / "scan.json").read_text())["mask"]["pixels"] == [
            [5, 250, 6, 251]
        ]
        again = tmp_path / "again" / folder.name
        assert main(["process", str(folder / "raw.mib"), "--out", str(again)]) == 0
        for name in NAMES:
            alike = tifffile.imread(again / "raw" / f"{name}.tif").tobytes()
            assert alike == tifffile.imread(folder / f"{name}.tif").tobytes(), name
        for name, path in direct.items():
            expected = tifffile.imread(path)
            assert tifffile.imread(folder / f"{name}.tif").tobytes() == expected.tobytes(), name
            last = client.on(f"stemd/test/cam/image/{name}/last")[-1]
            with tifffile.TiffFile(io.BytesIO(last.payload)) as tiff:
                about = json.loads(tiff.pages[0].description)  # type: ignore[union-attr]
                assert tiff.asarray().tobytes() == expected.tobytes(), name
            assert about["final"] is True
            assert about["positions_done"] == about["positions_total"] == len(frames)
    growing = [
        json.loads(tifffile.TiffFile(io.BytesIO(m.payload)).pages[0].description)  # type: ignore[union-attr]
        for m in client.on("stemd/test/cam/image/ricom")
    ]
    assert any(not about["final"] for about in growing)
    assert any(about["final"] for about in growing)


def test_an_outside_client_sees_exactly_the_topics_of_the_contract(
    daemon: RunningDaemon,
    camera: CuttingCamera,
    mosquitto: Mosquitto,
    outside: Callable[..., OutsideClient],
    frames: list[bytes],
) -> None:
    client = outside(mosquitto.port)
    camera.scan(frames)
    wait_for_event(client, "finished")
    wait_until(lambda: client.on("stemd/test/daemon/health"), "a health document", 15.0)
    assert daemon.stop() == 0
    wait_until(
        lambda: any(m.payload == b"offline" for m in client.on("stemd/test/availability")),
        "offline",
    )
    base = "stemd/test"
    images = {f"{base}/cam/image/{name}" for name in NAMES}
    expected = {
        *(f"{base}/availability", f"{base}/daemon/state", f"{base}/daemon/health"),
        *(f"{base}/cam/{each}" for each in ("state", "settings", "scan", "optics")),
        *images,
        *(f"{topic}/last" for topic in images),
    }
    seen = {message.topic for message in client.messages}
    assert seen - {f"{base}/cam/log"} == expected
    for message in client.messages:
        check(message.topic, message.payload)
    states = [document["state"] for document in documents(client, f"{base}/cam/state")]
    for state in ("waiting", "acquiring", "finishing", "stopped"):
        assert state in states
    late = outside(mosquitto.port)
    retained = {
        *(f"{base}/availability", f"{base}/daemon/state"),
        *(f"{base}/cam/{each}" for each in ("state", "settings", "optics")),
        *(f"{topic}/last" for topic in images),
    }
    wait_until(lambda: {m.topic for m in late.messages if m.retain} >= retained, "retained")
    assert {m.topic for m in late.messages if m.retain} == retained


def test_settings_are_changed_from_outside_and_hold_for_the_running_scan(
    daemon: RunningDaemon,
    camera: CuttingCamera,
    mosquitto: Mosquitto,
    outside: Callable[..., OutsideClient],
    frames: list[bytes],
) -> None:
    client = outside(mosquitto.port)
    wait_until(lambda: client.on("stemd/test/cam/settings"), "settings")
    camera.wait_for_client()
    change = {"id": "a", "ricom": {"kernel_size": 5}, "optics": {"rotation_deg": 30.0}}
    client.client.publish("stemd/test/cam/settings/set", json.dumps(change))
    client.client.publish("stemd/test/cam/settings/set", '{"id": "b", "ricom": {"kernel_size": 4}}')
    wait_until(lambda: len(client.on("stemd/test/cam/reply")) == 2, "two replies")
    replies = {reply["id"]: reply for reply in documents(client, "stemd/test/cam/reply")}
    assert replies["a"]["ok"] is True
    assert replies["a"]["revision"] == 2
    assert replies["b"]["ok"] is False
    assert replies["b"]["error"]["key"] == "ricom.kernel_size"
    assert documents(client, "stemd/test/cam/settings")[-1]["ricom"]["kernel_size"] == 5
    camera.scan(frames)
    document = wait_for_event(client, "finished")[0]
    assert document["settings"]["ricom"]["kernel_size"] == 5
    last = client.wait_for("stemd/test/cam/image/ricom/last")[-1]
    about = json.loads(tifffile.TiffFile(io.BytesIO(last.payload)).pages[0].description)  # type: ignore[union-attr]
    assert about["kernel_size"] == 5
    assert about["rotation_deg"] == 30.0


def test_sigterm_in_mid_scan_keeps_what_had_arrived_and_ends_within_two_seconds(
    daemon: RunningDaemon,
    camera: CuttingCamera,
    mosquitto: Mosquitto,
    outside: Callable[..., OutsideClient],
    frames: list[bytes],
) -> None:
    client = outside(mosquitto.port)
    camera.scan(frames[:100])
    wait_until(
        lambda: any(
            state["positions_done"] == 100
            for state in documents(client, "stemd/test/cam/state")
            if state["state"] == "acquiring"
        ),
        "100 positions",
        30.0,
    )
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < 2.0
    scan = daemon.scans()[0]
    assert scan["status"] == "aborted"
    assert scan["positions_done"] == 100
    assert scan["missing"] == 92
    assert (daemon.folders()[0] / "raw.mib").read_bytes() == b"".join(frames[:100])


def test_a_scan_that_stops_early_is_finished_as_incomplete_after_the_idle_time(
    daemon: RunningDaemon,
    camera: CuttingCamera,
    mosquitto: Mosquitto,
    outside: Callable[..., OutsideClient],
    frames: list[bytes],
) -> None:
    client = outside(mosquitto.port)
    lossy = [frame for index, frame in enumerate(frames[:150]) if index not in (20, 21, 77)]
    camera.scan(lossy)
    document = wait_for_event(client, "finished")[0]
    assert document["status"] == "incomplete"
    assert document["positions_done"] == 147
    assert document["missing_runs"] == [[20, 22], [77, 78], [150, 192]]
    camera.scan(frames)
    assert wait_for_event(client, "finished", 2)[1]["status"] == "complete"


def test_a_camera_that_goes_and_comes_back_is_found_again(
    daemon: RunningDaemon,
    camera: CuttingCamera,
    mosquitto: Mosquitto,
    outside: Callable[..., OutsideClient],
    frames: list[bytes],
) -> None:
    client = outside(mosquitto.port)
    camera.scan(frames[:50])
    camera.hang_up()
    assert wait_for_event(client, "aborted")[0]["positions_done"] == 50
    camera.scan(frames)
    assert wait_for_event(client, "finished")[0]["status"] == "complete"


@pytest.mark.parametrize("number", [signal.SIGKILL])
def test_a_killed_daemon_leaves_what_arrived_and_the_next_start_says_so(
    tmp_path: Path,
    daemon: RunningDaemon,
    camera: CuttingCamera,
    mosquitto: Mosquitto,
    outside: Callable[..., OutsideClient],
    frames: list[bytes],
    number: signal.Signals,
) -> None:
    client = outside(mosquitto.port)
    camera.scan(frames[:100])
    wait_until(
        lambda: any(
            state["positions_done"] == 100 for state in documents(client, "stemd/test/cam/state")
        ),
        "100 positions",
        30.0,
    )
    daemon.stop(number)
    assert client.wait_for("stemd/test/availability", 2)[-1].payload == b"offline"
    text = daemon.config.read_text()
    again = RunningDaemon(tmp_path, text)
    try:
        wait_until(lambda: daemon.scans()[0]["status"] == "aborted", "recovery", 30.0)
        # who waits for the end of the scan is told, though another process began it
        told = wait_for_event(client, "aborted")[0]
        assert {key: told[key] for key in ("id", "status", "positions_done", "files")} == {
            key: again.scans()[0][key] for key in ("id", "status", "positions_done", "files")
        }
        check(*next((m.topic, m.payload) for m in client.on("stemd/test/cam/scan")[-1:]))
    finally:
        again.stop()
        again.close()
    kept = (daemon.folders()[0] / "raw.mib").read_bytes()
    assert b"".join(frames[:100]).startswith(kept)
    assert len(kept) >= len(frames[0]) * 90
    shutil.rmtree(daemon.data_dir)
