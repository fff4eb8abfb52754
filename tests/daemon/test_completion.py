"""AIRPI images that a slow network left incomplete: whole from the record, whatever happens."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import tifffile

from stemd import __version__
from stemd.cli.main import main
from tests.conftest import wait_until
from tests.daemon import slow_network
from tests.daemon.rig import Rig, make_frames
from tests.engines import airpi_scenes

LINES, COLUMNS = 24, 8
NAMES = ("airpi_phase", "airpi_weight", "airpi_uncertainty")
ENGINE = """
[[pipeline.engine]]
type = "airpi"
backend = "onnxruntime"
model = {model}
complete = {complete}
"""


@pytest.fixture(scope="module")
def long_frames() -> list[bytes]:
    return make_frames(seed=4, count=LINES * COLUMNS)


class SlowRig:
    """A rig whose network falls behind the camera in the first lines of each scan."""

    def __init__(self, rig: Rig, folder: Path, frames: list[bytes]) -> None:
        self.rig, self.folder, self.frames = rig, folder, frames
        rig.environment = slow_network.environment(folder)
        rig.camera.values["NUMFRAMESTOACQUIRE"] = str(len(frames))
        rig.camera.frames = frames  # what it sends when it is started

    def scan(self) -> dict[str, Any]:
        """A scan in which the network gives way; its document."""
        rig, camera, slow = self.rig, self.rig.camera, self.folder / "slow"
        slow.touch()
        over, told = len(rig.events("finished")), len(self.told("airpi_coarser"))
        camera.begin()
        camera.more(self.frames[: 20 * COLUMNS])
        wait_until(lambda: len(self.told("airpi_coarser")) > told, "the network falls behind", 60.0)
        slow.unlink()
        camera.more(self.frames[20 * COLUMNS :])
        return rig.finished(over + 1)[-1]

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [entry for entry in self.rig.documents("log") if entry["kind"] == kind]

    def hold(self) -> None:
        """Every completion stops here."""
        (self.folder / "hold").touch()

    def go_on(self) -> None:
        (self.folder / "hold").unlink()

    def under_way(self, scan: dict[str, Any]) -> psutil.Process:
        """The process that completes the images of this scan."""
        self.rig.until_state(lambda s: s["completing"] == scan["id"], "it is being completed")
        # it is told before its process is there
        wait_until(lambda: len(self.processes()) == 1, "its process has started", 60.0)
        return self.processes()[0]

    def processes(self) -> list[psutil.Process]:
        found = []
        for child in psutil.Process(self.rig.daemon.process.pid).children():
            with suppress(psutil.NoSuchProcess):  # it ends at this moment
                if "stemd.offline.completion" in child.cmdline():
                    found.append(child)
        return found

    def completion(self, scan: dict[str, Any]) -> dict[str, Any]:
        """What becomes of it in the end, as told."""

        def told() -> list[dict[str, Any]]:
            return [d for d in self.rig.events("completion") if d["id"] == scan["id"]]

        wait_until(told, "the completion is over", 120.0)
        (document,) = told()
        return document

    def images(self, scan: dict[str, Any]) -> dict[str, bytes]:
        folder = self.rig.folder_of(scan)
        return {name: tifffile.imread(folder / f"{name}.tif").tobytes() for name in NAMES}

    def processed(self, scan: dict[str, Any], out: Path) -> dict[str, bytes]:
        """What `stemd process` makes of the record."""
        raw, config = self.rig.folder_of(scan) / "raw.mib", self.rig.daemon.config
        assert main(["process", str(raw), "--config", str(config), "--out", str(out)]) == 0
        return {name: tifffile.imread(out / "raw" / f"{name}.tif").tobytes() for name in NAMES}

    def written(self, scan: dict[str, Any]) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.rig.folder_of(scan) / "scan.json").read_text())
        return document

    def listed(self, scan: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
        """The catalogue's row."""
        capsys.readouterr()
        assert main(["scans", "show", scan["id"], "--json", "--data-dir", str(self.rig.data)]) == 0
        row: dict[str, Any] = json.loads(capsys.readouterr().out)
        return row


@pytest.fixture
def make_slow(
    make_rig: Callable[..., Rig], tmp_path: Path, long_frames: list[bytes]
) -> Callable[..., SlowRig]:
    path = airpi_scenes.write(tmp_path, airpi_scenes.reader(), "reader")

    def make(complete: str = "true", **more: Any) -> SlowRig:
        engines = ENGINE.format(model=json.dumps(path), complete=complete)
        # warnings of one kind are told once in five seconds: no scan may end meanwhile
        rig = make_rig(engines=engines, lines=LINES, **{"idle": 20.0, **more})
        return SlowRig(rig, tmp_path / "site", long_frames)

    return make


def test_the_image_is_completed_from_the_record_and_is_what_process_makes(
    make_slow: Callable[..., SlowRig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = make_slow()
    slow.hold()
    slow.rig.start()
    scan = slow.scan()
    assert scan["completion"]["status"] == "outstanding"
    assert scan["completion"]["lacking"]["airpi"] > COLUMNS
    assert slow.rig.last_image("airpi_phase")[1]["completion"] == "outstanding"
    slow.under_way(scan)
    wait_until((slow.folder / "yielded").exists, "its process yields to every other", 60.0)
    live, rest = slow.images(scan), slow.rig.last_image("ricom")
    assert slow.listed(scan, capsys)["completion"]["status"] == "outstanding"

    slow.go_on()
    document = slow.completion(scan)
    done = document["completion"]
    assert done["status"] == "done"
    assert done["images"] == list(NAMES)
    assert done["version"] == __version__
    (network,) = done["networks"].values()
    assert len(network["model_sha256"]) == 64
    whole = slow.images(scan)
    assert whole == slow.processed(scan, tmp_path / "again")
    assert whole != live
    wait_until(
        lambda: slow.rig.last_image("airpi_phase")[1]["completion"] == "done", "it is published"
    )
    image, about = slow.rig.last_image("airpi_phase")
    assert image.tobytes() == whole["airpi_phase"]
    assert about["final"]
    assert about["scan"] == scan["id"]
    assert about["groups"] == LINES * COLUMNS
    assert slow.rig.last_image("ricom")[1] == rest[1], "no other image is published again"
    written = slow.written(scan)
    assert written["completion"] == done
    assert {file["name"] for file in written["files"]} == {f["name"] for f in scan["files"]}
    assert slow.listed(scan, capsys)["completion"]["status"] == "done"
    assert main(["scans", "verify", "--data-dir", str(slow.rig.data)]) == 0
    slow.rig.until_state(lambda s: s["completing"] is None, "nothing is being completed")
    slow.rig.check_messages()

    # what the live engine still has of the image does not come back
    assert slow.rig.order("save")["ok"]
    reply = slow.rig.order("recompute", write=True, settings={"ricom": {"kernel_size": 3}})
    assert "ricom" in reply["images"]
    assert not set(NAMES) & set(reply["images"])
    assert slow.images(scan) == whole
    assert slow.written(scan)["completion"] == done


def test_a_killed_daemon_s_completion_is_taken_up_by_the_next_one(
    make_slow: Callable[..., SlowRig], tmp_path: Path
) -> None:
    slow = make_slow()
    slow.hold()
    slow.rig.start()
    scan = slow.scan()
    child = slow.under_way(scan)
    live = slow.images(scan)
    slow.rig.daemon.process.kill()
    wait_until(lambda: not child.is_running(), "its process ends too")
    assert slow.images(scan) == live
    assert slow.written(scan)["completion"]["status"] == "outstanding"
    slow.go_on()
    slow.rig.start()
    assert slow.completion(scan)["completion"]["status"] == "done"
    assert slow.images(scan) == slow.processed(scan, tmp_path / "again")


def test_a_daemon_that_is_stopped_waits_for_no_completion(
    make_slow: Callable[..., SlowRig], tmp_path: Path
) -> None:
    slow = make_slow()
    slow.hold()
    slow.rig.start()
    first = slow.scan()
    child = slow.under_way(first)
    second = slow.scan()
    assert slow.rig.daemon.stop(signal.SIGTERM, timeout_s=20.0) == 0
    assert not child.is_running()
    assert not list(slow.rig.folder_of(first).glob("*.tmp"))
    slow.go_on()
    slow.rig.start()
    for scan in (first, second):
        assert slow.completion(scan)["completion"]["status"] == "done"
        assert slow.images(scan) == slow.processed(scan, tmp_path / scan["id"])
    order = [document["id"] for document in slow.rig.events("completion")]
    assert order == [second["id"], first["id"]], "the newest first"
    wait_until(lambda: slow.rig.state()["completions_waiting"] == 0, "nothing waits")
    assert slow.rig.last_image("airpi_phase")[1]["scan"] == second["id"]


def test_a_record_that_cannot_be_read_is_one_error_and_the_live_image_stays(
    make_slow: Callable[..., SlowRig],
) -> None:
    slow = make_slow()
    slow.hold()
    slow.rig.start()
    scan = slow.scan()
    slow.under_way(scan)
    live = slow.images(scan)
    slow.rig.daemon.process.kill()
    (slow.rig.folder_of(scan) / "raw.mib").write_bytes(b"not a record")
    slow.go_on()
    slow.rig.start()
    failed = slow.completion(scan)["completion"]
    assert failed["status"] == "failed"
    wait_until(lambda: slow.told("completion"), "the error is told")
    (told,) = slow.told("completion")
    assert told["level"] == "error"
    assert scan["id"] in told["message"]
    assert told["message"] == failed["message"]
    assert slow.images(scan) == live
    slow.rig.check_messages()
    slow.rig.daemon.process.kill()
    slow.rig.start()
    wait_until(lambda: slow.rig.state()["state"] == "waiting", "the daemon is at rest")
    assert slow.scan()["status"] == "complete"
    assert len(slow.told("completion")) == 1, "it is not tried again and again"


@pytest.mark.parametrize("off", [{"raw": "false"}, {"complete": "false"}])
def test_without_a_record_or_when_it_is_not_wanted_a_notice_names_the_remedy(
    make_slow: Callable[..., SlowRig], off: dict[str, str]
) -> None:
    slow = make_slow(**off)
    slow.rig.start()
    scan = slow.scan()
    assert scan["completion"] is None
    assert "completion" not in slow.rig.last_image("airpi_phase")[1]
    assert "stemd process" in slow.told("airpi_coarser")[-1]["remedy"]
    assert slow.rig.state()["completing"] is None
    assert not slow.processes()


def test_a_network_that_keeps_up_leaves_nothing_to_complete_but_for_another_lens(
    make_slow: Callable[..., SlowRig],
) -> None:
    slow = make_slow()
    slow.rig.start()
    slow.rig.order("start")
    (scan,) = slow.rig.finished()
    assert scan["completion"] is None
    assert slow.rig.state()["completions_waiting"] == 0
    before = slow.images(scan)
    optics = {"defocus_nm": 6.0}
    reply = slow.rig.order("recompute", write=True, settings={"optics": optics})
    assert not set(NAMES) & set(reply["images"])
    done = slow.completion(scan)["completion"]
    assert done["status"] == "done"
    assert done["lacking"] == {"airpi": scan["positions_done"]}
    assert done["optics"]["defocus_nm"] == 6.0
    assert slow.images(scan)["airpi_phase"] != before["airpi_phase"]
    written = slow.written(scan)
    assert written["optics"]["defocus_nm"] == scan["optics"]["defocus_nm"]
    assert written["completion"] == done
    slow.rig.check_messages()
    # nothing is made twice: the optics are those of the images
    assert slow.rig.order("recompute", write=True)["ok"]
    assert slow.written(scan)["completion"] == done
