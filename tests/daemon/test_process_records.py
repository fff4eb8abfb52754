"""Records of scans are processed with what is known of them: nothing is to be told twice."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from stemd import api
from stemd.acquisition import Scan
from stemd.adapters.merlin.encoder import Camera, encode_frame
from stemd.cli.main import main
from tests.timepix3 import streams

CONFIG = """
[[pipeline]]
name = "cam"
[pipeline.adapter]
type = "merlin"
scan = { shape = [4, 5], flyback = 1, step_size_angstrom = 0.5, dwell_time_us = 250.0 }
[pipeline.optics]
pixel_size_mrad = 0.5
rotation_deg = 30.0
mask = [[2, 30]]
[[pipeline.engine]]
type = "com"
[[pipeline.engine]]
type = "virtual_detector"
detectors = { bf = [0.0, 4.0] }
"""


def write_mib(path: Path, frames: int, seed: int = 0) -> Path:
    random = np.random.default_rng(seed)
    patterns = random.poisson(3.0, (frames, 32, 32)).astype(np.uint16)
    kind = Camera(shape=(32, 32))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(encode_frame(p, kind, i + 1) for i, p in enumerate(patterns)))
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    return path


def document(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "scan.json").read_text())
    return found


@pytest.fixture
def day(tmp_path: Path, config: Path) -> Path:
    """Two scans of one day, each in its folder with its record and scan.json."""
    for number in (1, 2):
        raw = write_mib(tmp_path / f"{number}" / "raw.mib", 24, number)
        assert main(["process", str(raw), "--config", str(config), "--out", str(raw.parent)]) == 0
        made = raw.parent / "raw"
        shutil.move(raw, made / "raw.mib")
        target = tmp_path / "2026-11-29" / document(made)["id"]
        target.parent.mkdir(exist_ok=True)
        shutil.move(made, target)
    return tmp_path / "2026-11-29"


def same_images(one: Path, other: Path) -> bool:
    names = {path.name for path in one.glob("*.tif")}
    return names <= {path.name for path in other.glob("*.tif")} and all(
        np.array_equal(tifffile.imread(one / name), tifffile.imread(other / name)) for name in names
    )


def test_another_size_of_the_scan_leaves_the_config_s_calibration(
    tmp_path: Path, config: Path
) -> None:
    path = write_mib(tmp_path / "scan.mib", 5 * 7)
    words = ["--config", str(config), "--scan", "5x6", "--out", str(tmp_path / "out")]
    assert main(["process", str(path), *words]) == 0
    scan = document(tmp_path / "out" / "scan")["scan"]
    assert scan == {
        "shape": [5, 6], "flyback": 1, "leading": 0, "serpentine": False,
        "step_size_angstrom": 0.5, "dwell_time_us": 250.0, "repeats": 1,
    }  # fmt: skip


def test_a_record_beside_its_scan_json_needs_nothing_else(
    tmp_path: Path, day: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = min(day.iterdir())
    record = str(folder / "raw.mib")
    assert main(["process", record, "--out", str(tmp_path / "again")]) == 0
    again = tmp_path / "again" / "raw"
    assert same_images(folder, again)
    before, after = document(folder), document(again)
    for key in ("scan", "mask", "positions_done", "camera"):
        assert after[key] == before[key], key
    assert before["mask"]["pixels"] == [[2, 30, 3, 31]]
    assert after["optics"] | {"mask": None} == before["optics"] | {"mask": None}
    assert after["engines"]["virtual_detector"] == "virtual_detector"
    assert {"ricom", "bf"} <= {path.stem for path in again.glob("*.tif")}
    capsys.readouterr()
    assert main(["check", record]) == 0
    assert "20 of 20" in capsys.readouterr().out
    images = api.process(record, ["com"])
    assert images.about.scan.step_size_angstrom == 0.5
    live = tifffile.imread(folder / "com_y.tif")
    np.testing.assert_array_equal(np.asarray(images["com_y"]), live)


def test_the_command_line_comes_before_scan_json(tmp_path: Path, day: Path) -> None:
    record = str(min(day.iterdir()) / "raw.mib")
    words = ["--optics", "rotation_deg=0,mask=none", "--step-size-angstrom", "2", "--engine", "sum"]
    assert main(["process", record, *words, "--out", str(tmp_path / "out")]) == 0
    found = document(tmp_path / "out" / "raw")
    assert (found["optics"]["rotation_deg"], found["mask"]) == (0.0, None)
    assert found["optics"]["pixel_size_mrad"] == 0.5
    assert found["scan"]["step_size_angstrom"] == 2.0
    assert [path.name for path in (tmp_path / "out" / "raw").glob("*.tif")] == ["sum.tif"]


@pytest.mark.parametrize("what", ["records", "folders", "day", "data folder"])
def test_the_records_of_a_night_are_processed_in_one_call_and_named_by_their_scans(
    tmp_path: Path, day: Path, what: str
) -> None:
    scans = sorted(day.iterdir())
    paths = {
        "records": [folder / "raw.mib" for folder in scans],
        "folders": scans,
        "day": [day],
        "data folder": [tmp_path / "data"],
    }[what]
    if what == "data folder":
        (tmp_path / "data").mkdir()
        day.rename(tmp_path / "data" / day.name)
    out = tmp_path / "out"
    assert main(["process", *map(str, paths), "--engine", "sum", "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == [folder.name for folder in scans]


def test_a_folder_of_recordings_is_processed_and_an_empty_one_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mib(tmp_path / "in" / "one.mib", 4)
    write_mib(tmp_path / "in" / "two.mib", 4)
    (tmp_path / "in" / "notes.txt").write_text("...")
    out = tmp_path / "out"
    words = ["--scan", "2x2", "--engine", "sum", "--out", str(out)]
    assert main(["process", str(tmp_path / "in"), *words]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["one", "two"]
    (tmp_path / "empty").mkdir()
    assert main(["process", str(tmp_path / "empty"), *words]) == 2
    assert "a folder without a recording" in capsys.readouterr().err


def test_a_broken_scan_json_fails_its_record_alone(
    tmp_path: Path, day: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = sorted(day.iterdir())
    (one / "scan.json").write_text("{")
    out = tmp_path / "out"
    assert main(["process", str(day), "--engine", "sum", "--out", str(out)]) == 1
    assert str(one / "scan.json") in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == [other.name]


def test_an_event_record_is_read_as_its_camera_was_set(tmp_path: Path) -> None:
    scan = Scan(shape=(4, 6), flyback=2, dwell_time_us=1.0)
    raw = tmp_path / "raw.tpx3"
    raw.write_bytes(streams.Camera().stream(streams.electrons(scan, 3000)))
    config = tmp_path / "events.toml"
    config.write_text(
        "[[pipeline]]\nname = 'cam'\n[pipeline.adapter]\ntype = 'timepix3'\n"
        "scan = { shape = [4, 6], flyback = 2, dwell_time_us = 1.0 }\nreorder_window_us = 5.0\n"
    )
    words = ["--engine", "sum", "--out"]
    assert main(["process", str(raw), "--config", str(config), *words, str(tmp_path / "a")]) == 0
    shutil.move(raw, tmp_path / "a" / "raw" / "raw.tpx3")
    assert document(tmp_path / "a" / "raw")["camera"] == {
        "type": "timepix3", "reorder_window_us": 5.0,
        "scan": {"shape": [4, 6], "flyback": 2, "dwell_time_us": 1.0},
    }  # fmt: skip
    record = str(tmp_path / "a" / "raw" / "raw.tpx3")
    assert main(["process", record, *words, str(tmp_path / "b")]) == 0
    assert same_images(tmp_path / "a" / "raw", tmp_path / "b" / "raw")


def test_a_name_that_is_no_utf8_is_processed_and_checked(tmp_path: Path) -> None:
    name = os.fsdecode(b"Pr\xfcfung.mib")
    path = write_mib(tmp_path / name, 4)
    out = tmp_path / "out"
    words = ["--scan", "2x2", "--engine", "sum"]
    assert main(["process", str(path), *words, "--out", str(out)]) == 0
    assert main(["check", str(path), "--scan", "2x2"]) == 0
    assert document(out / path.stem)["status"] == "complete"
    assert tifffile.imread(out / path.stem / "sum.tif").shape == (2, 2)
