"""Disks that are full, read-only or gone, for real: a small tmpfs under the data folder."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stemd.storage.verify import verify
from tests.conftest import wait_until
from tests.daemon.rig import BASE, POSITIONS, Rig
from tests.faults.conftest import Row, same

pytestmark = pytest.mark.mosquitto

Rows = Callable[[str], Row]


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def unmount(path: Path) -> None:
    subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB where the rig keeps its data; the disk itself lies at `disk`."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    place, data = tmp_path / "disk", tmp_path / "data"
    place.mkdir()
    data.mkdir()
    tried = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "stemd-test", str(place)])
    if tried.returncode != 0:
        pytest.skip("this machine lets nobody mount")
    mount("--bind", place, data)
    yield data
    while str(data) in Path("/proc/mounts").read_text():
        unmount(data)
    unmount(place)


def images(rig: Rig, document: dict[str, Any]) -> None:
    """The scan's final image has been published, whatever became of the disk."""

    def published() -> bool:
        payloads = [bytes(m.payload) for m in rig.client.on(f"{BASE}/image/ricom/last")]
        return any(document["id"].encode() in payload for payload in payloads)

    wait_until(published, "the final image was published", 30.0)


def not_recorded(document: dict[str, Any]) -> None:
    """Every frame came, and the document says that the disk has not all of it, and what."""
    assert (document["status"], document["positions_done"]) == ("not recorded", POSITIONS)
    assert any(text.startswith(("raw.mib", "scan.json")) for text in document["not_written"])


def entered(rig: Rig, document: dict[str, Any]) -> None:
    """Its document is in the folder, and in the catalogue."""
    path = rig.data / document["started"][:10] / document["id"] / "scan.json"
    wait_until(path.exists, "scan.json has been written after all", 30.0)

    def whole() -> bool:
        return '"acquiring"' not in path.read_text()

    wait_until(whole, "scan.json says how the scan ended", 30.0)


def test_a_disk_that_fills_up_stops_the_record_and_leaves_room_for_images(
    disk: Path, make_rig: Callable[..., Rig], row: Rows
) -> None:
    line = row("disk nearly full: 3 MB are left")
    rig = make_rig(reserve=2)
    rig.start()
    line.heal(rig)
    filler = disk / "filler"
    free = os.statvfs(disk).f_bavail * 4096
    filler.write_bytes(b"x" * (free - 3_000_000))
    rig.camera.scan()
    document = rig.finished(2)[-1]
    not_recorded(document)
    line.wrong(rig, "disk", "recording has stopped")
    images(rig, document)
    entered(rig, document)
    assert (rig.folder_of(document) / "ricom.tif").is_file()
    for file in document["files"]:
        if file["name"] == "raw.mib":
            assert file["complete"] is False
            sent = b"".join(rig.camera.frames)
            assert sent.startswith(rig.record(document))
    filler.unlink()
    line.heal(rig)
    line.count(rig)
    line.remember_memory(rig)


def test_what_a_full_disk_could_not_take_is_written_when_there_is_room(
    disk: Path, make_rig: Callable[..., Rig], row: Rows
) -> None:
    line = row("disk full to the last byte")
    rig = make_rig(reserve=0)
    rig.start()
    line.heal(rig)
    with (disk / "filler").open("wb", buffering=0) as filler:
        try:
            while filler.write(b"x" * 65536):
                pass
        except OSError:
            pass
        while True:
            try:
                if not filler.write(b"x"):
                    break
            except OSError:
                break
    rig.camera.scan()
    rig.camera.scan()
    documents = rig.finished(3)[1:]
    for document in documents:
        not_recorded(document)
        images(rig, document)
    line.wrong(rig, "disk", "no space left")
    (disk / "filler").unlink()
    for document in documents:
        entered(rig, document)
    line.heal(rig)
    line.count(rig)
    line.remember_memory(rig)


def test_a_disk_that_becomes_read_only_and_writable_again(
    disk: Path, make_rig: Callable[..., Rig], row: Rows
) -> None:
    line = row("disk becomes read-only")
    rig = make_rig()
    rig.start()
    line.heal(rig)
    mount("--bind", disk, disk)
    mount("-o", "remount,bind,ro", disk)
    rig.camera.scan()
    document = rig.finished(2)[-1]
    not_recorded(document)
    images(rig, document)
    line.wrong(rig, "disk", "read-only")
    unmount(disk)
    entered(rig, document)
    line.heal(rig)
    line.count(rig)


def test_a_disk_that_is_removed_is_missed_and_used_again_when_it_is_back(
    disk: Path, make_rig: Callable[..., Rig], row: Rows
) -> None:
    line = row("disk removed in mid-scan and put back")
    rig = make_rig()
    rig.start()
    whole = line.heal(rig)
    rig.camera.begin()
    rig.camera.more(rig.camera.frames[:20])
    rig.until_state(lambda s: s["positions_done"] == 20, "20 came")
    unmount(disk)
    rig.camera.more(rig.camera.frames[20:])
    cut = rig.finished(2)[-1]
    rig.camera.scan()
    without = rig.finished(3)[-1]
    for document in (cut, without):
        not_recorded(document)
        images(rig, document)
    line.wrong(rig, "disk", "the disk of the data folder is gone")
    assert list(disk.iterdir()) == [], "the empty folder below was written to"
    mount("--bind", disk.with_name("disk"), disk)
    for document in (cut, without):
        entered(rig, document)
    same(rig, whole, rig.camera.frames)
    line.heal(rig)
    rig.daemon.stop()
    for folder in rig.daemon.folders():
        problems = verify(folder)
        if folder.name in (cut["id"], without["id"]):
            assert problems
            assert all(problem.startswith("was not written") for problem in problems)
        else:
            assert problems == []
    assert rig.record(cut) == b"".join(rig.camera.frames), "it was on the disk that was removed"
    line.count(rig)
