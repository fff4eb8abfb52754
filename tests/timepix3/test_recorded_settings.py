"""What reads a scan's record again does so with the camera's settings of that scan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from stemd.acquisition import Scan
from stemd.adapters.events.ticks import TDC2_RISE
from stemd.config.file import parse
from stemd.offline.completion.work import CompletionJob, make
from stemd.storage.archive import Archive
from stemd.storage.mending import mend

from .streams import Camera, electrons, expected

SCAN = Scan(shape=(12, 17), flyback=3, dwell_time_us=1.0)
ID = "20260101T120000000Z-1a2b"
CONFIG = """
[daemon]
instrument = "lab"
data_dir = "/nowhere"
[[pipeline]]
name = "events"
[pipeline.adapter]
type = "timepix3"
tdc = { input = 1 }
[[pipeline.engine]]
type = "sum"
"""


def cut_off(data_dir: Path, sent_by: dict[str, object] | None) -> tuple[Path, dict[str, Any]]:
    """A scan whose lines the second input told, as a killed daemon left it; its scan.json."""
    folder = data_dir / "2026-01-01" / ID
    folder.mkdir(parents=True)
    stream = Camera(edges=((TDC2_RISE, 0),)).stream(electrons(SCAN, 20_000))
    (folder / "raw.tpx3").write_bytes(stream)
    document = {
        "id": ID,
        "status": "acquiring",
        "pipeline": "events",
        "started_ns": 1,
        "scan": SCAN.model_dump(mode="json"),
        "camera": sent_by,
        "positions_total": SCAN.positions,
        "engines": {"sum": "sum"},
        "settings": {"sum": {}},
    }
    (folder / "scan.json").write_text(json.dumps(document))
    return folder, document


SECOND_INPUT = {"type": "timepix3", "tdc": {"input": 2}, "reorder_window_us": 500.0}


def test_the_positions_of_a_scan_cut_off_are_counted_with_its_own_line_pulses(
    tmp_path: Path,
) -> None:
    folder, document = cut_off(tmp_path, SECOND_INPUT)
    mended = mend(folder, document, 2, "it was killed")
    assert (mended["positions_done"], mended["missing"]) == (SCAN.positions, 0)
    assert mended["completion"]["lacking"] == {"sum": SCAN.positions}


def test_images_are_completed_with_the_camera_settings_of_the_scan_not_those_of_today(
    tmp_path: Path,
) -> None:
    folder, document = cut_off(tmp_path, SECOND_INPUT)
    mend(folder, document, 2, "it was killed")
    record = Archive(tmp_path).record(ID)
    assert record is not None
    job = CompletionJob(
        parse(CONFIG).pipelines[0],
        ("sum",),
        record.path,
        record.scan,
        record.settings,
        1 << 30,
        camera=record.camera,
    )
    (image,) = make(job, lambda _done, _total: None)
    counts = np.bincount(expected(electrons(SCAN, 20_000))[:, 0], minlength=SCAN.positions)
    assert (image.image.ravel() == counts).all()
