"""What stands beside the code agrees with it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path

import pytest
import yaml

from stemd import __version__

ROOT = Path(__file__).parents[1]
EXTRAS = ("test", "dev", "docs", "training", "benchmark", "browser", "cluster", "images", "models")


def named(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None, requirement
    return found[0].lower().replace("_", "-")


def test_the_constraints_hold_everything_that_ci_installs_and_name_no_host() -> None:
    lines = (ROOT / ".ci" / "constraints.txt").read_text().splitlines()
    held = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in held)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(name for extra in EXTRAS for name in extras[extra])]
    missing = {named(each) for each in wanted} - {named(line) for line in held} - {"stemd"}
    assert not missing, "run .ci/refresh-constraints"


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    assert citation["license"] == "BSD-3-Clause"


def test_the_origin_of_every_shipped_network_is_told_with_its_licence() -> None:
    folder = resources.files("stemd.models")
    table = (folder / "README.md").read_text().splitlines()
    for name in (file.name for file in folder.iterdir() if file.name.endswith(".onnx")):
        (row,) = [line for line in table if line.startswith(f"| `{name}` |")]
        assert row.endswith("| BSD-3-Clause |")


def test_the_workflow_runs_what_a_developer_runs() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert {"run": ".ci/run"} in job["steps"]


@pytest.mark.parametrize("form", ["bug", "feature", "camera"])
def test_an_issue_form_asks_in_fields_that_are_named_once(form: str) -> None:
    text = (ROOT / ".github" / "ISSUE_TEMPLATE" / f"{form}.yml").read_text()
    document = yaml.safe_load(text)
    assert document["name"]
    assert document["description"]
    ids = [field["id"] for field in document["body"]]
    assert len(ids) == len(set(ids))
    assert any(field.get("validations", {}).get("required") for field in document["body"])


def test_the_demo_s_broker_is_loaded_by_nothing_but_its_own_process() -> None:
    code = "import sys, stemd.daemon.supervisor, stemd.cli.demo, stemd.mqtt.broker; "
    code += "sys.exit('amqtt' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_kernels_are_compiled_in_one_place_and_nothing_else_imports_numba() -> None:
    found = [
        path.name
        for path in (ROOT / "stemd").rglob("*.py")
        if re.search(r"^ *(import|from) (numba|llvmlite)", path.read_text(), re.MULTILINE)
    ]
    assert sorted(found) == ["compiler.py", "finished.py", "keeping.py", "parts.py"]
