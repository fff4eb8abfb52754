"""A daemon that is killed, doubled, starved of file handles, or given another time of day."""

from __future__ import annotations

import io
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import tifffile

from benchmarks.shutdown import STATES, run
from stemd.daemon.systemd import notify
from tests.conftest import wait_until
from tests.daemon.rig import CONFIG, POSITIONS, Rig
from tests.daemon.running import RunningDaemon
from tests.faults import short_periods
from tests.faults.conftest import Row, same

pytestmark = pytest.mark.mosquitto

Rows = Callable[[str], Row]


def test_what_a_killed_daemon_had_received_is_on_disk_and_the_next_start_says_so(
    make_rig: Callable[..., Rig], row: Rows
) -> None:
    line = row("SIGKILL in mid-scan")
    rig = make_rig()
    rig.start()
    rig.camera.begin()
    rig.camera.more(rig.camera.frames[:20])
    rig.until_state(lambda s: s["state"] == "acquiring" and s["positions_done"] == 20, "20 came")
    rig.daemon.stop(signal.SIGKILL)
    rig.start()

    def mended() -> bool:
        return [s["status"] for s in rig.daemon.scans()] == ["aborted"]

    wait_until(mended, "the next start mends the scan", 30.0)
    (document,) = rig.daemon.scans()
    assert (document["positions_done"], document["missing"]) == (20, POSITIONS - 20)
    same(rig, document, rig.camera.frames[:20])
    assert any("died" in note for note in document["notes"])
    line.said = document["notes"][-1]
    listed = subprocess.run(
        [sys.executable, "-m", "stemd", "scans", "verify", "--data-dir", str(rig.data)],
        capture_output=True,
        text=True,
    )
    assert listed.returncode == 0, listed.stdout
    whole = line.heal(rig)
    line.count(rig, document, whole)


def test_a_scan_killed_between_its_last_frame_and_its_images_gets_them_at_the_next_start(
    make_rig: Callable[..., Rig], row: Rows
) -> None:
    line = row("SIGKILL before the images of a whole record")
    rig = make_rig()
    rig.start()
    rig.camera.begin()
    rig.camera.more(rig.camera.frames[:20])
    rig.until_state(lambda s: s["state"] == "acquiring" and s["positions_done"] == 20, "20 came")
    (begun,) = rig.data.glob("*/*/scan.json")
    acquiring = begun.read_bytes()
    rig.camera.more(rig.camera.frames[20:])
    rig.finished(1)
    rig.daemon.stop(signal.SIGKILL)
    images = {path.name: path.read_bytes() for path in begun.parent.glob("*.tif")}
    assert {"ricom.tif", "com_y.tif", "bf.tif"} <= set(images)
    # the moment before: a whole record under its first name, no image but half a file
    for name in images:
        (begun.parent / name).unlink()
    (begun.parent / "ricom.tif.tmp").write_bytes(b"half")
    (begun.parent / "raw.mib").rename(begun.parent / "raw.mib.part")
    begun.write_bytes(acquiring)
    rig.start()

    def made() -> bool:
        return [(d["completion"] or {}).get("status") for d in rig.daemon.scans()] == ["done"]

    wait_until(made, "its images are made from the record", 60.0)
    (document,) = rig.daemon.scans()
    assert document["status"] == "complete"
    again = {path.name: tifffile.imread(path).tobytes() for path in begun.parent.glob("*.tif")}
    assert again == {name: _pixels(content) for name, content in images.items()}
    assert set(images) <= {file["name"] for file in document["files"]}
    line.said = document["notes"][-1]
    line.count(rig, document, line.heal(rig))


def _pixels(content: bytes) -> bytes:
    return tifffile.imread(io.BytesIO(content)).tobytes()


def test_a_second_daemon_of_the_instrument_is_refused_and_the_first_goes_on(
    rig: Rig, row: Rows
) -> None:
    line = row("two daemons on one instrument")
    rig.camera.begin()
    rig.camera.more(rig.camera.frames[:20])
    rig.until_state(lambda s: s["positions_done"] == 20, "20 came")
    config = rig.daemon.config
    second = subprocess.run(
        [sys.executable, "-m", "stemd", "run", str(config)], capture_output=True, text=True
    )
    assert second.returncode == 1
    assert f"process {rig.daemon.process.pid}" in second.stderr
    line.said = second.stderr.strip().splitlines()[-2]
    rig.camera.more(rig.camera.frames[20:])
    document = rig.finished()[0]
    assert document["status"] == "complete"
    same(rig, document, rig.camera.frames)
    line.heal(rig)
    line.count(rig)


def test_without_file_handles_images_go_on_and_everything_is_kept_when_there_are_some(
    rig: Rig, row: Rows
) -> None:
    line = row("out of file handles")
    pid = rig.daemon.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (psutil.Process(pid).num_fds(), before[1]))
    try:
        rig.camera.scan()
        document = rig.finished()[0]
        assert (document["status"], document["positions_done"]) == ("not recorded", POSITIONS)
        assert document["not_written"]
        line.wrong(rig, "disk", "too many open files")
        line.remember_memory(rig)
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    path = rig.data / document["started"][:10] / document["id"] / "scan.json"
    wait_until(path.exists, "what was owed is written", 30.0)
    line.heal(rig)
    line.count(rig)
    assert rig.daemon.process.poll() is None


def test_a_manager_that_does_not_read_its_notifications_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        sent = [notify("WATCHDOG=1") for _ in range(2000)]
        assert sent[0]
        assert not sent[-1]
        assert not notify("STOPPING=1")
        manager.recv(100)
        assert notify("STOPPING=1")


def test_the_daemon_ends_soon_in_every_state() -> None:
    report = run(len(STATES), seed=random.SystemRandom().randrange(1 << 30))
    assert report["failed"] == []


def test_a_soak_of_some_scans_misses_nothing() -> None:
    out = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", "--scans", "30", "--faults", "15"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    report = json.loads(out.stdout)
    assert (report["missing"], report["short_or_changed"]) == ([], [])
    assert (out.returncode, report["scans_sent"]) == (0, 30)


CLOCK = """
import os, sys, time
steps = {path!r}
real, real_ns = time.time, time.time_ns
def step():
    try:
        return float(open(steps).read() or 0)
    except OSError:
        return 0.0
time.time = lambda: real() + step()
time.time_ns = lambda: real_ns() + int(step() * 1e9)
{often}
from stemd.cli.main import main
sys.exit(main(["run", {config!r}]))
"""


class SteppedDaemon(RunningDaemon):
    """A daemon whose time of day is that of the machine plus what stands in a file."""

    def __init__(self, folder: Path, text: str, steps: Path) -> None:
        super().__init__(folder, text)
        super().stop(signal.SIGKILL)
        program = CLOCK.format(path=str(steps), config=str(self.config), often=short_periods.SITE)
        self.process = subprocess.Popen(
            [sys.executable, "-c", program], stderr=self.log, stdout=self.log
        )


@pytest.mark.parametrize("seconds", [-7200.0, 400 * 86400.0], ids=["back", "forward"])
def test_a_step_of_the_clock_in_mid_scan_loses_nothing_and_deletes_nothing(
    make_rig: Callable[..., Rig], row: Rows, tmp_path: Path, seconds: float
) -> None:
    line = row(f"clock stepped by {seconds / 3600:+.0f} h in mid-scan")
    steps = tmp_path / "steps"
    rig = make_rig(daemon='retention = { max_age_days = 30, delete = "scan" }')
    rig.daemons.append(SteppedDaemon(rig.folder, CONFIG.format(**rig.options), steps))
    rig.until_state(lambda s: s.get("camera_connected"), "the camera is found")
    first = line.heal(rig)
    rig.camera.begin()
    rig.camera.more(rig.camera.frames[:20])
    rig.until_state(lambda s: s["state"] == "acquiring" and s["positions_done"] == 20, "20 came")
    steps.write_text(str(seconds))
    rig.camera.more(rig.camera.frames[20:])
    second = rig.finished(2)[-1]
    assert second["status"] == "complete"
    same(rig, second, rig.camera.frames)
    rig.camera.scan()
    third = rig.finished(3)[-1]
    same(rig, third, rig.camera.frames)
    os.kill(rig.daemon.process.pid, signal.SIGHUP)
    health = len(rig.client.on("stemd/rig/daemon/health"))
    wait_until(
        lambda: len(rig.client.on("stemd/rig/daemon/health")) > health + 1, "it lives on", 30.0
    )
    for scan in (first, second, third):
        assert rig.folder_of(scan).is_dir()
    assert len({scan["id"] for scan in (first, second, third)}) == 3
    rig.until_state(lambda s: s["state"] == "waiting" and s["last_error"] is None, "all is well")
    line.healed = "yes"
    line.count(rig)


SLOW = """
import os, sys, time
real = os.write
def slow(fd, data):
    time.sleep({seconds})
    return real(fd, bytes(data)[:{most}])
os.write = slow
from stemd.cli.main import main
sys.exit(main(["run", {config!r}]))
"""


def test_a_slow_disk_delays_the_record_and_loses_nothing(
    make_rig: Callable[..., Rig], row: Rows
) -> None:
    line = row("disk slow, 0.1 s for each 256 KiB")
    rig = make_rig()
    daemon = RunningDaemon(rig.folder, CONFIG.format(**rig.options))
    daemon.stop(signal.SIGKILL)
    program = SLOW.format(seconds=0.1, most=256 * 1024, config=str(daemon.config))
    daemon.process = subprocess.Popen(
        [sys.executable, "-c", program], stderr=daemon.log, stdout=daemon.log
    )
    rig.daemons.append(daemon)
    rig.until_state(lambda s: s.get("camera_connected"), "the camera is found")
    scans = []
    for count in (1, 2, 3):
        rig.camera.scan()
        scans.append(rig.finished(count)[-1])
    for scan in scans:
        assert scan["status"] == "complete"
        same(rig, scan, rig.camera.frames)
    rig.until_state(lambda s: s["state"] == "waiting" and s["last_error"] is None, "all is well")
    line.healed = "yes"
    line.count(rig)
    line.remember_memory(rig)
