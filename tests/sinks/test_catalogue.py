"""The catalogue is true after every kind of end, and `stemd scans` shows it."""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from stemd.cli import scans
from stemd.errors import SinkError, StemdError, UsageError
from stemd.storage.catalogue.catalogue import Catalogue
from stemd.storage.folder import ScanFolder, ScanSummary
from stemd.storage.locks import lock_path, waiting_lock
from stemd.storage.mending import mend
from stemd.storage.recovery import _remedy, recover
from stemd.storage.scan_document import read_scan_document
from stemd.storage.store import Store
from tests.conftest import a_snapshot, an_acquisition

DAY_NS = 86_400 * 10**9


def a_scan(catalogue: Catalogue, day: int = 0, *, end: bool = True) -> str:
    """A scan of the given day after 2026-01-01, catalogued; returns its id."""
    started = 1_767_225_600 * 10**9 + day * DAY_NS
    acquisition = an_acquisition(started_ns=started)
    folder = ScanFolder.of_scan(catalogue.data_dir, acquisition, "merlin", "titan")
    folder.create()
    catalogue.begin(acquisition, "merlin", "titan", folder.path)
    if end:
        folder.write_results(a_snapshot(acquisition, final=True))
        summary = ScanSummary("complete", np.ones(54, np.bool_), finished_ns=started + 10**9)
        catalogue.end(acquisition.id, folder.write_summary(summary))
    return acquisition.id


def test_a_scan_is_listed_from_its_start_and_complete_at_its_end(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    running = a_scan(catalogue, 1, end=False)
    finished = a_scan(catalogue, 0)
    assert [scan["id"] for scan in catalogue.list()] == [running, finished]
    assert catalogue.get(running)["status"] == "acquiring"
    row = catalogue.get(finished)
    assert (row["status"], row["results"], row["shape"]) == ("complete", ["ricom"], [6, 9])
    assert row["bytes"] == (tmp_path / row["folder"] / "ricom.tif").stat().st_size
    assert row["folder"] == f"2026-01-01/{finished}"
    assert row["started"] == "2026-01-01T00:00:00.000000Z"
    assert catalogue.get("nothing") is None
    catalogue.close()


def test_images_of_any_writer_are_results_and_the_record_is_none(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    scan_id = a_scan(catalogue, 0)
    document = read_scan_document(tmp_path / catalogue.get(scan_id)["folder"])
    names = ("raw.qsf", "raw.hdr", "ricom.tif", "ricom.npz", "bf.npz")
    document["files"] = [{"name": name, "bytes": 1} for name in names]
    catalogue.end(scan_id, document)
    row = catalogue.get(scan_id)
    assert (row["results"], row["bytes"]) == (["ricom", "bf"], 5)
    catalogue.close()


def test_scans_are_chosen_by_time_status_and_number(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    ids = [a_scan(catalogue, day, end=day != 2) for day in range(4)]
    since = 1_767_225_600 * 10**9 + DAY_NS
    assert [scan["id"] for scan in catalogue.list(since)] == ids[:0:-1]
    assert [scan["id"] for scan in catalogue.list(since, "complete")] == [ids[3], ids[1]]
    assert [scan["id"] for scan in catalogue.list(limit=2)] == [ids[3], ids[2]]
    everything = [scan["id"] for scan in catalogue.list(limit=-1)]
    assert everything == [scan["id"] for scan in catalogue.list(limit=-1, find=" ")] == ids[::-1]
    catalogue.close()


def test_many_threads_may_write_while_others_read(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    reader = Catalogue.read_only(tmp_path)
    threads = [threading.Thread(target=a_scan, args=(catalogue, day)) for day in range(8)]
    for thread in threads:
        thread.start()
    seen = [len(reader.list()) for _ in range(50)]
    for thread in threads:
        thread.join()
    assert seen == sorted(seen)
    assert len(reader.list(status="complete")) == 8
    with pytest.raises(SinkError, match="readonly"):
        a_scan(reader)
    reader.close()
    catalogue.close()


KILLED = """
import os, sys
from pathlib import Path
from stemd.storage.catalogue.catalogue import Catalogue
from tests.sinks.test_catalogue import a_scan
catalogue = Catalogue(Path(sys.argv[1]))
a_scan(catalogue, 0)
scan = a_scan(catalogue, 1, end=False)
folder = catalogue.data_dir / catalogue.get(scan)["folder"]
(folder / "raw.mib.part").write_bytes(b"frames")
(folder / "ricom.tif.tmp").write_bytes(b"half")
print(scan, flush=True)
os.kill(os.getpid(), 9)
"""


def test_what_a_killed_daemon_was_acquiring_is_kept_named_and_marked_aborted(
    tmp_path: Path,
) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    killed = ran.stdout.strip()
    store = Store(tmp_path, "titan")
    catalogue = store.catalogue
    living = a_scan(catalogue, 2, end=False)
    assert recover(store) == [killed]
    assert catalogue.get(living)["status"] == "acquiring"
    row = catalogue.get(killed)
    folder = tmp_path / row["folder"]
    assert row["status"] == "aborted"
    assert (folder / "raw.mib").read_bytes() == b"frames"
    assert {path.name for path in folder.iterdir()} == {"raw.mib", "scan.json"}
    document = json.loads((folder / "scan.json").read_text())
    assert document["status"] == "aborted"
    assert document["scan"]["shape"] == [6, 9]
    (raw,) = document["files"]
    assert (raw["name"], raw["bytes"], raw["complete"]) == ("raw.mib", 6, False)
    assert recover(store) == []
    store.close()


@pytest.mark.parametrize(
    ("names", "record"),
    [
        (["raw.hdr", "raw.mib"], "raw.mib"),
        (["raw.sync.json", "raw.tpx3"], "raw.tpx3"),
        (["raw.sync.json", "raw.t3p"], "raw.t3p"),
        (["raw.csr", "raw.sync.json"], "raw.csr"),
        (["raw.dectris", "raw.start"], "raw.dectris"),
    ],
)
def test_what_is_to_be_processed_of_a_scan_cut_off_is_its_record(
    names: list[str], record: str, tmp_path: Path
) -> None:
    store = Store(tmp_path, "titan")
    scan = a_scan(store.catalogue, end=False)
    folder = tmp_path / store.catalogue.get(scan)["folder"]
    for name in names:
        (folder / f"{name}{'.part' if name == record else ''}").write_bytes(b"some")
    document = mend(folder, read_scan_document(folder), 1, "it was killed")
    assert f"images were not written: stemd process {record} makes" in str(document["notes"])
    assert _remedy(document, folder)["remedy"].startswith(f"stemd process {folder / record} makes")
    assert {each["name"]: each["complete"] for each in document["files"]} == {
        name: name != record for name in names
    }
    store.close()


def test_the_scans_of_a_daemon_that_still_lives_are_left_alone(tmp_path: Path) -> None:
    first, second = Catalogue(tmp_path), Store(tmp_path, "titan")
    running = a_scan(first, end=False)
    assert recover(second) == []
    assert second.catalogue.get(running)["status"] == "acquiring"
    first.close()
    assert recover(second) == [running]
    second.close()


def test_a_scan_of_another_instrument_is_closed_by_its_own_daemon_or_where_that_is_gone(
    tmp_path: Path,
) -> None:
    dead = Catalogue(tmp_path)
    scan = a_scan(dead, end=False)
    dead.close()
    own, other = Store(tmp_path, "titan"), Store(tmp_path, "tecnai")
    assert recover(other) == []
    assert own.catalogue.get(scan)["status"] == "acquiring"
    own.close()
    assert recover(other) == [scan]
    other.close()


def test_one_daemon_of_a_data_folder_closes_scans_at_a_time(tmp_path: Path) -> None:
    dead = Catalogue(tmp_path)
    scan = a_scan(dead, end=False)
    dead.close()
    store = Store(tmp_path, "titan")
    closed: list[list[str]] = []
    second = threading.Thread(target=lambda: closed.append(recover(store)))
    with waiting_lock(lock_path(tmp_path, "recovery")):
        second.start()
        second.join(0.2)
        assert second.is_alive(), "it waits for the one that is at it"
        assert store.catalogue.get(scan)["status"] == "acquiring"
    second.join(10.0)
    assert closed == [[scan]]
    store.close()


def test_a_catalogue_that_is_missing_damaged_or_of_the_future_says_what_to_do(
    tmp_path: Path,
) -> None:
    with pytest.raises(SinkError, match="no catalogue") as missing:
        Catalogue.read_only(tmp_path)
    assert "--data-dir" in missing.value.remedy
    (tmp_path / "catalogue.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(SinkError, match="not a database") as damaged:
        Catalogue.read_only(tmp_path)
    assert "moves it aside" in damaged.value.remedy
    (tmp_path / "catalogue.sqlite").unlink()
    catalogue = Catalogue(tmp_path)
    catalogue.list()
    catalogue.close()
    with sqlite3.connect(tmp_path / "catalogue.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(SinkError, match="schema 99"):
        Catalogue(tmp_path).list()


MAY_ONLY_READ = """
import os, sys
from pathlib import Path
from stemd.storage.catalogue.catalogue import Catalogue
os.seteuid(65534)
print(len(Catalogue.read_only(Path(sys.argv[1])).list()))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="changing the user needs root")
def test_a_user_who_may_only_read_can_list_the_scans(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    a_scan(catalogue)
    catalogue.close()
    for path in (tmp_path, *tmp_path.parents[:3]):
        path.chmod(0o755)
    # in a process of its own: all threads of a process change their user together
    read = subprocess.run(
        [sys.executable, "-c", MAY_ONLY_READ, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert (read.stdout, read.stderr) == ("1\n", "")


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    scans.configure(parser)
    return scans.run(parser.parse_args(list(words)))


def test_the_command_lists_and_shows_as_table_and_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    catalogue = Catalogue(tmp_path)
    ids = [a_scan(catalogue, day) for day in range(2)]
    catalogue.close()
    config = tmp_path / "c.toml"
    config.write_text(f'[daemon]\ndata_dir = "{tmp_path}"\n')
    assert command("--data-dir", str(tmp_path)) == 0
    table = capsys.readouterr().out
    assert all(scan_id in table for scan_id in ids)
    assert "6 x 9" in table
    command("list", "--config", str(config), "--json", "--since", "2026-01-02")
    assert [scan["id"] for scan in json.loads(capsys.readouterr().out)] == [ids[1]]
    command("show", ids[0], "--data-dir", str(tmp_path), "--json")
    assert json.loads(capsys.readouterr().out)["folder"] == f"2026-01-01/{ids[0]}"
    command("show", ids[1], "--data-dir", str(tmp_path))
    assert ids[1] in capsys.readouterr().out
    command("--data-dir", str(tmp_path), "--status", "aborted")
    assert "no scans" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ("show",),
        ("list", "some-id"),
        ("show", "nothing"),
        ("--since", "yesterday"),
        ("--config", "/nowhere.toml"),
        ("--data-dir", "/nowhere"),
    ],
)
def test_every_mistake_on_the_command_line_has_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    catalogue = Catalogue(tmp_path / "stemd-data")
    catalogue.list()
    catalogue.close()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StemdError) as caught:
        command(*words)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T12:30:00+02:00", datetime(2026, 3, 1, 10, 30, tzinfo=UTC)),
        ("90m", datetime(2026, 3, 8, 22, 30, tzinfo=UTC)),
        ("1w", datetime(2026, 3, 2, tzinfo=UTC)),
    ],
)
def test_since_takes_dates_and_ages(text: str, expected: datetime) -> None:
    now = datetime(2026, 3, 9, tzinfo=UTC)
    assert scans.parse_since(text, now) == int(expected.timestamp()) * 10**9


def test_an_absurd_age_means_everything() -> None:
    assert scans.parse_since("99999999999d", datetime(2026, 3, 9, tzinfo=UTC)) == 0
    with pytest.raises(UsageError):
        scans.parse_since("", datetime(2026, 3, 9, tzinfo=UTC))
