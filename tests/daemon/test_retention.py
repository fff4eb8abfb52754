"""What the disk keeps: deletion only as configured, told each time; verification; locks."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import structlog.testing

from stemd.cli.main import main
from stemd.config.tables import RetentionTable
from stemd.errors import SinkError
from stemd.storage import retention
from stemd.storage.disk_watch import DiskWatch
from stemd.storage.files import write_atomic
from stemd.storage.folder import SCAN_FILE, ScanFolder, ScanSummary
from stemd.storage.intentions import IMAGES
from stemd.storage.recovery import enter_missing, finish_intentions
from stemd.storage.retention import retain
from stemd.storage.store import Store
from stemd.storage.verify import verify
from tests.conftest import a_snapshot, an_acquisition

DAY_NS = 86_400 * 10**9
NOW = 1_800_000_000 * 10**9


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "data", "titan")
    yield made
    made.close()


def keep_scan(store: Store, age_days: float, instrument: str = "titan") -> ScanFolder:
    """A finished scan with a record and an image, so many days before NOW."""
    acquisition = an_acquisition(started_ns=NOW - int(age_days * DAY_NS))
    folder = ScanFolder.of_scan(store.data_dir, acquisition, "cam", instrument)
    folder.create()
    store.catalogue.begin(acquisition, "cam", instrument, folder.path)
    folder.add(write_atomic(folder.path / "raw.mib", [b"x" * 1000]))
    folder.add(write_atomic(folder.path / "raw.hdr", [b"HDR,"]))
    snapshot = a_snapshot(acquisition, final=True)
    folder.write_results(snapshot)
    document = folder.write_summary(ScanSummary("complete", np.ones(54, np.bool_)))
    store.catalogue.end(acquisition.id, document)
    return folder


def names(folder: ScanFolder) -> set[str]:
    return {path.name for path in folder.path.iterdir()} if folder.path.is_dir() else set()


def test_the_default_deletes_nothing_however_old_it_is(store: Store) -> None:
    folder = keep_scan(store, 10_000)
    before = names(folder)
    assert retain(store, RetentionTable(), NOW).deleted == []
    assert names(folder) == before


def test_all_but_the_newest_scans_go_without_a_warning(store: Store) -> None:
    folders = [keep_scan(store, age) for age in (4, 3, 2, 1)]
    other = keep_scan(store, 9, instrument="other")
    table = RetentionTable(max_scans=2, delete="scan")
    with structlog.testing.capture_logs() as logs:
        deleted = retain(store, table, NOW).deleted
    assert deleted == [folder.acquisition.id for folder in folders[:2]]
    assert [bool(names(folder)) for folder in (*folders, other)] == [False, False, True, True, True]
    assert {entry["log_level"] for entry in logs} == {"info"}
    assert retain(store, table, NOW).deleted == []


def test_raw_records_of_all_but_the_newest_scans_go_and_their_images_stay(store: Store) -> None:
    old, young = keep_scan(store, 2), keep_scan(store, 1)
    retain(store, RetentionTable(max_scans=1), NOW)
    assert names(old) == {"ricom.tif", "raw.hdr", SCAN_FILE}
    assert "raw.mib" in names(young)


def test_a_scan_too_many_is_deleted_at_the_next_look_and_not_a_minute_later(store: Store) -> None:
    watch = DiskWatch(store, RetentionTable(max_scans=1, delete="scan", warn_free_gb=0.0))
    keep_scan(store, 3)
    watch.look()
    second = keep_scan(store, 2)
    watch.look()
    assert watch.deleted == 1
    assert names(second)


def test_by_age_the_raw_record_of_old_scans_goes_and_images_and_catalogue_stay(
    store: Store,
) -> None:
    old, young = keep_scan(store, 8), keep_scan(store, 6)
    with structlog.testing.capture_logs() as logs:
        deleted = retain(store, RetentionTable(max_age_days=7), NOW).deleted
    assert deleted == [old.acquisition.id]
    assert names(old) == {"ricom.tif", "raw.hdr", SCAN_FILE}
    assert names(young) == {"ricom.tif", "raw.hdr", "raw.mib", SCAN_FILE}
    entry = store.catalogue.get(old.acquisition.id)
    assert entry is not None
    assert (entry["deleted"]["what"], entry["deleted"]["bytes"]) == ("raw", 1000)
    assert "max_age_days" in entry["deleted"]["reason"]
    assert [(line["scan"], line["log_level"]) for line in logs] == [(deleted[0], "warning")]
    document = json.loads((old.path / SCAN_FILE).read_text())
    assert {file["name"] for file in document["files"]} == {"raw.hdr", "ricom.tif"}
    assert retain(store, RetentionTable(max_age_days=7), NOW).deleted == []


def test_images_that_another_packages_writer_has_written_stay_with_the_tiffs(store: Store) -> None:
    folder = keep_scan(store, 8)
    write_atomic(folder.path / "images.h5", [b"images"])
    write_atomic(folder.path / "raw_data_000001.h5", [b"frames"])
    retain(store, RetentionTable(max_age_days=7), NOW)
    assert names(folder) == {"ricom.tif", "images.h5", "raw.hdr", SCAN_FILE}


def test_whole_scans_go_when_that_is_configured_and_their_rows_say_so(store: Store) -> None:
    folder = keep_scan(store, 8)
    retain(store, RetentionTable(max_age_days=7, delete="scan"), NOW)
    assert not folder.path.exists()
    entry = store.catalogue.get(folder.acquisition.id)
    assert entry is not None
    assert (entry["status"], entry["deleted"]["what"]) == ("complete", "scan")


def test_for_free_space_the_oldest_goes_first_and_no_more_than_needed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [keep_scan(store, age) for age in (1, 5, 3)]

    def free() -> int:
        return 10**9 + sum("raw.mib" not in names(folder) for folder in folders) * 10**8

    monkeypatch.setattr(store, "free_bytes", free)
    deleted = retain(store, RetentionTable(min_free_gb=1.15), NOW).deleted
    assert deleted == [folders[1].acquisition.id, folders[2].acquisition.id]


def test_a_record_that_is_being_read_stays_until_it_is_released(store: Store) -> None:
    folder, other = keep_scan(store, 9), keep_scan(store, 8)
    ids = [folder.acquisition.id, other.acquisition.id]
    assert store.claim(ids[0])
    assert not store.claim(ids[0])
    assert retain(store, RetentionTable(max_age_days=7), NOW).deleted == [ids[1]]
    assert "raw.mib" in names(folder)
    store.release(ids[0])
    assert retain(store, RetentionTable(max_age_days=7), NOW).deleted == [ids[0]]
    assert "raw.mib" not in names(folder)


def test_running_scans_and_those_of_other_instruments_are_never_touched(store: Store) -> None:
    other = keep_scan(store, 100, instrument="themis")
    running = an_acquisition(started_ns=NOW - 100 * DAY_NS)
    folder = ScanFolder.of_scan(store.data_dir, running, "cam", "titan")
    folder.create()
    (folder.path / "raw.mib.part").write_bytes(b"x")
    store.catalogue.begin(running, "cam", "titan", folder.path)
    assert retain(store, RetentionTable(max_age_days=1, delete="scan"), NOW).deleted == []
    assert "raw.mib" in names(other)
    assert "raw.mib.part" in names(folder)


def test_a_folder_name_in_a_damaged_catalogue_cannot_lead_a_deletion_astray(
    store: Store, tmp_path: Path
) -> None:
    folder = keep_scan(store, 8)
    precious = tmp_path / "precious"
    precious.mkdir()
    store.catalogue.database.run(lambda db: db.execute("UPDATE scans SET folder = '../precious'"))
    done = retain(store, RetentionTable(max_age_days=7, delete="scan"), NOW)
    assert "not a scan's folder" in done.problems[folder.acquisition.id]
    assert precious.is_dir()
    assert "raw.mib" in names(folder)


def test_verify_finds_a_changed_a_shortened_and_a_missing_file_and_nothing_else(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, changed, short, missing = (keep_scan(store, age) for age in (1, 2, 3, 4))
    where = ["--data-dir", str(store.data_dir), "--json"]
    assert main(["scans", "verify", *where]) == 0
    capsys.readouterr()
    (changed.path / "raw.mib").write_bytes(b"x" * 999 + b"y")
    os.truncate(short.path / "raw.mib", 500)
    (missing.path / "ricom.tif").unlink()
    assert main(["scans", "verify", *where]) == 1
    reports = {report["id"]: report["problems"] for report in json.loads(capsys.readouterr().out)}
    assert reports[good.acquisition.id] == []
    assert "checksum" in reports[changed.acquisition.id][0]
    assert "500 bytes, 1000" in reports[short.acquisition.id][0]
    assert "ricom.tif: is missing" in reports[missing.acquisition.id]
    assert main(["scans", "verify", good.acquisition.id, *where]) == 0


def test_a_second_daemon_of_the_instrument_is_kept_out_of_the_data_folder_and_told_who_is_in_it(
    store: Store,
) -> None:
    with pytest.raises(SinkError, match=f"process {os.getpid()}"):
        Store(store.data_dir, "titan")
    Store(store.data_dir, "themis").close()


def test_the_lock_of_a_killed_daemon_holds_nobody_up(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from stemd.storage.store import Store;"
        f"s = Store(Path({str(tmp_path)!r}), 'titan'); print('locked', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(SinkError, match="another stemd"):
            Store(tmp_path, "titan")
        holder.kill()
    Store(tmp_path, "titan").close()


def test_scans_that_the_catalogue_does_not_know_are_entered_from_their_folders(
    store: Store,
) -> None:
    folder = keep_scan(store, 1)
    store.close()
    for path in store.data_dir.glob("catalogue.sqlite*"):
        path.unlink()
    again = Store(store.data_dir, "titan")
    assert enter_missing(again.catalogue, "titan", NOW) == [folder.acquisition.id]
    entry = again.catalogue.get(folder.acquisition.id)
    assert entry is not None
    assert (entry["status"], entry["results"]) == ("complete", ["ricom"])
    assert enter_missing(again.catalogue, "titan", NOW) == []
    again.close()


def test_what_a_disk_did_not_take_is_written_when_it_does(store: Store) -> None:
    folder = keep_scan(store, 1)
    document = json.loads((folder.path / SCAN_FILE).read_text())
    document |= {"id": "20260101T000000000Z-abcd"}
    lost = store.data_dir / "2026-01-01" / document["id"]
    lost.parent.write_text("a file where a folder is needed")
    store.write_later(lost, document)
    assert store.write_waiting() == 0
    lost.parent.unlink()
    assert store.write_waiting() == 1
    assert store.waiting == 0
    assert json.loads((lost / SCAN_FILE).read_text()) == document
    assert store.rows.settled(10.0)
    assert store.catalogue.get(document["id"]) is not None


def test_a_removed_data_folder_is_made_again_and_the_catalogue_with_it(store: Store) -> None:
    keep_scan(store, 1)
    watch = DiskWatch(store, RetentionTable(warn_free_gb=0))
    assert watch.look() == []
    for path in sorted(store.data_dir.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    store.data_dir.rmdir()
    assert watch.look() == []
    folder = keep_scan(store, 0)
    assert [scan["id"] for scan in store.catalogue.list()] == [folder.acquisition.id]


def test_low_space_is_told_once_and_again_when_it_is_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [5 * 10**9]
    monkeypatch.setattr(store, "free_bytes", lambda: free[0])
    watch = DiskWatch(store, RetentionTable(warn_free_gb=3))
    assert watch.look() == []
    free[0] = 2 * 10**9
    assert watch.look() == ["low"]
    assert watch.look() == []
    assert "2.00 GB are free" in watch.warning[0]
    assert watch.document()["low"] is True
    free[0] = 4 * 10**9
    assert watch.look() == ["enough"]


def test_a_disk_that_runs_short_between_two_rounds_is_cleared_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [5 * 10**9]
    monkeypatch.setattr(store, "free_bytes", lambda: free[0])
    watch = DiskWatch(store, RetentionTable(min_free_gb=3, warn_free_gb=0))
    watch.look()
    oldest = keep_scan(store, 3)
    watch.look()
    assert "raw.mib" in names(oldest)
    free[0] = 2 * 10**9
    watch.look()
    assert "raw.mib" not in names(oldest)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_that_was_unmounted_is_missed_and_nothing_is_written_to_what_lies_beneath(
    tmp_path: Path,
) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], check=True)
    store = Store(place, "titan", reserve_bytes=0)
    try:
        keep_scan(store, 1)
        watch = DiskWatch(store, RetentionTable(warn_free_gb=0))
        watch.look()
        other = tmp_path / "moved"
        other.mkdir()
        subprocess.run(["mount", "--bind", str(place), str(other)], check=True)
        subprocess.run(["umount", "-l", str(place)], check=True)
        assert watch.look() == ["failed"]
        assert watch.error is not None
        assert "mount it again" in watch.error.remedy
        assert list(place.iterdir()) == []
        subprocess.run(["mount", "--bind", str(other), str(place)], check=True)
        assert watch.look() == ["well"]
        keep_scan(store, 0)
        assert len(store.catalogue.list()) == 2
    finally:
        store.close()
        for mounted in (place, tmp_path / "moved"):
            subprocess.run(["umount", "-l", str(mounted)], check=False, capture_output=True)


def test_a_clock_that_is_stepped_ahead_does_not_age_scans(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: NOW)
    old, young = keep_scan(store, 8), keep_scan(store, 6)
    watch = DiskWatch(store, RetentionTable(max_age_days=7, warn_free_gb=0, max_share=1))
    monkeypatch.setattr(time, "time_ns", lambda: NOW + 400 * DAY_NS)
    watch.look()
    assert (watch.deleted, "raw.mib" in names(old), "raw.mib" in names(young)) == (1, False, True)


def started_at(
    monkeypatch: pytest.MonkeyPatch, store: Store, days: float, **table: float
) -> DiskWatch:
    """What looks after the disk in a daemon that is started when the clock is so far ahead."""
    monkeypatch.setattr(time, "time_ns", lambda: NOW + int(days * DAY_NS))
    return DiskWatch(store, RetentionTable(max_age_days=30, warn_free_gb=0, **table))


def test_a_clock_far_ahead_at_the_start_deletes_nothing_and_the_remedy_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [keep_scan(store, 1 + number / 10) for number in range(6)]
    started_at(monkeypatch, store, 0).look()  # an ordinary day: the time is kept
    ahead = started_at(monkeypatch, store, 400)
    assert ahead.look() == ["retention"]
    assert all("raw.mib" in names(folder) for folder in folders)
    assert ahead.retention_error is not None
    assert "6 of 6 scans" in ahead.retention_error.message
    assert "max_share = 1" in ahead.retention_error.remedy
    assert ahead.look() == []
    assert started_at(monkeypatch, store, 400).look() == ["retention"], "not believed later either"
    confirmed = started_at(monkeypatch, store, 400, max_share=1.0)
    confirmed.look()
    assert not any("raw.mib" in names(folder) for folder in folders)


def test_a_few_scans_that_became_old_while_the_computer_was_off_go_and_then_the_clock_is_believed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = keep_scan(store, 29)
    young = [keep_scan(store, number) for number in range(4)]
    started_at(monkeypatch, store, 0).look()
    started_at(monkeypatch, store, 2).look()
    assert "raw.mib" not in names(old)
    assert all("raw.mib" in names(folder) for folder in young)


def test_what_cannot_be_deleted_is_told_and_passed_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: NOW)
    stuck, other = keep_scan(store, 9), keep_scan(store, 8)
    raw = stuck.path / "raw.mib"
    subprocess.run(["chattr", "+i", str(raw)], check=True)
    try:
        done = retain(store, RetentionTable(max_age_days=7), NOW)
        assert done.deleted == [other.acquisition.id]
        assert "cannot be deleted" in done.problems[stuck.acquisition.id]
        watch = DiskWatch(store, RetentionTable(max_age_days=7, warn_free_gb=0, max_share=1))
        assert watch.look() == ["retention"]
    finally:
        subprocess.run(["chattr", "-i", str(raw)], check=True)
    watch._next_retention = 0.0
    assert watch.look() == ["retention well"]
    assert "raw.mib" not in names(stuck)


@pytest.mark.parametrize("what", ["raw", "scan"])
@pytest.mark.parametrize("step", ["unlink", "rmtree", "scan.json", "row"])
def test_a_deletion_that_is_cut_off_at_any_step_is_finished_by_the_next_start(
    store: Store, monkeypatch: pytest.MonkeyPatch, what: Literal["raw", "scan"], step: str
) -> None:
    folder = keep_scan(store, 9)
    (folder.path / "raw_data_000001.h5").write_bytes(b"more")

    class Killed(BaseException):
        pass

    def killed(*arguments: object, **more: object) -> None:
        if step in ("unlink", "rmtree"):
            (folder.path / "raw.mib").rename(folder.path.with_name("gone"))
        raise Killed

    place, name = {
        "unlink": (Path, "unlink"),
        "rmtree": (retention.shutil, "rmtree"),
        "scan.json": (retention, "write_atomic"),
        "row": (store.catalogue, "end"),
    }[step]
    with monkeypatch.context() as patch:
        patch.setattr(place, name, killed)
        with contextlib.suppress(Killed):
            retain(store, RetentionTable(max_age_days=7, delete=what), NOW)
    store.close()
    again = Store(store.data_dir, "titan")
    finish_intentions(again)
    entry = again.catalogue.get(folder.acquisition.id)
    again.close()
    assert entry is not None
    assert entry["deleted"]["what"] == what
    assert entry["deleted"]["bytes"] > 1000
    assert not list((store.data_dir / ".intentions").iterdir())
    if what == "raw":
        assert names(folder) == {"ricom.tif", "raw.hdr", SCAN_FILE}
        assert verify(folder.path) == []
    else:
        assert not folder.path.exists()


def test_images_that_were_being_written_anew_are_listed_by_the_next_start(store: Store) -> None:
    folder = keep_scan(store, 1)
    store.intentions.begin(folder.acquisition.id, IMAGES)
    write_atomic(folder.path / "ricom.tif", [b"another image"])
    (folder.path / "com.tif.tmp").write_bytes(b"half")
    assert verify(folder.path) != []
    store.close()
    again = Store(store.data_dir, "titan")
    assert finish_intentions(again) == [folder.acquisition.id]
    again.close()
    assert verify(folder.path) == []
    document = json.loads((folder.path / SCAN_FILE).read_text())
    assert "ricom.tif" in document["notes"][-1]
    assert names(folder) == {"ricom.tif", "raw.hdr", "raw.mib", SCAN_FILE}
