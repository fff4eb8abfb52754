"""The record of somebody else's camera is found in its scan's folder, as those of stemd's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stemd.api import open_scan
from stemd.storage.archive import Archive
from stemd.storage.folder import ScanFolder, ScanSummary
from stemd.storage.recorded import record_in
from tests.conftest import an_acquisition


def test_a_foreign_cameras_record_can_be_replayed_and_opened(tmp_path: Path, foreign: None) -> None:
    acquisition = an_acquisition()
    folder = ScanFolder.of_scan(tmp_path, acquisition, "cam", "titan")
    folder.create()
    (folder.path / "raw.qsf").write_bytes(b"QSF1")
    (folder.path / "raw.hdr").write_bytes(b"HDR,")
    folder.write_summary(ScanSummary("complete", np.ones(54, np.bool_), finished_ns=1))
    archive = Archive(tmp_path)
    (listed,) = archive.scans()
    assert listed["record"] == "raw.qsf"
    record = archive.record(acquisition.id)
    assert record is not None
    assert record.path == folder.path / "raw.qsf"
    assert record_in(folder.path) == folder.path / "raw.qsf"
    assert open_scan(folder.path).record == folder.path / "raw.qsf"
