"""Every command answers for itself: help, plugins, units."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import structlog

from stemd.cli import virtual
from stemd.cli.demo.plain_logs import PlainLines
from stemd.cli.main import COMMANDS, main


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_shows_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"usage: stemd {name}" in said
    assert f"stemd {name}" in said.partition("Example: ")[2]


def _parsed(example: str) -> argparse.Namespace:
    """What `stemd` would make of an example of its own help. Fails where it is not understood."""
    words = shlex.split(example.partition(">")[0])
    words = words[words.index("stemd") + 1 :]
    module = importlib.import_module(f"stemd.cli.{words[0].replace('-', '_')}")
    parser = argparse.ArgumentParser(exit_on_error=False)
    module.configure(parser)
    return parser.parse_args(words[1:])


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_each_command_is_one_that_it_understands(name: str) -> None:
    module = importlib.import_module(f"stemd.cli.{name.replace('-', '_')}")
    for line in module.EXAMPLE.splitlines():
        if "stemd" in line:
            _parsed(line)


@pytest.mark.parametrize("camera", ["merlin", "timepix3", "dectris"])
def test_the_example_of_each_virtual_camera_is_one_that_it_understands(camera: str) -> None:
    assert _parsed(virtual._speakers()[camera].EXAMPLE).protocol == camera


ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    # those that add a plugin have its commands too, and tests/contributing runs them
    *(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md") if p.name[:4] != "add-"),
]


def _commands(page: str) -> list[str]:
    """Command lines of stemd in the code of a page, and in the prose of README."""
    text = (ROOT / page).read_text().replace("\\\n", " ")
    prose = "\n".join(line for line in text.splitlines() if not line.startswith("|"))
    code = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    lines = [*code.splitlines(), *re.findall(r"^    (.*)$", text, re.MULTILINE)]
    if page == "README.md":
        lines += re.findall(r"`((?:sudo )?stemd [a-z][^`]*)`", prose)
    before = r"\s*(?:sudo |\S*/bin/|.* && )*"
    found = [re.match(before + r"(stemd (?:[a-z-]+) [^#&|]*)", line) for line in lines]
    return [each[1] for each in found if each]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_line_of_a_page_is_one_that_stemd_understands(page: str) -> None:
    commands = _commands(page)
    if page == "README.md":
        assert len(commands) >= 6
    for command in commands:
        if command.split()[1] in COMMANDS:
            _parsed(command)


def test_every_example_config_is_printed_shipped_and_named_in_the_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = Path(__file__).parents[2]
    paths = sorted((root / "config").glob("*.toml"))
    with pytest.raises(SystemExit):
        main(["schema", "--help"])
    told = capsys.readouterr().out
    shipped = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    included = shipped["targets"]["wheel"]["force-include"]
    for path in paths:
        assert main(["schema", "--example", path.stem]) == 0
        assert capsys.readouterr().out == path.read_text()
        assert path.stem in told
        assert included[f"config/{path.name}"] == f"stemd/config/examples/{path.name}"
    assert main(["schema", "--example", "medipix"]) == 2
    assert "one of: airpi, dectris" in capsys.readouterr().err


def test_plugins_as_json_name_all_four_kinds_and_why_one_cannot_be_used() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stemd", "plugins", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = json.loads(done.stdout)
    found = {(row["kind"], row["name"]) for row in rows}
    assert {kind for kind, _ in found} == {"adapter", "engine", "sink", "backend"}
    assert {("adapter", "merlin"), ("adapter", "timepix3"), ("engine", "ricom")} <= found
    assert {("sink", "mqtt"), ("backend", "onnxruntime")} <= found
    for row in rows:
        assert row["summary"]
        assert row["unavailable"] is None or len(row["unavailable"]) > 10


def test_plugins_as_a_table_are_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert main(["plugins"]) == 0
    table = capsys.readouterr().out
    assert all(row["name"] in table for row in rows)


def test_install_service_that_cannot_write_names_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    root.write_text("a file where a folder should be")
    command = ["install-service", "--root", str(root), "--executable", "/opt/stemd/bin/stemd"]
    assert main(command) == 1
    assert str(root) in capsys.readouterr().err


def test_install_service_says_what_to_do_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["install-service", "--root", str(tmp_path), "--executable", "/opt/stemd/bin/stemd"]
    assert main(command) == 0
    said = capsys.readouterr().out
    written = [line.split()[1] for line in said.splitlines() if line.startswith("written")]
    assert {Path(path) for path in written} == {p for p in tmp_path.rglob("*") if p.is_file()}
    assert "systemctl enable --now stemd" in said
    assert main(command) == 0, "a second time, over the first"


def test_the_demo_tells_each_kind_of_warning_once_in_words() -> None:
    show = PlainLines(terminal=False)

    def line(level: str, text: str, **more: str) -> str:
        return show(None, level, {"event": text, "level": level, **more})

    first = line("warning", "airpi: from line 12 on one of 4", pipeline="cam", remedy="wait")
    assert first == "warning: airpi: from line 12 on one of 4\n  wait"
    for again in ("airpi: from line 2 on one of 36", "airpi: from line 3 on one of 4 (and 2 more)"):
        with pytest.raises(structlog.DropEvent):
            line("warning", again)
    assert line("warning", "disk low", folder="/a") == "warning: disk low (folder /a)"
    for _ in range(2):
        assert line("error", "broken", exception="Traceback: x") == "error: broken\nTraceback: x"
    assert PlainLines(terminal=True)(None, "error", {"event": "a"}).startswith("\r\x1b[K")


@pytest.mark.parametrize("command", [["demo"], ["virtual", "merlin"], ["virtual", "timepix3"]])
@pytest.mark.parametrize("rate", ["1e308", "1e-308"])
def test_a_rate_that_no_camera_has_is_a_mistake(
    command: list[str], rate: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--rate", rate])
    assert ended.value.code == 2
    assert f"argument --rate: {rate!r} must be 0 (no limit), or from" in capsys.readouterr().err


@pytest.mark.parametrize("scans", ["0", "-3"])
def test_the_demo_is_not_started_for_no_scan(
    scans: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--scans", scans, "--data-dir", str(tmp_path)]) == 2
    assert f"--scans {scans}" in capsys.readouterr().err
