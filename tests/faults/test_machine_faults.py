"""A machine that fails below the daemon: its clock, its inodes, its descriptors."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import wait_until
from tests.daemon.rig import POSITIONS, Rig
from tests.faults import short_periods
from tests.faults.conftest import Row, same

pytestmark = [pytest.mark.mosquitto, pytest.mark.waits]

Rows = Callable[[str], Row]
AHEAD = "+400d"
LONG_AFTER = (datetime.now(UTC) + timedelta(days=200)).isoformat()
"""A time that the clock shows only while it is ahead."""
RETENTION = 'retention = { max_age_days = 30, delete = "scan" }'
HEALTH = "stemd/rig/daemon/health"


def faked_time(steps: Path) -> dict[str, str]:
    """The environment of a process whose time of day is changed by what stands in a file.

    The clocks that count from boot are not touched, as when somebody sets a real clock.
    """
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if shutil.which("faketime") is None or not found:
        pytest.skip("faketime is not installed (.ci/run installs it)")
    return {
        "LD_PRELOAD": str(found[0]),
        "FAKETIME_TIMESTAMP_FILE": str(steps),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        # for an old glibc: threads that wait for each other would ask for the time instead, again
        # and again, and a start take 16 s of a processor
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        "NO_FAKE_STAT": "1",
    }


def errors(rig: Rig, kind: str) -> list[dict[str, Any]]:
    """What is wrong of this kind now."""
    return [each for each in rig.state().get("errors", ()) if each["kind"] == kind]


def all_is_well(rig: Rig) -> bool:
    """Whether the newest health says that nothing is red."""
    heard = rig.client.on(HEALTH)
    return bool(heard) and not json.loads(heard[-1].payload)["red"]


def lives_on(rig: Rig) -> None:
    """Its health is published as before, and no task has failed."""
    count = len(rig.client.on(HEALTH))
    wait_until(lambda: len(rig.client.on(HEALTH)) > count + 1, "health is published", 30.0)


@pytest.fixture
def make_brisk(make_rig: Callable[..., Rig], tmp_path: Path) -> Callable[..., Rig]:
    """Makes rigs whose daemon publishes its health often."""
    often = short_periods.environment(tmp_path / "site")

    def make(**config: Any) -> Rig:
        rig = make_rig(**config)
        rig.environment |= often
        return rig

    return make


def test_retention_at_a_start_with_the_clock_400_days_ahead_deletes_nothing(
    make_brisk: Callable[..., Rig], row: Rows, tmp_path: Path
) -> None:
    line = row("started with the clock 400 days ahead")
    steps = tmp_path / "steps"
    steps.write_text("+0d")
    rig = make_brisk(daemon=RETENTION)
    rig.start()
    kept = [line.heal(rig), line.heal(rig)]
    rig.daemon.stop()
    rig.environment |= faked_time(steps)
    steps.write_text(AHEAD)
    rig.start()
    wait_until(lambda: errors(rig, "retention"), "retention says that it does nothing")
    (told,) = errors(rig, "retention")
    assert "computer's clock" in told["message"]
    assert "max_share" in told["remedy"]
    line.said = told["message"]
    rig.camera.scan()
    future = rig.finished(3)[-1]
    assert future["status"] == "complete"
    assert future["started"] > LONG_AFTER, "the clock is ahead indeed"
    lives_on(rig)
    for scan in kept:
        same(rig, scan, rig.camera.frames)
    rig.daemon.stop()
    steps.write_text("+0d")
    rig.start()
    wait_until(lambda: not errors(rig, "retention"), "the clock is right: nothing is wrong")
    line.heal(rig)
    for scan in (*kept, future):
        assert rig.folder_of(scan).is_dir()
    line.count(rig)


def test_a_clock_that_jumps_under_a_running_daemon_deletes_nothing_and_tears_no_scan(
    make_brisk: Callable[..., Rig], row: Rows, tmp_path: Path
) -> None:
    line = row("clock jumps by 400 days in mid-scan, and back")
    steps = tmp_path / "steps"
    steps.write_text("+0d")
    rig = make_brisk(daemon=RETENTION)
    rig.environment |= faked_time(steps)
    rig.start()
    scans = [line.heal(rig)]
    for jump in (AHEAD, "+0d"):
        rig.camera.begin()
        rig.camera.more(rig.camera.frames[:20])
        rig.until_state(lambda s: s["state"] == "acquiring" and s["positions_done"] == 20, "20")
        steps.write_text(jump)
        rig.camera.more(rig.camera.frames[20:])
        scans.append(rig.finished(len(scans) + 1)[-1])
        assert scans[-1]["status"] == "complete"
        lives_on(rig)
        told = json.loads(rig.client.on(HEALTH)[-1].payload)["time"]
        assert (told > LONG_AFTER) == (jump == AHEAD), "the daemon's clock has jumped indeed"
        rig.daemon.process.send_signal(signal.SIGHUP)
        lives_on(rig)
    for scan in scans:
        same(rig, scan, rig.camera.frames)
    assert len({scan["id"] for scan in scans}) == 3
    line.said = "; ".join(each["message"] for each in errors(rig, "retention")) or "nothing"
    line.heal(rig)
    line.count(rig)
    assert rig.daemon.process.poll() is None


@pytest.fixture
def few_inodes(tmp_path: Path) -> Iterator[Path]:
    """A disk on which 120 files can be made, where the rig keeps its data."""
    data = tmp_path / "data"
    data.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    options = "size=64m,nr_inodes=120"
    tried = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "stemd-test", str(data)])
    if tried.returncode != 0:
        pytest.skip("this machine lets nobody mount")
    yield data
    subprocess.run(["umount", "-l", str(data)], check=True)


def use_up(data: Path) -> list[Path]:
    """Files without a byte until no more can be made."""
    made = []
    try:
        for number in range(1000):
            (data / f"filler{number}").touch()
            made.append(data / f"filler{number}")
    except OSError:
        return made
    raise AssertionError("there is no end of inodes")


def test_a_disk_without_inodes_is_told_and_a_stop_names_what_it_owes(
    few_inodes: Path, make_rig: Callable[..., Rig], row: Rows
) -> None:
    line = row("disk has room, but no inode")
    rig = make_rig()
    rig.start()
    line.heal(rig)
    fillers = use_up(few_inodes)
    rig.camera.scan()
    first = rig.finished(2)[-1]
    assert (first["status"], first["positions_done"]) == ("not recorded", POSITIONS)
    assert first["not_written"]
    line.wrong(rig, "disk", "no space left")
    for filler in fillers:
        filler.unlink()
    path = rig.data / first["started"][:10] / first["id"] / "scan.json"
    wait_until(path.exists, "what was owed is written", 30.0)
    line.heal(rig)
    use_up(few_inodes)
    rig.camera.scan()
    second = rig.finished(4)[-1]
    assert second["status"] == "not recorded"
    assert rig.daemon.stop(timeout_s=40.0) == 1
    said = [
        text for text in (rig.folder / "log.txt").read_text().splitlines() if second["id"] in text
    ]
    assert any("not on the disk" in text for text in said), said
    line.count(rig)


def test_without_descriptors_health_goes_on_and_says_what_it_cannot_measure(
    make_brisk: Callable[..., Rig], row: Rows
) -> None:
    line = row("no descriptor is left: health cannot look at its own process")
    rig = make_brisk()
    rig.start()
    wait_until(lambda: all_is_well(rig), "health is green")
    pid = rig.daemon.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (psutil.Process(pid).num_fds(), before[1]))
    try:
        began = time.monotonic()
        lives_on(rig)
        line.notes.append(f"{time.monotonic() - began:.1f} s")
        rig.camera.scan()
        document = rig.finished()[0]
        assert (document["status"], document["positions_done"]) == ("not recorded", POSITIONS)
        line.wrong(rig, "disk", "too many open files")
        lives_on(rig)
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    told = json.loads(rig.client.on(HEALTH)[-1].payload)
    assert not [name for name in told["task_failures"] if name.startswith(("health", "watchdog"))]
    line.heal(rig)
    line.count(rig)
