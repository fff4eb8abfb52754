"""A scan's folder, on good disks and on bad ones."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemd.documents import to_json
from stemd.errors import SinkError
from stemd.storage.files import FileRecord, plain_file_name, result_file_name, write_atomic
from stemd.storage.folder import (
    MAX_MISSING_RUNS,
    ScanFolder,
    ScanSummary,
    missing_runs,
    scan_document,
)
from tests.conftest import a_snapshot, an_acquisition

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_missing_runs_name_exactly_the_positions_that_are_not_done(done: list[bool]) -> None:
    runs = missing_runs(np.array(done))
    listed = [index for first, stop in runs for index in range(first, stop)]
    assert listed == [index for index, there in enumerate(done) if not there]
    assert all(stop < first for (_, stop), (first, _) in pairwise(runs))


def test_a_scan_lies_under_its_utc_day_and_says_everything_about_itself(tmp_path: Path) -> None:
    acquisition = an_acquisition(
        id="20251124T160000123Z-00ff", started_ns=1_764_000_000_123_456_789
    )
    folder = ScanFolder.of_scan(tmp_path, acquisition, "merlin", "titan")
    assert folder.path == tmp_path / "2025-11-24" / acquisition.id
    folder.create()
    assert json.loads((folder.path / "scan.json").read_text())["status"] == "acquiring"
    written, errors = folder.write_results(a_snapshot(acquisition, names=("ricom", "adf")))
    assert (len(written), errors) == (2, [])
    done = np.ones(54, np.bool_)
    done[[0, 10, 11, 53]] = False
    history = [{"revision": 2, "positions_done": 20}]
    summary = ScanSummary("incomplete", done, settings={"revision": 2}, settings_history=history)
    returned = folder.write_summary(summary)
    document = json.loads((folder.path / "scan.json").read_text())
    assert document == json.loads(to_json(returned))
    assert (document["status"], document["missing"]) == ("incomplete", 4)
    assert document["missing_runs"] == [[0, 1], [10, 12], [53, 54]]
    assert (document["positions_done"], document["positions_total"]) == (50, 54)
    assert document["scan"]["shape"] == [6, 9]
    assert document["detector"]["shape"] == [64, 48]
    assert document["started"] == "2025-11-24T16:00:00.123456Z"
    assert document["settings_history"] == history
    assert set(document["versions"]) == {"stemd", "numpy", "numba", "python"}
    for file in document["files"]:
        content = (folder.path / file["name"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
        assert file["bytes"] == len(content)
    assert {path.name for path in folder.path.iterdir()} == {"scan.json", "ricom.tif", "adf.tif"}


def test_more_holes_than_can_be_listed_are_counted(tmp_path: Path) -> None:
    done = np.arange(4 * MAX_MISSING_RUNS) % 2 == 0
    document = scan_document(an_acquisition(), "m", "t", ScanSummary("incomplete", done), [])
    assert document["missing"] == 2 * MAX_MISSING_RUNS
    assert document["missing_runs"] is None


@pytest.mark.parametrize(
    "name", ["../x", "A", "", "a/b", "x.tif", "a\0", "1a", "ä", "a" * 200, "a\n"]
)
def test_a_result_name_that_could_leave_the_folder_is_refused(name: str) -> None:
    with pytest.raises(SinkError):
        result_file_name(name)


@pytest.mark.parametrize(
    "name", ["..", "../raw.mib", "/etc/passwd", ".hidden", "a/b", "raw.mib.part", ""]
)
def test_a_file_name_that_could_leave_the_folder_is_refused(name: str) -> None:
    with pytest.raises(SinkError):
        plain_file_name(name)
    with pytest.raises(SinkError):
        ScanFolder.of_scan(Path("/nowhere"), an_acquisition(id="../x"), "m", "t")


def test_one_result_that_cannot_be_written_does_not_keep_the_others_back(tmp_path: Path) -> None:
    acquisition = an_acquisition()
    folder = ScanFolder.of_scan(tmp_path, acquisition, "merlin", "titan")
    folder.create()
    (folder.path / "adf.tif").mkdir()
    written, errors = folder.write_results(a_snapshot(acquisition, names=("adf", "ricom")))
    assert [record.name for record in written] == ["ricom.tif"]
    assert len(errors) == 1
    assert "adf.tif" in errors[0].message


@needs_root
def test_on_a_full_disk_the_old_file_stays_whole_and_the_error_says_what_to_do(
    small_disk: Path,
) -> None:
    path = small_disk / "scan.json"
    write_atomic(path, [b"old"])
    with pytest.raises(SinkError, match="no space left") as caught:
        write_atomic(path, [bytes(2**20), bytes(2**20)])
    assert "free space" in caught.value.remedy
    assert path.read_bytes() == b"old"
    assert [file.name for file in small_disk.iterdir()] == ["scan.json"]


@needs_root
def test_a_read_only_disk_is_named(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(SinkError, match="read-only") as caught:
        ScanFolder.of_scan(small_disk, an_acquisition(), "merlin", "titan").create()
    assert "remount" in caught.value.remedy


def test_a_folder_that_vanished_is_named(tmp_path: Path) -> None:
    acquisition = an_acquisition()
    folder = ScanFolder.of_scan(tmp_path, acquisition, "merlin", "titan")
    folder.create()
    shutil.rmtree(folder.path)
    _, errors = folder.write_results(a_snapshot(acquisition))
    assert "no such file" in errors[0].message
    assert "mounted" in errors[0].remedy
    with pytest.raises(SinkError):
        folder.write_summary(ScanSummary("complete", np.ones(54, np.bool_)))


def test_a_document_never_contains_what_json_has_no_word_for() -> None:
    odd = {
        "nan": float("nan"),
        "inf": np.float32("inf"),
        "array": np.arange(3, dtype=np.int16),
        "path": Path("/a"),
        "flag": np.bool_(True),
        "record": FileRecord("a", 1, ""),
    }
    plain = json.loads(to_json(odd), parse_constant=pytest.fail)
    assert plain["nan"] is plain["inf"] is None
    assert (plain["array"], plain["path"], plain["flag"]) == ([0, 1, 2], "/a", True)
