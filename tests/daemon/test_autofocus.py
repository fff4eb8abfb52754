"""The loop closed: what stemd measures drives the virtual microscope into focus."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from stemd.aberrations import Aberrations
from stemd.virtual.drives import move_of
from tests.conftest import Mosquitto, OutsideClient, wait_until
from tests.daemon.running import RunningDaemon

CONFIG = """\
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
scan = {{ shape = [32, 32], step_size_angstrom = 0.3 }}

[pipeline.optics]
energy_ev = 300e3
convergence_semi_angle_mrad = 20.0
pixel_size_mrad = 2.5
measured = "{measured}"

[[pipeline.engine]]
type = "direct"
live = false

[pipeline.record]
raw = false
"""


@pytest.fixture
def camera(mosquitto: Mosquitto) -> Iterator[int]:
    """A virtual microscope 30 nm out of focus and astigmatic, driven by MQTT; its data port."""
    command = ["virtual", "merlin", "--scan", "32x32", "--step", "0.3", "--detector", "32x32"]
    command += ["--pixel-size-mrad", "2.5", "--specimen", "mos2_twisted", "--dose", "3000"]
    command += ["--defocus", "295", "--astigmatism", "28", "--astigmatism-deg", "40"]
    command += ["--rate", "4000", "--gap", "12", "--port", "0", "--json", "--stay"]
    command += ["--drives", mosquitto.url]
    process = subprocess.Popen(
        [sys.executable, "-m", "stemd", *command], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield int(json.loads(process.stdout.readline())["data_port"])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def autofocus() -> ModuleType:
    path = Path(__file__).parents[2] / "examples" / "autofocus.py"
    spec = importlib.util.spec_from_file_location("autofocus", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.mosquitto
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_thirty_nanometres_are_corrected_within_three_scans(
    camera: int, mosquitto: Mosquitto, tmp_path: Path, autofocus: ModuleType
) -> None:
    text = CONFIG.format(broker=mosquitto.url, port=camera, measured="report")
    client, documents = autofocus.connect("127.0.0.1", mosquitto.port, "stemd/test/cam/optics")
    daemon = RunningDaemon(tmp_path, text)
    try:
        drives = Recorded(autofocus.Drives(client))
        assert autofocus.focus(documents, drives, 3)
        total = [sum(parts) for parts in zip(*drives.moves, strict=True)]
        # A1 of 2.8 nm at 40 degrees
        assert total == pytest.approx([-29.5, -0.49, -2.76], abs=1.0)
    finally:
        client.disconnect()
        client.loop_stop()
        daemon.stop()
        daemon.close()
    assert not [thread for thread in threading.enumerate() if "paho" in thread.name]


@pytest.mark.mosquitto
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_was_measured_is_used_for_the_finished_images_and_the_next_ones(
    camera: int,
    mosquitto: Mosquitto,
    tmp_path: Path,
    outside: Callable[..., OutsideClient],
) -> None:
    client = outside(mosquitto.port)
    daemon = RunningDaemon(
        tmp_path, CONFIG.format(broker=mosquitto.url, port=camera, measured="use")
    )

    def told() -> dict[str, Any]:
        seen = client.on("stemd/test/cam/settings")
        return dict(json.loads(seen[-1].payload)["optics"]) if seen else {}

    try:
        wait_until(lambda: told().get("defocus_nm", 0.0) != 0.0, "the settings change", 120.0)
        assert told()["defocus_nm"] == pytest.approx(29.5, abs=1.6)
        assert told()["rotation_deg"] == 0.0
        wait_until(
            lambda: any(scan.get("recomputed") for scan in daemon.scans()), "made anew", 60.0
        )
        scan = daemon.scans()[0]
        (again,) = scan["recomputed"]
        assert again["because"] == "measured optics"
        assert again["settings"]["optics"]["defocus_nm"] == told()["defocus_nm"]
        assert "direct_phase" in again["images"]
        assert scan["optics"]["defocus_nm"] == 0.0
        assert scan["measured_optics"]["defocus_nm"]["agrees"] is False
    finally:
        daemon.stop()
        daemon.close()


class Recorded:
    """Drives that keep how they were moved."""

    def __init__(self, drives: Any) -> None:
        self.drives = drives
        self.moves: list[tuple[float, float, float]] = []

    def move(self, *by: float) -> None:
        self.moves.append((by[0], by[1], by[2]))
        self.drives.move(*by)


@pytest.mark.parametrize(
    "payload",
    [
        *(b"", b"[]", b"{}", b'{"focus": 3}', b'{"defocus_nm": "3"}', b'{"defocus_nm": 1e9}'),
        b"[" * 100_000,
    ],
)
def test_a_move_that_is_none_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON|nested|an object|no length"):
        move_of(payload)


def test_a_move_is_in_nanometres() -> None:
    moved = move_of(b'{"defocus_nm": -2, "stigmator_y_nm": 0.5}')
    assert moved == Aberrations(defocus=-20.0, astigmatism_y=5.0)
