"""`stemd scans`: readable in a narrow window and in a pipe, and what it finds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stemd.cli.main import main
from stemd.cli.scan_text import list_lines, show_lines
from stemd.cli.table import table
from stemd.storage.folder import ScanFolder, ScanSummary
from stemd.storage.store import Store
from tests.conftest import a_snapshot, an_acquisition

GOLD = {
    **{"sample": "Gold on carbon, the third grid of the box", "operator": "Zoë"},
    **{"comment": "drifts", "tags": ["Night", "good"]},
}
EMPTY: dict[str, Any] = {"sample": "", "operator": "", "comment": "", "tags": []}


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[list[ScanFolder]]:
    """Three scans: of gold, of nothing that was told, and one with holes."""
    store = Store(tmp_path, "titan")
    made = []
    for number, about in enumerate((GOLD, EMPTY, {**EMPTY, "sample": "Silicon"})):
        acquisition = an_acquisition(started_ns=1_764_000_000 * 10**9 + number * 10**9)
        folder = ScanFolder.of_scan(store.data_dir, acquisition, "cam", "titan")
        done = np.ones(54, np.bool_)
        done[: 20 * (number == 2)] = False
        status = "incomplete" if number == 2 else "complete"
        summary = ScanSummary(
            status,  # type: ignore[arg-type]
            done,
            settings={"about": about},
            finished_ns=acquisition.started_ns + 4_500_000_000,
        )
        folder.create(summary)
        folder.write_results(a_snapshot(acquisition, names=("ricom", "bf", "adf"), final=True))
        document = folder.write_summary(summary)
        store.catalogue.begin(acquisition, "cam", "titan", folder.path)
        store.catalogue.end(acquisition.id, document)
        made.append(folder)
    yield made
    store.close()


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["scans", *arguments]) == 0
    return capsys.readouterr().out


def scans(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(said(capsys, "--data-dir", str(tmp_path), "--json"))
    return found


def test_every_scan_is_one_line_of_80_characters_with_its_whole_id(
    folders: list[ScanFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = list_lines(scans(capsys, tmp_path), 80)
    assert len(lines) == 4
    assert max(map(len, lines)) <= 80
    for folder, line in zip(reversed(folders), lines[1:], strict=True):
        assert line.startswith(folder.acquisition.id)
    assert "incomplete 63%" in lines[1]
    assert "6 x 9" in lines[1]
    assert "Gold on" in lines[3]
    assert lines[3].endswith("…")


def test_in_a_pipe_nothing_is_cut_coloured_or_padded(
    folders: list[ScanFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = said(capsys, "--data-dir", str(tmp_path)).splitlines()
    assert len(lines) == 4
    assert "Gold on carbon, the third grid of the box; drifts; Zoë; #Night; #good" in lines[3]
    assert all("\x1b" not in line and line == line.rstrip() for line in lines)
    assert lines[3].split()[:2] == [folders[0].acquisition.id, "complete"]


@pytest.mark.parametrize(
    ("words", "count"),
    [("gold", 1), ("ZOË", 1), ("night gold", 1), ("gold silicon", 0), ("sample", 0), ("i", 2)],
)
def test_scans_are_found_by_what_is_told_of_them(
    words: str,
    count: int,
    folders: list[ScanFolder],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = said(capsys, "--data-dir", str(tmp_path), "--find", words, "--json")
    assert len(json.loads(found)) == count
    newest = said(capsys, "--data-dir", str(tmp_path), "--find", "i", "--limit", "1")
    assert folders[2].acquisition.id in newest
    assert folders[0].acquisition.id not in newest


def test_one_scan_is_shown_in_words(
    folders: list[ScanFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, "show", folders[0].acquisition.id, "--data-dir", str(tmp_path))
    facts = dict(line.split(None, 1) for line in text.splitlines())
    assert facts["sample"] == GOLD["sample"]
    assert facts["tags"] == "Night, good"
    assert facts["started"].endswith("UTC, took 4.5 s")
    assert facts["folder"] == str(folders[0].path)
    assert facts["images"] == "ricom, bf, adf"
    holes = said(capsys, "show", folders[2].acquisition.id, "--data-dir", str(tmp_path))
    assert "6 x 9: 34 done, 20 missing" in holes


def test_what_was_deleted_and_what_was_not_completed_is_told_in_words(
    folders: list[ScanFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = scans(capsys, tmp_path)[0]
    time = "2026-03-01T20:00:00.000000Z"
    gone = {"what": "scan", "time": time, "reason": "max_scans = 5", "bytes": 10}
    scan |= {"deleted": gone, "results": [], "bytes": 0}
    scan["completion"] = {"status": "failed", "message": "no record", "remedy": "record.raw"}
    assert "deleted" in list_lines([scan], 80)[1]
    text = "\n".join(show_lines(scan, tmp_path))
    assert "images      deleted" in text
    assert "deleted     the whole scan, 2026-03-01 20:00:00 UTC: max_scans = 5" in text
    assert "completion  failed\n            no record\n            record.raw" in text
    scan["deleted"] = {**gone, "what": "raw"}
    assert "deleted" not in list_lines([scan], 80)[1]


def test_open_prints_the_folder_where_there_is_no_desktop(
    folders: list[ScanFolder],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    where = ("--data-dir", str(tmp_path))
    assert said(capsys, "open", folders[1].acquisition.id, *where) == f"{folders[1].path}\n"
    assert main(["scans", "open", *where]) == 2
    assert "open needs the id of a scan" in capsys.readouterr().err


def test_a_table_gives_up_its_elastic_columns_first_and_numbers_stand_right() -> None:
    rows = [["a", "12", "what is long"], ["b", "3", "short"]]
    titles = ["id", "n", "about"]
    assert table(titles, rows, right=["n"], elastic=["about"], width=14) == [
        "id   n  about",
        "a   12  what …",
        "b    3  short",
    ]
    assert table(titles, rows, right=["n"], elastic=["about"], width=10)[1] == "a   12"
