"""Recorded sparse scans are read again as they were live."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from stemd.acquisition import Scan
from stemd.adapters.files import open_recording
from stemd.blocks import EventBlock
from stemd.cli.main import main
from stemd.errors import FormatError

from .test_adapter import sparse_stream


def rows_of(recording: object) -> np.ndarray:
    found = []
    for block in recording.blocks(0, recording.frames):  # type: ignore[attr-defined]
        assert isinstance(block, EventBlock)
        found.append(np.stack([block.probe[: block.count], block.y, block.x]).T.astype(np.int64))
        block.release()
    table = np.concatenate(found)
    return table[np.lexsort(table.T[::-1])]


def test_a_record_gives_the_hits_and_the_end_of_its_scan(tmp_path: Path) -> None:
    stream, rows = sparse_stream()
    path = tmp_path / "raw.csr"
    path.write_bytes(stream)
    recording = open_recording(path, Scan(shape=(1, 1), step_size_angstrom=0.5))
    assert recording.acquisition.scan.shape == (3, 4)
    assert recording.acquisition.scan.step_size_angstrom == 0.5
    for _ in range(2):
        assert (rows_of(recording) == rows).all()
    assert not recording.notices
    wire = b"".join(block.wire.tobytes() for block in recording.blocks(0, recording.frames))
    assert wire == stream
    middle = [b.probe[: b.count] for b in recording.blocks(4, 8) if isinstance(b, EventBlock)]
    assert set(np.concatenate(middle).tolist()) <= set(range(4, 8))


def test_all_scans_of_a_file_are_processed_and_a_cut_off_one_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stream, rows = sparse_stream()
    path = tmp_path / "a.csr"
    path.write_bytes(stream + stream[:-40])
    assert main(["process", str(path), "--engine", "sum", "--out", str(tmp_path), "--json"]) == 0
    whole, cut = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (whole["status"], whole["missing"], whole["notices"]) == ("complete", 0, [])
    assert cut["notices"][0]["kind"] == "cut_off"
    counts = np.bincount(rows[:, 0], minlength=12).reshape(3, 4)
    assert (tifffile.imread(tmp_path / "a" / "sum.tif") == counts).all()
    assert main(["check", str(path)]) == 1
    told = capsys.readouterr().out
    assert "scan 2" in told
    assert "the stream ends 146 bytes into a message" in told


def test_a_file_that_holds_no_scan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csr"
    for content, said in ((sparse_stream()[0][:32], "no scan"), (b"\x09" * 64, "begins with 9")):
        path.write_bytes(content)
        with pytest.raises(FormatError, match=said):
            open_recording(path)
