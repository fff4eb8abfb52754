"""What stands on the disk may be anything: readers of a data folder raise their own errors only."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemd import api
from stemd.acquisition import Acquisition, Detector, Scan
from stemd.documents import to_json
from stemd.errors import SinkError, StemdError
from stemd.storage import completions
from stemd.storage.archive import Archive
from stemd.storage.catalogue.catalogue import Catalogue
from stemd.storage.folder import ScanFolder, ScanSummary
from stemd.storage.recovery import enter_missing, recover
from stemd.storage.store import Store
from stemd.storage.verify import verify

from .strategies import nested, spoilt, values, wire

ID = "20261129T101010123Z-00ff"
FUZZ = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def _document() -> dict[str, Any]:
    acquisition = Acquisition(
        Scan(shape=(2, 3), flyback=0), Detector("a", (4, 4), "u2", 16), ID, 1_796_000_000 * 10**9
    )
    with tempfile.TemporaryDirectory() as name:
        folder = ScanFolder(Path(name) / ID, acquisition, "merlin", "microscope")
        folder.create()
        completion = completions.outstanding({"airpi": 3}, 4)
        return folder.write_summary(
            ScanSummary("complete", np.ones(6, np.bool_), completion=completion, notes=["note"])
        ) | {"files": [{"name": "raw.mib", "bytes": 5, "sha256": "ab"}]}


DOCUMENT = _document()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "2026-11-29" / ID
    path.mkdir(parents=True)
    (path / "raw.mib").write_bytes(b"12345")
    return path


def _read_everything(folder: Path) -> None:
    root = folder.parent.parent
    archive = Archive(root)
    to_json(archive.scans()).encode()
    archive.record(ID)
    archive.frame(ID, "ricom", 64)
    for problem in verify(folder):
        problem.encode("utf-8", "strict")
    for read in (completions.read, api.open_scan):
        try:
            found = read(folder)
        except StemdError as error:
            str(error).encode()
        else:
            repr(found)
    for name in ("catalogue.sqlite", "catalogue.sqlite-wal", "catalogue.sqlite-shm"):
        (root / name).unlink(missing_ok=True)
    catalogue = Catalogue(root)
    try:
        enter_missing(catalogue, "microscope", 2**62)
        to_json(catalogue.list()).encode()
    finally:
        catalogue.close()


@FUZZ
@given(document=spoilt(DOCUMENT))
def test_a_scan_json_with_wrong_values_is_entered_or_left(
    folder: Path, document: dict[str, Any]
) -> None:
    (folder / "scan.json").write_text(json.dumps(document))
    _read_everything(folder)


@FUZZ
@given(data=wire)
def test_a_scan_json_of_any_bytes_is_entered_or_left(folder: Path, data: bytes) -> None:
    (folder / "scan.json").write_bytes(data)
    _read_everything(folder)


@pytest.mark.parametrize("data", [b"[]", b"5", b"null", nested(100_000), b'{"files": 5}', b""])
def test_a_scan_json_that_is_something_else_is_left(folder: Path, data: bytes) -> None:
    (folder / "scan.json").write_bytes(data)
    _read_everything(folder)


def test_a_scan_json_of_gigabytes_is_not_read(folder: Path) -> None:
    with (folder / "scan.json").open("wb") as file:
        file.truncate(20 * 2**30)
    _read_everything(folder)
    assert "bytes" in verify(folder)[0]


def test_names_that_are_no_utf8_are_told_in_json(folder: Path) -> None:
    (folder / "scan.json").write_text(json.dumps(DOCUMENT | {"status": "acquiring"}))
    (folder / os.fsdecode(b"f\xfcr.tif")).write_bytes(b"x")
    (folder.parent / os.fsdecode(b"f\xfcr")).mkdir()
    _read_everything(folder)
    said = json.loads((folder / "scan.json").read_bytes())
    assert {file["name"] for file in said["files"]} == {"raw.mib", "f\\udcfcr.tif"}


@FUZZ
@given(document=spoilt(DOCUMENT | {"status": "acquiring"}))
def test_a_scan_cut_off_is_closed_whatever_its_scan_json_says(
    folder: Path, document: dict[str, Any]
) -> None:
    root = folder.parent.parent
    (folder / "scan.json").write_text(json.dumps(document))
    dead = Catalogue(root)
    acquisition = Acquisition(Scan(shape=(2, 3), flyback=0), Detector("a", (4, 4), "u2", 16), ID)
    dead.begin(acquisition, "merlin", "microscope", folder)
    dead.close()
    store = Store(root, "microscope")
    try:
        assert recover(store) == [ID]
        assert [scan["status"] for scan in store.catalogue.list()] == ["aborted"]
    finally:
        store.close()


@FUZZ
@given(results=st.just("{") | values.map(json.dumps), summary=values.map(json.dumps))
def test_rows_of_any_content_are_listed(tmp_path: Path, results: str, summary: str) -> None:
    catalogue = Catalogue(tmp_path)
    acquisition = Acquisition(Scan(shape=(2, 3), flyback=0), Detector("a", (4, 4), "u2", 16), ID)
    try:
        catalogue.begin(acquisition, "merlin", "microscope", tmp_path / "2026-11-29" / ID)
        with sqlite3.connect(tmp_path / "catalogue.sqlite") as db:
            db.execute("UPDATE scans SET results = ?, summary = ?", (results, summary))
            db.execute(
                "INSERT OR REPLACE INTO sessions VALUES ('1', 'p', 'n', 's', 1, ?)", (summary,)
            )
        db.close()
        to_json(catalogue.list()).encode()
        to_json(catalogue.sessions()).encode()
    finally:
        catalogue.close()


@pytest.mark.parametrize("value", ["\ud800", 2**63])
def test_what_the_catalogue_cannot_store_is_a_sink_error(tmp_path: Path, value: Any) -> None:
    catalogue = Catalogue(tmp_path)
    try:
        with pytest.raises(SinkError, match="cannot be stored") as error:
            catalogue.get(value)
        str(error.value).encode()
    finally:
        catalogue.close()
