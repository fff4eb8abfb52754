"""`stemd check` of recordings: what they hold, and doubts about them in plain words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stemd.acquisition import Scan
from stemd.adapters.merlin.encoder import Camera, encode_frame
from stemd.adapters.merlin.hdr import encode_hdr
from stemd.cli.main import main
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
    assert [notice["kind"] for notice in found["notices"]] == ["missing_frames"]


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
