"""README's table of speeds is made of one file of `stemd bench --json`, or is left as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.readme_figures import BEGIN, END, README, ROWS, main, table
from stemd.cli.bench.harness import Row


def a_run(**changed: Any) -> dict[str, dict[str, Any]]:
    names = ("memory/read", *ROWS)
    rows = {
        name: Row(name, 123456.7, "frames/s", 2e5, "memory", 12.34, machine="A CPU").as_json()
        for name in names
    }
    rows["memory/read"] |= {"value": 37.04, "unit": "GB/s"}
    for name, value in changed.items():
        rows[name] |= value
    return rows


def test_the_marks_stand_in_the_readme_once_each() -> None:
    text = README.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    assert text.index(BEGIN) < text.index(END)


def test_every_row_of_the_table_is_one_that_bench_has() -> None:
    from stemd.cli.bench.command import all_cases

    assert set(ROWS) <= set(all_cases())


def test_the_table_names_the_machine_and_rounds_its_figures(tmp_path: Path) -> None:
    readme, file = tmp_path / "README.md", tmp_path / "bench.json"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    file.write_text(json.dumps(list(a_run().values())))
    assert main([str(file), str(readme)]) == 0
    text = readme.read_text()
    assert text.startswith(f"before\n{BEGIN}\nMeasured on A CPU; one core reads memory at 37 GB/s.")
    assert text.endswith(f"\n{END}\nafter\n")
    assert "old" not in text
    assert "| 8 bits | 123,000 frames/s | 12.3 µs | 62 % | memory |" in text


def test_a_run_with_missing_rows_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme, file = tmp_path / "README.md", tmp_path / "bench.json"
    readme.write_text(f"{BEGIN}old{END}")
    rows = a_run()
    del rows["ricom/61"]
    file.write_text(json.dumps(list(rows.values())))
    assert main([str(file), str(readme)]) == 1
    assert readme.read_text() == f"{BEGIN}old{END}"
    assert "ricom/61" in capsys.readouterr().err


def test_rows_of_two_machines_are_not_one_run() -> None:
    with pytest.raises(ValueError, match="several machines: A CPU; another"):
        table(a_run(**{"moments/u8/256": {"machine": "another"}}))
