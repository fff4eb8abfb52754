"""Plugins of other packages: found by their entry points, and harmless where they are broken."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import tomli

from stemd import entry_points
from tests.conftest import wait_until
from tests.daemon.running import RunningDaemon
from tests.plugins.somebody_elses import GOOD, install

CONFIG = """
[daemon]
instrument = "rig"
data_dir = @DATA@

{sinks}

[[pipeline]]
name = "past"

[pipeline.adapter]
type = "{adapter}"
path = "{recording}"
scan = {{ shape = [4, 5] }}

[[pipeline.engine]]
type = "{engine}"

[pipeline.record]
results = {results}
"""
USUAL = {"sinks": "", "adapter": "files", "engine": "sum", "results": '["tiff"]'}


class Place:
    """A folder with foreign packages, a recording, and stemd as a command."""

    def __init__(self, folder: Path) -> None:
        packages = folder / "packages"
        packages.mkdir()
        self.folder, self.environment = folder, install(packages)
        self.recording = folder / "scan.npy"
        np.save(self.recording, np.ones((20, 64, 64), np.uint16))

    def text(self, **more: str) -> str:
        return CONFIG.format(**(USUAL | {"recording": str(self.recording)} | more))

    def stemd(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "stemd", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=self.environment)

    def check(self, **more: str) -> subprocess.CompletedProcess[str]:
        path = self.folder / "checked.toml"
        path.write_text(self.text(**more).replace("@DATA@", json.dumps(str(self.folder / "data"))))
        return self.stemd("check", str(path))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def rows(place: Place) -> dict[tuple[str, str, bool], dict[str, Any]]:
    """What `stemd plugins --json` lists, by kind, name and whether it is broken."""
    done = place.stemd("plugins", "--json")
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)
    return {(row["kind"], row["name"], "distribution" in row): row for row in listed}


def test_foreign_plugins_of_all_four_kinds_are_listed_beside_the_built_in_ones(
    rows: dict[tuple[str, str, bool], dict[str, Any]],
) -> None:
    for kind, found in GOOD.items():
        for name in found:
            assert rows[kind[:-1], name, False]["summary"] == f"{name} of somebody else"
    assert rows["sink", "lines", False]["unavailable"] is None
    assert rows["sink", "rusty", False]["unavailable"] == "librust is not installed"
    assert "no driver" in rows["sink", "hopeless", False]["unavailable"]
    own = [("adapter", "merlin"), ("engine", "ricom"), ("backend", "onnxruntime")]
    own += [("sink", name) for name in ("mqtt", "page", "tiff", "record")]
    assert all(rows[(*each, False)]["unavailable"] is None for each in own)


@pytest.mark.parametrize(
    ("kind", "name", "why"),
    [
        ("adapter", "lost", "ModuleNotFoundError: No module named 'not_a_module_at_all'"),
        ("engine", "torn_file", "SyntaxError"),
        ("engine", "leaver", "SystemExit: goodbye"),
        ("sink", "thing", "not a stemd.plugins.Plugin"),
        ("sink", "other", "calls itself 'lines'"),
        ("sink", "mqtt", "stemd has one of its own"),
        ("backend", "wrong", "No module named 'numpyy'"),
    ],
)
def test_a_broken_one_is_listed_with_its_package_its_group_and_the_reason(
    rows: dict[tuple[str, str, bool], dict[str, Any]], kind: str, name: str, why: str
) -> None:
    row = rows[kind, name, True]
    assert why in row["unavailable"]
    assert row["distribution"] == "bad-plugins"
    assert f"stemd.{kind}s" in row["summary"]


def test_broken_plugins_are_in_the_table_too_and_hurt_no_config_that_does_not_name_them(
    place: Place,
) -> None:
    table = re.sub(r"\s+", " ", place.stemd("plugins").stdout)
    assert "torn_file" in table
    done = place.check()
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("more", "key", "words"),
    [
        ({"adapter": "lost"}, "adapter.type", ["bad-plugins", "not_a_module", "pip install -U"]),
        ({"engine": "torn_file"}, "engine[0].type", ["SyntaxError", "pip install -U bad-plugins"]),
        ({"engine": "my_sun"}, "engine[0].type", ["did you mean 'my_sum'?"]),
        ({"sinks": '[[sink]]\ntype = "liens"'}, "sink[0].type", ["did you mean 'lines'?"]),
        ({"sinks": '[[sink]]\ntype = "thing"'}, "sink[0].type", ["is a ModelMetaclass"]),
        ({"sinks": '[[sink]]\ntype = "rusty"'}, "sink[0].type", ["librust is not installed"]),
        ({"sinks": '[[sink]]\ntype = "mqtt"'}, "sink[0].type", ["write [mqtt]"]),
        ({"sinks": '[[sink]]\ntype = "npz"'}, "sink[0].type", ["known: away, clumsy"]),
        ({"sinks": '[[sink]]\npath = "x"'}, "sink[0].type", ["is missing", "one of: away"]),
        (
            {"sinks": '[[sink]]\ntype = "lines"\npat = "x"'},
            "sink[0].pat",
            ["unknown key", "did you mean 'path'?", ":8:"],
        ),
        ({"results": '["npz", "tif"]'}, "record.results[1]", ["did you mean 'tiff'?"]),
        ({"results": '["lines"]'}, "record.results[0]", ["to be named here", "npz"]),
        ({"results": '["thing"]'}, "record.results[0]", ["bad-plugins"]),
    ],
)
def test_what_is_wrong_with_a_named_one_is_said_with_key_and_remedy(
    place: Place, more: dict[str, str], key: str, words: list[str]
) -> None:
    done = place.check(**more)
    assert done.returncode == 2
    for word in (key, *words):
        assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_a_config_with_foreign_plugins_is_resolved_and_fits_the_schema(place: Place) -> None:
    sinks = f'[[sink]]\ntype = "lines"\npath = "{place.folder / "x"}"'
    more = {"sinks": sinks, "adapter": "my-files", "engine": "my_sum", "results": '["npz"]'}
    done = place.check(**more)
    assert done.returncode == 0, done.stderr
    assert "sink lines" in done.stdout
    schema = json.loads(place.stemd("schema").stdout)
    document = tomli.loads(place.text(**more).replace("@DATA@", '"d"'))
    jsonschema.validate(document, schema)
    document["sink"][0]["pat"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)
    del document["sink"]
    document["pipeline"][0]["record"]["results"] = ["lines"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)


@pytest.fixture(scope="module")
def told(place: Place) -> list[dict[str, Any]]:
    """What a foreign sink hears of a daemon that has clumsy ones beside it, line by line."""
    lines = place.folder / "told.jsonl"
    kinds = ("away", "clumsy", "lines")
    sinks = "".join(f'[[sink]]\ntype = "{kind}"\n' for kind in kinds) + f'path = "{lines}"\n'
    more = {"adapter": "my-files", "engine": "my_sum", "results": '["torn", "npz", "tiff"]'}
    daemon = RunningDaemon(place.folder, place.text(sinks=sinks, **more), place.environment)

    def heard() -> list[dict[str, Any]]:
        text = lines.read_text() if lines.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    try:
        wait_until(lambda: any(h["what"] == "finished" for h in heard()), "the scan is over", 120.0)
        wait_until(
            lambda: any(h["what"] == "daemon" and h["sinks"].get("clumsy") for h in heard()),
            "the state tells of the clumsy sink",
        )
        assert daemon.stop(signal.SIGTERM) == 0
    finally:
        daemon.close()
    return heard()


def test_a_foreign_sink_is_told_everything_from_its_start_to_its_stop(
    told: list[dict[str, Any]],
) -> None:
    what = [line["what"] for line in told]
    assert (what[0], what[-1]) == ("start", "stop")
    assert told[0]["instrument"] == "rig"
    assert {"run", "daemon", "health", "state", "settings", "started", "images"} <= set(what)
    finals = [line for line in told if line["what"] == "images" and line["final"]]
    assert finals[-1]["names"] == ["sum"]
    states = [line["state"] for line in told if line["what"] == "state"]
    assert states.index("acquiring") < states.index("finishing")
    assert what.index("started") < what.index("finished")


def test_a_sink_that_raises_is_told_in_state_and_log_and_hurts_nobody(
    told: list[dict[str, Any]], place: Place
) -> None:
    errors = [line["sinks"] for line in told if line["what"] == "daemon"][-1]
    assert errors["lines"] is None
    assert errors["away"] == {"message": "the database is away", "remedy": "bring it back"}
    assert re.search("no (work|state|document)", errors["clumsy"]["message"])
    counts = [line["sinks"] for line in told if line["what"] == "health"]
    assert counts[-1]["lines"]["failures"] == 0
    log = (place.folder / "log.txt").read_text()
    assert log.count("on_state failed: ValueError: no state") == 1
    for words in ("the database is away", "run failed", "no document", "did not stop"):
        assert words in log


def test_a_foreign_writer_of_results_writes_and_a_broken_one_keeps_no_other_from_it(
    told: list[dict[str, Any]], place: Place
) -> None:
    (path,) = (place.folder / "data").glob("*/*/scan.json")
    document = json.loads(path.read_text())
    files = {file["name"]: file for file in document["files"]}
    assert set(files) == {"images.npz", "sum.tif"}
    assert len(files["images.npz"]["sha256"]) == 64
    with np.load(path.with_name("images.npz")) as images:
        assert images["sum"].tolist() == np.full((4, 5), 64 * 64).tolist()
    assert any("'torn' failed: RuntimeError: no ink" in note for note in document["notes"])


def test_packages_are_looked_through_only_where_one_may_have_plugins(tmp_path: Path) -> None:
    empty, other, own, zipped = (tmp_path / name for name in ("empty", "other", "own", "a.zip"))
    for folder, text in ((other, "[console_scripts]\nstemd = stemd.cli"), (own, "[stemd.sinks]\n")):
        info = folder / "package-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / "without-1.0.dist-info").mkdir()
        (folder / "old-1.0.egg-info").write_text("Name: old")
        (info / "entry_points.txt").write_text(text)
    empty.mkdir()
    zipped.write_bytes(b"PK")
    may = entry_points.may_have_any
    assert [may(str(each)) for each in (empty, other, own, zipped)] == [False, False, True, True]
    assert not may(str(tmp_path / "missing"))
    (empty / "old.egg").mkdir()
    assert may(str(empty))
