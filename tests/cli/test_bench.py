"""`stemd bench`: figures of this machine, as a table and as JSON."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from stemd.cli.bench import kernels
from stemd.cli.bench.comparing import compared
from stemd.cli.bench.harness import ROUNDS, Context, Row, Timing, in_turn
from stemd.cli.main import main

KEYS = ["name", "value", "lowest", "highest", "unit", "limit", "limit_name", "fraction"]
KEYS += ["cpu_us_per_frame", "note", "machine"]
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
    assert row["lowest"] <= row["value"] <= row["highest"]
    assert row["machine"].endswith("processors")


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


def test_noise_is_told_by_the_medians_of_stretches_of_the_time() -> None:
    walls = [1.0] * 9 + [2.0] * 9 + [4.0] * 9 + [1.0] * 18
    timing = Timing.of(walls, walls)
    assert timing.rounds_s == (1.0, 2.0, 4.0, 1.0, 1.0)
    assert len(timing.rounds_s) == ROUNDS
    row = Row.timed("a", 8.0, "words/s", timing)
    assert (row.lowest, row.value, row.highest) == (2.0, 8.0, 8.0)
    assert Timing.of([3.0, 5.0], [1.0, 1.0]).rounds_s == (3.0, 5.0)


def test_calls_that_are_compared_take_turns_over_the_same_parts_none_after_another() -> None:
    called: list[tuple[str, int]] = []
    calls = [lambda part, name=name: called.append((name, part)) for name in "ab"]  # type: ignore[misc]
    timings = in_turn(calls, 0.0, 2)
    assert [timing.calls for timing in timings] == [3, 3]
    warm_up, measured = called[:2], called[2:]
    assert warm_up == [("a", 0), ("b", 0)]
    assert measured == [("a", 0), ("b", 1), ("a", 1), ("b", 0), ("a", 0), ("b", 1)]


@pytest.mark.parametrize(
    ("lowest", "value", "highest", "unit", "verdict"),
    [
        (109.0, 110.0, 112.0, "frames/s", "faster"),
        (101.0, 110.0, 112.0, "frames/s", "within the noise"),
        (80.0, 90.0, 94.0, "frames/s", "slower"),
        (80.0, 90.0, 96.0, "frames/s", "within the noise"),
        (109.0, 110.0, 112.0, "ms", "slower"),
        (80.0, 90.0, 94.0, "ms", "faster"),
    ],
)
def test_a_figure_has_changed_where_its_range_and_the_earlier_one_are_apart(
    lowest: float, value: float, highest: float, unit: str, verdict: str
) -> None:
    before = {"a": Row("a", 100.0, unit, lowest=96.0, highest=104.0).as_json()}
    found = compared(Row("a", value, unit, lowest=lowest, highest=highest), before)
    assert found is not None
    assert found.verdict == verdict
    assert found.ratio == pytest.approx(100.0 / value if unit == "ms" else value / 100.0)
    assert compared(Row("b", value, unit), before) is None
    assert compared(Row("a", value, "another unit"), before) is None


def test_a_run_is_compared_with_the_file_of_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = iter((100.0, 100.0, 50.0))

    def case(context: Context) -> Iterator[Row]:
        yield Row("words", next(figures), "words/s")

    monkeypatch.setattr(kernels, "cases", lambda: {"words": case})
    assert main(["bench", "--only", "words", "--json"]) == 0
    earlier = tmp_path / "earlier.json"
    earlier.write_text(capsys.readouterr().out)
    again = ["bench", "--only", "words", "--compare", str(earlier)]
    assert main(again) == 0
    assert "1.000  within the noise" in capsys.readouterr().out
    assert main([*again, "--json"]) == 1, "slower is a failure, for scripts"
    said = capsys.readouterr()
    assert json.loads(said.out)[0]["value"] == 50.0
    assert "0.500  slower" in said.err


@pytest.mark.parametrize("text", [None, "{", "{}", '[{"name": "words"}]'])
def test_what_no_bench_has_written_is_not_compared_with(
    text: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = tmp_path / "earlier.json"
    if text is not None:
        earlier.write_text(text)
    assert main(["bench", "--only", "ricom/21", "--compare", str(earlier)]) == 2
    told = capsys.readouterr().err
    assert "earlier.json" in told
    assert "stemd bench --json" in told
