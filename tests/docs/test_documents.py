"""The documents agree with the code: errors, commands, topics, links, and what a container runs."""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from stemd.cli.main import COMMANDS
from tests.conftest import Mosquitto

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs/reference"
FOLDERS = ("docs", "benchmarks", "training", "container", ".github")
LINK = re.compile(r"\]\(([^)\s]+)\)")


@functools.cache
def maker(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f".ci/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made  # dataclasses look there for their own module
    spec.loader.exec_module(made)
    return made


def words(text: str) -> str:
    return " ".join(re.sub(r"[^\w ]", " ", text.replace("\\", "")).split())


@pytest.fixture(scope="module")
def sources() -> Any:
    return maker("error_index").Sources(ROOT / "stemd")


def test_the_index_of_errors_is_the_one_that_the_source_makes(sources: Any) -> None:
    made = maker("error_index").markdown(sources)
    remedy = "run: python .ci/error_index.py > docs/reference/errors.md"
    assert (REFERENCE / "errors.md").read_text() == made, remedy


def told(classes: set[str]) -> Iterator[tuple[str, str]]:
    """Where an error is made, and each of its texts of at least three words."""
    known = {*classes, "Problem", "Notice"}
    for path in (ROOT / "stemd").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in known:
                for part in (inner for arg in node.args for inner in ast.walk(arg)):
                    text = part.value if isinstance(part, ast.Constant) else None
                    if isinstance(text, str) and len(words(text).split()) > 2:
                        yield f"{path.relative_to(ROOT)}:{node.lineno}", text


def test_every_text_of_an_error_stands_in_the_index(sources: Any) -> None:
    """Counted without the index's own reader: texts of at least three words in a call."""
    page = words(re.sub("‹[^›]*›", " ", (REFERENCE / "errors.md").read_text()))
    lacking = [
        f"{where}: {text}" for where, text in told(sources.classes) if words(text) not in page
    ]
    assert lacking == []


def test_a_text_is_followed_into_variables_constants_tables_and_helpers(tmp_path: Path) -> None:
    (tmp_path / "errors.py").write_text("class StemdError(Exception): ...\n")
    (tmp_path / "page.py").write_text(
        "from stemd.words import REMEDY\n"
        "class DoorError(StemdError): ...\n"
        "TABLE = {1: ('the door is shut', 'open the door')}\n"
        "def refuse(text, remedy):\n"
        "    raise DoorError(f'{text}', remedy)\n"
        "def enter(name, wide):\n"
        "    text = f'{name} does not fit' if wide else 'nobody is there'\n"
        "    refuse('the bell is broken', 'knock at it')\n"
        "    raise DoorError(text, REMEDY)\n"
    )
    (tmp_path / "words.py").write_text("REMEDY = 'take the other door'\n")
    index = maker("error_index")
    rows = {(r.text, r.remedy) for c in index.Sources(tmp_path).calls() for r in c.rows}
    assert rows == {
        ("the door is shut", "open the door"),
        ("the bell is broken", "knock at it"),
        ("‹name› does not fit", "take the other door"),
        ("nobody is there", "take the other door"),
    }


def test_the_reference_of_commands_is_the_one_that_the_parsers_make() -> None:
    page = (REFERENCE / "commands.md").read_text()
    remedy = "run: python .ci/command_reference.py > docs/reference/commands.md"
    assert page == maker("command_reference").markdown(), remedy
    assert re.findall(r"^## `stemd (.+)`$", page, re.M) == list(COMMANDS)
    assert "|  |" not in page, "an option says nothing of itself"


def test_every_topic_stands_in_the_reference() -> None:
    channels = yaml.safe_load((ROOT / "docs/asyncapi.yaml").read_text())["channels"].values()
    topics = {each["address"].removeprefix("stemd/{instrument}/") for each in channels}
    rows = re.findall(r"^\| `…/(\S+)` \|", (REFERENCE / "mqtt.md").read_text(), re.M)
    told = {row.replace("<", "{").replace(">", "}") for row in rows}
    assert topics == told


def pages() -> list[Path]:
    inner = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))
    return sorted([*ROOT.glob("*.md"), *inner])


def test_every_link_between_documents_leads_somewhere() -> None:
    broken = []
    for page in pages():
        for link in LINK.findall(page.read_text()):
            target = unquote(link.split("#")[0])
            if target and ":" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert broken == []


def test_every_page_is_reached_from_the_navigation_and_from_the_list_of_documents() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    listed = set(re.findall(r"[\w/-]+\.md", json.dumps(config["nav"])))
    kinds = [next(iter(each)) for each in config["nav"]]
    assert kinds == ["Home", "Tutorials", "How to", "Reference", "Explanation"]
    contents = (ROOT / "docs/README.md").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        name = str(page.relative_to(ROOT / "docs"))
        if not name.startswith("adr/"):
            assert name in listed, f"add {name} to mkdocs.yml"
            assert name == "README.md" or f"({name})" in contents, f"add {name} to docs/README.md"


def test_what_the_container_is_made_of_is_there_and_complete() -> None:
    text = (ROOT / "container/Containerfile").read_text()
    copied = {name for line in re.findall(r"^COPY (.*)$", text, re.M) for name in line.split()[:-1]}
    for name in copied:
        assert (ROOT / name).exists(), name
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    for name in [*wheel["packages"], *wheel["force-include"], "README.md", "LICENSE"]:
        assert name.split("/")[0] in copied, f"{name} is part of the wheel"
    (command,) = re.findall(r"^CMD (.*)$", text, re.M)
    assert json.loads(command)[0] in COMMANDS
    compose = yaml.safe_load((ROOT / "container/compose.yaml").read_text())
    stemd = compose["services"]["stemd"]
    assert (ROOT / "container" / stemd["build"]["context"] / "container/Containerfile").exists()
    mounts = [each["target"] if isinstance(each, dict) else each for each in stemd["volumes"]]
    assert json.loads(command)[1] in mounts


@pytest.mark.mosquitto
def test_the_container_s_broker_takes_its_config(
    mosquitto_with: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    lines = (ROOT / "container/mosquitto.conf").read_text().splitlines()
    own = ("listener ", "persistence ")  # the port, and a folder of the container
    kept = [line.replace("/mosquitto/data/", f"{tmp_path}/") for line in lines]
    broker = mosquitto_with(*[line for line in kept if not line.startswith(own)])
    assert broker.process is not None
    assert broker.process.poll() is None
