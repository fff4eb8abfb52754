"""Disks that report faults, hang or are slow, and catalogues that are held or damaged."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stemd.storage.verify import verify
from tests.conftest import wait_until
from tests.daemon.rig import POSITIONS, Rig
from tests.faults.conftest import Row, same
from tests.faults.failing_disk import FailingDisk, build

pytestmark = pytest.mark.mosquitto

Rows = Callable[[str], Row]


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes a disk fail."""
    return build(tmp_path_factory.mktemp("shim"))


def disk_of(rig: Rig, shim: Path, name: str) -> FailingDisk:
    """The faults of a daemon's disk, for files whose path has this in it."""
    disk = FailingDisk(shim, rig.folder / "fault", name)
    rig.environment |= disk.environment
    return disk


def row_of(rig: Rig, document: dict[str, Any]) -> dict[str, Any]:
    """The scan's row, as `stemd scans show` tells it."""
    command = ["-m", "stemd", "scans", "show", document["id"], "--json", "--data-dir"]
    shown = subprocess.run(
        [sys.executable, *command, str(rig.data)], capture_output=True, text=True, check=True
    )
    return dict(json.loads(shown.stdout))


@pytest.mark.parametrize("fault", ["eio write", "eio fsync"])
def test_a_record_that_the_disk_refuses_is_told_everywhere_and_found_by_verify(
    make_rig: Callable[..., Rig], row: Rows, shim: Path, fault: str
) -> None:
    line = row(f"disk reports a fault: {fault} of the record")
    rig = make_rig()
    disk = disk_of(rig, shim, "raw.mib")
    rig.start()
    line.heal(rig)
    disk.set(fault)
    rig.camera.scan()
    document = rig.finished(2)[-1]
    assert (document["status"], document["positions_done"]) == ("not recorded", POSITIONS)
    assert "raw.mib" in document["not_written"][0]
    line.wrong(rig, "disk", "input/output error")
    entry = row_of(rig, document)
    assert (entry["status"], entry["not_written"]) == ("not recorded", document["not_written"])
    folder = rig.folder_of(document)
    assert not list(folder.glob("*.part"))
    assert any("raw.mib" in problem for problem in verify(folder))
    disk.set("")
    line.heal(rig)
    line.count(rig)


def test_an_fsync_of_4_s_delays_no_frame(
    make_rig: Callable[..., Rig], row: Rows, shim: Path
) -> None:
    line = row("each fsync takes 4 s")
    rig = make_rig()
    disk = disk_of(rig, shim, "")
    rig.start()
    line.heal(rig)
    disk.set("slow fsync")
    began = time.monotonic()
    rig.camera.scan()
    rig.until_state(
        lambda s: s["positions_done"] == POSITIONS and s["state"] == "finishing", "all came"
    )
    passed = time.monotonic() - began
    line.notes.append(f"{passed:.2f} s")
    assert passed < 4.0
    began = time.monotonic()
    code = rig.daemon.stop(timeout_s=40.0)
    assert time.monotonic() - began < 40.0
    disk.set("")
    rig.start()
    wait_until(
        lambda: rig.daemon.scans()[-1]["status"] != "acquiring", "the next start mends it", 30.0
    )
    document = rig.daemon.scans()[-1]
    line.said = f"exit code {code}; " + " ".join(document["notes"])
    assert document["status"] == "complete"
    assert not any("died" in note for note in document["notes"])
    same(rig, document, rig.camera.frames)


def test_what_a_killed_daemon_had_all_frames_of_is_complete(
    make_rig: Callable[..., Rig], row: Rows, shim: Path
) -> None:
    line = row("SIGKILL after the last frame, before the end was written")
    rig = make_rig()
    disk = disk_of(rig, shim, "")
    rig.start()
    line.heal(rig)
    disk.set("slow fsync")
    rig.camera.scan()
    rig.until_state(lambda s: s["positions_done"] == POSITIONS and s["state"] == "finishing", "")
    part = "*/*/raw.mib.part"
    size = sum(map(len, rig.camera.frames))
    wait_until(lambda: any(p.stat().st_size == size for p in rig.data.glob(part)), "it is written")
    rig.daemon.stop(signal.SIGKILL)
    disk.set("")
    rig.start()
    wait_until(lambda: rig.daemon.scans()[-1]["status"] == "complete", "it is complete", 30.0)
    document = rig.daemon.scans()[-1]
    line.said = "; ".join(document["notes"])
    assert (document["positions_done"], document["missing"]) == (POSITIONS, 0)
    assert any("images are made from the record" in note for note in document["notes"])

    def made() -> bool:
        return (rig.daemon.scans()[-1]["completion"] or {}).get("status") == "done"

    wait_until(made, "its images are made from the record", 60.0)
    document = rig.daemon.scans()[-1]
    assert verify(rig.folder_of(document)) == []
    same(rig, document, rig.camera.frames)
    line.heal(rig)


def test_a_catalogue_that_somebody_holds_delays_no_scan_and_gets_its_rows_later(
    make_rig: Callable[..., Rig], row: Rows
) -> None:
    line = row("catalogue locked for 20 s, from the start on")
    rig = make_rig()
    rig.start()
    line.heal(rig)
    rig.daemon.stop()
    db = sqlite3.connect(rig.data / "catalogue.sqlite")
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute("BEGIN EXCLUSIVE")
    began = time.monotonic()
    rig.start()
    documents = []
    for count in range(2, 8):
        rig.camera.scan()
        documents.append(max(rig.finished(count), key=lambda d: d["started_ns"]))
    assert [d["status"] for d in documents] == ["complete"] * 6
    line.wrong(rig, "disk", "locked")
    time.sleep(max(0.0, began + 20 - time.monotonic()))
    db.rollback()
    db.close()

    def written() -> bool:
        try:
            return bool(row_of(rig, documents[-1])["status"] == "complete")
        except subprocess.CalledProcessError:  # there is no such row yet
            return False

    wait_until(written, "the rows are written", 30.0)
    line.heal(rig)
    line.count(rig)


def test_a_damaged_catalogue_is_moved_aside_and_made_again_from_the_folders(
    make_rig: Callable[..., Rig], row: Rows
) -> None:
    line = row("catalogue damaged: at the start, and while it is open")
    rig = make_rig()
    rig.start()
    first = line.heal(rig)
    rig.daemon.stop()
    for path in rig.data.glob("catalogue.sqlite*"):
        path.write_bytes(b"nonsense" * 1000)
    rig.start()
    second = line.heal(rig)
    for document in (first, second):
        wait_until(lambda d=document: row_of(rig, d)["status"] == "complete", "it is listed", 30.0)
    assert list(rig.data.glob("catalogue.damaged-*.sqlite"))
    line.said = "the catalogue was damaged: it is made again from the scans' folders"
    assert line.said in (rig.folder / "log.txt").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_data_folder_that_is_read_only_at_the_start_is_used_as_soon_as_it_is_not(
    make_rig: Callable[..., Rig], row: Rows
) -> None:
    line = row("data folder read-only at the start")
    rig = make_rig()
    data = rig.folder / "data"
    data.mkdir()
    subprocess.run(["mount", "--bind", str(data), str(data)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(data)], check=True)
        rig.start()
        rig.camera.scan()
        document = rig.finished(1)[-1]
        assert (document["status"], document["positions_done"]) == ("not recorded", POSITIONS)
        line.wrong(rig, "disk", "read-only")
        subprocess.run(["mount", "-o", "remount,bind,rw", str(data)], check=True)
        path = data / document["started"][:10] / document["id"] / "scan.json"
        wait_until(path.exists, "scan.json is written after all", 30.0)
        line.heal(rig)
        line.count(rig)
        rig.daemon.stop()
    finally:
        subprocess.run(["umount", "-l", str(data)], check=True)


def test_a_stop_that_leaves_documents_unwritten_names_the_scans_and_does_not_end_with_0(
    make_rig: Callable[..., Rig], row: Rows
) -> None:
    line = row("stopped while the disk is read-only")
    rig = make_rig()
    rig.start()
    line.heal(rig)
    subprocess.run(["mount", "--bind", str(rig.data), str(rig.data)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(rig.data)], check=True)
        rig.camera.scan()
        document = rig.finished(2)[-1]
        assert rig.daemon.stop(timeout_s=40.0) == 1
    finally:
        subprocess.run(["umount", "-l", str(rig.data)], check=True)
    said = (rig.folder / "log.txt").read_text().splitlines()
    assert any("not on the disk" in text and document["id"] in text for text in said)
    line.said = next(text for text in said if "not on the disk" in text)
