"""`stemd bench`: figures of this machine, as a table and as JSON."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from stemd.cli.bench import kernels
from stemd.cli.bench.harness import Context, Row
from stemd.cli.main import main

KEYS = ["name", "value", "unit", "limit", "limit_name", "fraction", "cpu_us_per_frame", "note"]
"""What benchmarks/README.md says a figure has."""


def test_the_list_names_every_case_once_and_only_chooses_among_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bench", "--list"]) == 0
    names = capsys.readouterr().out.split()
    assert len(names) == len(set(names)) > 40
    assert main(["bench", "--list", "--only", "ricom/*", "--only", "memory/read"]) == 0
    chosen = capsys.readouterr().out.split()
    assert chosen == [name for name in names if name.startswith("ricom/") or name == "memory/read"]


def test_a_name_that_matches_nothing_is_a_mistake_of_the_user(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bench", "--only", "rikom/*"]) == 2
    assert "rikom/*" in capsys.readouterr().err


def test_json_of_the_program_is_a_list_of_figures_and_nothing_else() -> None:
    command = [sys.executable, "-m", "stemd", "bench", "--only", "ricom/21"]
    done = subprocess.run(
        [*command, "--seconds", "0.05", "--file-mib", "8", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    (row,) = json.loads(done.stdout)
    assert list(row) == KEYS
    assert row["name"] == "ricom/21"
    assert row["unit"] == "positions/s"
    assert row["value"] > 1000
    assert math.isfinite(row["cpu_us_per_frame"])


def test_a_fraction_is_of_the_limit_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--only", "mmap/*", "--seconds", "0.01", "--file-mib", "8"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("mmap/sum-u16/256")
    assert "frames/s" in line
    row = Row("a/b", 30.0, "GB/s", limit=40.0, limit_name="memory")
    assert row.as_json()["fraction"] == 0.75
    assert Row("a/b", 30.0, "GB/s").as_json()["fraction"] is None


def test_what_a_case_logs_goes_to_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def talkative(context: Context) -> Iterator[Row]:
        structlog.get_logger().warning("the network is slow")
        yield Row("talkative", 1.0, "words/s")

    monkeypatch.setattr(kernels, "cases", lambda: {"talkative": talkative})
    assert main(["bench", "--only", "talkative", "--json"]) == 0
    said = capsys.readouterr()
    assert [row["name"] for row in json.loads(said.out)] == ["talkative"]
    assert "the network is slow" in said.err
