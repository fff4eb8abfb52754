"""A data folder that was away when a scan ended: the scan is ended when it is back."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stemd.config.tables import RetentionTable
from stemd.storage import unended
from stemd.storage.disk_watch import DiskWatch
from stemd.storage.folder import ScanFolder, ScanSummary, scan_document
from stemd.storage.store import Store
from stemd.storage.unended import end_unended
from tests.conftest import an_acquisition


class Scene:
    """One scan of a store that was begun in `data` and of which a part is in its record."""

    def __init__(self, tmp_path: Path) -> None:
        self.data, self.away = tmp_path / "data", tmp_path / "away"
        self.store = Store(self.data, "scope", reserve_bytes=0)
        acquisition = an_acquisition()
        self.id = acquisition.id
        self.folder = ScanFolder.of_scan(self.store.data_dir, acquisition, "cam", "scope")
        self.store.begun(self.id)
        self.folder.create()
        self.store.catalogue.begin(acquisition, "cam", "scope", self.folder.path)
        (self.folder.path / "raw.mib.part").write_bytes(b"frames")
        self.watch = DiskWatch(self.store, RetentionTable())
        self.watch.look()

    def end(self, *, written: bool = True) -> None:
        """The scan ends; its document is written to where the folder was, or waits."""
        summary = ScanSummary("complete", np.ones(54, np.bool_), finished_ns=1)
        document = scan_document(self.folder.acquisition, "cam", "scope", summary, ())
        if written:
            self.store.write_later(self.folder.path, document)
            assert self.store.write_waiting() == 1
            assert self.store.rows.settled(10.0)
        self.store.ended(self.id)

    def come_back(self) -> None:
        """The data folder is where it was; what was made in its place is gone."""
        if self.data.exists():
            shutil.rmtree(self.data)
        self.away.rename(self.data)

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder.path / "scan.json").read_text())
        return found

    def is_ended(self) -> None:
        document, row = self.document, self.store.catalogue.get(self.id)
        assert row is not None
        assert (document["status"], row["status"]) == ("aborted", "aborted")
        assert document["finished_ns"] > document["started_ns"]
        assert "interrupted" in document["notes"][0]
        assert [file["name"] for file in document["files"]] == ["raw.mib"]
        assert not list(self.folder.path.glob("*.part"))


def restarted(scene: Scene) -> None:
    scene.store.close()
    scene.store = Store(scene.data, "scope", reserve_bytes=0)
    assert end_unended(scene.store) == [scene.id]


def looked_at(scene: Scene) -> None:
    for _ in range(3):
        scene.watch.look()


@pytest.mark.parametrize("healed", [restarted, looked_at])
def test_a_scan_that_ended_while_the_data_folder_was_moved_away_is_ended_when_it_is_back(
    tmp_path: Path, healed: Callable[[Scene], None]
) -> None:
    scene = Scene(tmp_path)
    scene.data.rename(scene.away)
    scene.end()
    scene.come_back()
    assert scene.document["status"] == "acquiring"
    healed(scene)
    scene.is_ended()
    assert end_unended(scene.store) == []


def test_a_scan_whose_end_no_disk_took_before_the_daemon_was_killed_is_ended_at_the_start(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path)
    told = {**scene.document, "status": "not recorded", "finished_ns": 5, "finished": "then"}
    scene.store.enter(told, scene.folder.path)
    assert scene.store.rows.settled(10.0)
    scene.end(written=False)
    restarted(scene)
    scene.is_ended()


def test_a_day_whose_scans_have_ended_is_read_again_only_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path)
    scene.end()
    read: list[str] = []
    real = unended._says_ended

    def seen(folder: Path) -> bool | None:
        read.append(folder.name)
        return real(folder)

    monkeypatch.setattr(unended, "_says_ended", seen)
    day, folder = scene.folder.path.parent, scene.folder.path
    later = iter(range(10_000_000_000, 100_000_000_000, 10_000_000_000))

    def looked() -> list[str]:
        read.clear()
        assert end_unended(scene.store) == []
        return list(read)

    def settled() -> None:
        changed = next(later)
        os.utime(day, ns=(changed, changed))

    assert looked() == [scene.id], "it was changed just now: another scan may come unseen"
    assert looked() == [scene.id]
    settled()
    assert looked() == [scene.id]
    assert looked() == []
    (day / "20991231T000000000Z-ffff").mkdir()
    assert len(looked()) == 2
    settled()
    assert len(looked()) == 2
    assert len(looked()) == 2, "a scan without scan.json may get one"
    (day / "20991231T000000000Z-ffff").rmdir()
    settled()
    looked()
    assert looked() == []
    document = {**scene.document, "status": "acquiring", "instrument": "another"}
    (folder / "scan.json").write_text(json.dumps(document))
    settled()
    assert looked() == [scene.id]
    assert looked() == [scene.id], "a scan of another instrument runs"
    (folder / "scan.json").write_text(json.dumps({**document, "instrument": "scope"}))
    assert end_unended(scene.store) == [scene.id]
    (scene.data / "state" / "ended-scope.json").write_text('{"days": [1]}')
    assert looked() == [scene.id]
    scene.store.close()


def test_scans_that_run_that_wait_for_the_disk_or_are_of_others_are_left_alone(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path)
    scene.data.rename(scene.away)
    scene.store.catalogue.known()  # the catalogue notices: another one is begun
    scene.come_back()
    looked_at(scene)
    assert scene.document["status"] == "acquiring"
    assert scene.store.catalogue.get(scene.id)["status"] == "acquiring"  # type: ignore[index]
    assert (scene.folder.path / "raw.mib.part").exists()
    scene.store.ended(scene.id)
    scene.store.write_later(scene.folder.path, scene.document)
    assert end_unended(scene.store) == []
    scene.store.write_waiting()
    other = Store(scene.data, "another", reserve_bytes=0)
    assert end_unended(other) == []
    other.close()
    os.truncate(scene.folder.path / "scan.json", 400)
    assert end_unended(scene.store) == []
    scene.store.close()
