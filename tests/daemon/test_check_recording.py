"""`stemd check` of recordings: what they hold, and doubts about them in plain words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from stemd import api
from stemd.acquisition import Scan
from stemd.adapters.merlin.encoder import Camera, encode_frame
from stemd.adapters.merlin.encoder import encode_hdr as camera_hdr
from stemd.adapters.merlin.hdr import encode_hdr
from stemd.cli.main import main
from stemd.errors import StemdError, UsageError
from tests.timepix3 import streams


def write_mib(path: Path, numbers: list[int]) -> Path:
    kind = Camera(shape=(256, 256))
    pattern = np.full((256, 256), 3, np.uint16)
    path.write_bytes(b"".join(encode_frame(pattern, kind, number) for number in numbers))
    return path


def test_a_whole_recording_is_described_and_found_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_mib(tmp_path / "scan.mib", list(range(1, 21)))
    assert main(["check", str(path), "--scan", "4x5"]) == 0
    text = capsys.readouterr().out
    assert "patterns of 256 x 256" in text
    assert "20 of 20" in text
    assert "nothing looks wrong" in text


def test_missing_frames_are_told_and_the_exit_code_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_mib(tmp_path / "scan.mib", [n for n in range(1, 21) if n not in (7, 8)])
    assert main(["check", str(path), "--scan", "4x5", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["positions_done"], found["positions_total"], found["ok"]) == (18, 20, False)
    kinds = {notice["kind"]: notice["level"] for notice in found["notices"]}
    # the file's patterns are flat ones, which a file may well hold
    assert kinds == {"missing_frames": "warning", "identical_patterns": "info"}


def test_a_folder_is_its_only_recording_or_names_those_that_it_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mib(tmp_path / "a.mib", [1, 2, 3, 4])
    assert main(["check", str(tmp_path), "--scan", "2x2"]) == 0
    assert "4 of 4" in capsys.readouterr().out
    write_mib(tmp_path / "b.mib", [1, 2, 3, 4])
    assert main(["check", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "a folder of 2 recordings" in said
    assert str(tmp_path / "b.mib") in said
    (tmp_path / "empty").mkdir()
    assert main(["check", str(tmp_path / "empty")]) == 2
    assert "without a recording" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("scan", "doubted"), [("6x7", False), ("7x6", True), ("6x6", False), ("3x14", False)]
)
def test_a_transposed_scan_is_doubted_where_the_triggers_tell_the_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scan: str, doubted: bool
) -> None:
    path = write_mib(tmp_path / "scan.mib", list(range(1, 43)))
    path.with_suffix(".hdr").write_bytes(
        camera_hdr(Camera(shape=(256, 256)), 42, frames_per_trigger=7)
    )
    flyback = ["--flyback", "1"] if scan == "6x6" else []
    main(["check", str(path), "--scan", scan, *flyback, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert ("line_length" in [notice["kind"] for notice in found["notices"]]) == doubted


@pytest.mark.slow
def test_event_streams_whose_pulses_do_not_fit_are_doubted_in_plain_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    true = Scan(shape=(12, 17), flyback=3, dwell_time_us=1.0)
    path = tmp_path / "scan.tpx3"
    path.write_bytes(streams.Camera().stream(streams.electrons(true, 20_000)))
    assert main(["check", str(path), "--scan", "12x17", "--json"]) in (0, 1)
    right = json.loads(capsys.readouterr().out)
    assert right["hits"] > 10_000
    config = tmp_path / "wrong.toml"
    config.write_text(
        "[[pipeline]]\nname = 'cam'\n[pipeline.adapter]\ntype = 'timepix3'\n"
        "scan = { shape = [12, 17], flyback = 3, dwell_time_us = 1.0 }\n"
        "tdc = { input = 2 }\n"
    )
    code = main(["check", str(path), "--camera", str(config)])
    captured = capsys.readouterr()
    assert code != 0
    assert "tdc" in (captured.out + captured.err).lower()


def test_a_file_that_is_no_recording_and_no_config_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scan.mib"
    path.write_bytes(b"nothing of the kind")
    assert main(["check", str(path)]) != 0
    assert "scan.mib" in capsys.readouterr().err


def test_without_a_size_a_recording_tells_what_one_needs_to_choose_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_mib(tmp_path / "scan.mib", list(range(1, 21)))
    path.with_suffix(".hdr").write_bytes(
        encode_hdr({"Frames in Acquisition (Number)": "20", "Frames per Trigger (Number)": "5"})
    )
    assert main(["check", str(path)]) == 0
    text = capsys.readouterr().out
    assert "scan       4 x 5" in text
    assert "20 frames of 256 x 256 pixels, 12 bit" in text
    assert "header file: 20 frames, 5 for each trigger" in text
    assert "20 frames fit 4x5, 5x4" in text

    true = Scan(shape=(12, 17), flyback=3, dwell_time_us=1.0)
    events = tmp_path / "scan.tpx3"
    events.write_bytes(streams.Camera(drop=(4,)).stream(streams.electrons(true, 2000)))
    assert main(["check", str(events)]) != 0
    text = capsys.readouterr().err
    assert "2,000 hits on chips 0, 1, 2, 3" in text
    assert "TDC1 rising, chip 0: 11 pulses, one in 20 µs (median), 9 of 10 intervals so" in text
    assert "the counter jumps once" in text
    assert 'tdc = { input = 1, edge = "rise" }' in text
    assert main(["check", str(events), "--scan", "12x17"]) in (0, 1)
    assert "the file tells" not in capsys.readouterr().out


def two_scans_and_an_empty_one(path: Path) -> Scan:
    """Three scans in a file: one whole, one with line pulses only, one whole."""
    scan = Scan(shape=(12, 17), flyback=3, dwell_time_us=1.0)
    camera = streams.Camera()
    period = 12 * 20 * 640
    parts = []
    for number, hits in enumerate((3000, 0, 2000)):
        sent = streams.electrons(scan, hits, start=1_000_000 + number * (period + 1_000_000))
        parts.append(camera.stream(sent))
    path.write_bytes(b"".join(parts))
    return scan


def test_all_scans_of_a_file_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_mib(tmp_path / "scan.mib", [*range(1, 21), *[n for n in range(1, 21) if n != 7]])
    words = ["check", str(path), "--scan", "4x5"]
    assert main(words) == 1
    text = capsys.readouterr().out
    first, second = text.index("scan 1\n"), text.index("scan 2\n")
    assert "20 of 20" in text[first:second]
    assert "19 of 20" in text[second:]
    assert "nothing looks wrong" not in text
    assert main([*words, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["positions_done"], found["ok"], found["more_scans"]) == (20, False, False)
    assert [(s["number"], s["positions_done"], s["ok"]) for s in found["scans"]] == [
        (1, 20, True),
        (2, 19, False),
    ]


def test_a_scan_without_hits_is_told_and_no_image_is_made_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scan.tpx3"
    scan = two_scans_and_an_empty_one(path)
    words = [str(path), "--scan", "12x17"]
    assert main(["check", *words]) == 1
    text = capsys.readouterr().out
    assert "no hit belongs to this scan" in text[text.index("scan 2\n") : text.index("scan 3\n")]
    assert text.count("no hit belongs to this scan") == 1
    out = ["--engine", "sum", "--out", str(tmp_path / "out")]
    more = ["--flyback", "3", "--dwell-time-us", "1"]
    assert main(["process", *words, *more, *out]) == 0
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == ["scan", "scan_scan3"]
    said = capsys.readouterr().err
    assert "scan.tpx3: scan 2 was left out" in said
    assert "tdc.input" in said
    assert main(["process", *words, *more, *out, "--scan-number", "2"]) == 1
    assert "scan 2 was left out" in capsys.readouterr().err
    numbered = api.process(path, ["sum"], scan=scan, scan_number=3)
    hits = tifffile.imread(tmp_path / "out" / "scan_scan3" / "sum.tif").sum()
    assert (
        np.asarray(numbered["sum"]).sum() == hits == streams.electrons(scan, 2000).counted.time.size
    )
    with pytest.raises(StemdError, match="no hit belongs"):
        api.com(path, scan=scan, scan_number=2)
    with pytest.raises(UsageError, match="holds 3 scans, none with the number 4"):
        api.com(path, scan=scan, scan_number=4)
    with pytest.raises(UsageError, match="0 is no number of a scan"):
        api.com(path, scan=scan, scan_number=0)
    with pytest.raises(UsageError, match="are for files"):
        api.com(np.ones((2, 2, 4, 4), np.uint8), scan_number=1)


def test_pixels_that_look_broken_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = Camera(shape=(16, 16))
    pattern = np.full((16, 16), 3, np.uint16)
    pattern[2, 13] = 4095
    path = tmp_path / "scan.mib"
    path.write_bytes(b"".join(encode_frame(pattern, kind, n + 1) for n in range(20)))
    assert main(["check", str(path), "--scan", "4x5"]) == 1
    text = capsys.readouterr().out
    assert "pixels that look broken are not masked: 1 saturated: [2, 13]" in text
    assert "optics.mask" in text
