"""The config file as text: what is edited elsewhere is checked, and saved whole or not at all."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemd.config.file import load, parse
from stemd.config.problems import ConfigProblemsError
from stemd.config.text import MAX_BYTES, MAX_PROBLEMS, check, read, save
from stemd.daemon.config_requests import ConfigRequests
from stemd.daemon.requests import Requests
from stemd.errors import ConfigError, StemdError
from stemd.events import Hub
from tests.daemon.test_config import GOOD

COMMENTED = GOOD.replace("kernel_size = 21", "kernel_size = 21  # atoms")
EDITED = COMMENTED.replace("kernel_size = 21", "kernel_size = 31")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "stemd.toml"
    path.write_text(COMMENTED)
    path.chmod(0o640)
    return path


def names(file: Path) -> list[str]:
    """What lies in its folder."""
    return sorted(path.name for path in file.parent.iterdir())


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_saved_text_is_in_the_file_as_written_and_the_one_before_beside_it(
    file: Path, ending: str
) -> None:
    file.write_text(COMMENTED, newline=ending)
    before = file.read_bytes()
    found = read(file)
    assert found.text == COMMENTED
    saved = save(file, EDITED, found.digest)
    assert file.read_bytes() == EDITED.replace("\n", ending).encode()
    assert load(file).pipelines[0].engines[0].settings.model_dump()["kernel_size"] == 31
    assert (file.parent / "stemd.toml.before").read_bytes() == before
    assert file.stat().st_mode & 0o777 == 0o640
    assert (file.parent / "stemd.toml.before").stat().st_mode & 0o777 == 0o640
    assert names(file) == ["stemd.toml", "stemd.toml.before"]
    assert save(file, COMMENTED, saved.digest).digest == found.digest, "and once more"


def test_a_file_that_has_been_changed_meanwhile_is_left_alone(file: Path) -> None:
    found = read(file)
    file.write_text(COMMENTED + "# by hand\n")
    with pytest.raises(ConfigError, match="changed since it was read"):
        save(file, EDITED, found.digest)
    assert file.read_text() == COMMENTED + "# by hand\n"
    assert names(file) == ["stemd.toml"]


@pytest.mark.parametrize(
    ("text", "line", "key", "said"),
    [
        (EDITED.replace("= 31", "= 30"), 18, "pipeline[0].engine[0].kernel_size", "odd"),
        (EDITED.replace("[pipeline.optics]", "[pipeline.optics"), 13, "", "TOML"),
        ("", None, "pipeline", "no pipeline"),
        ("a = " + "[" * 5000, None, "", ""),
        ("a = \x00", 1, "", "TOML"),
    ],
)
def test_a_text_with_errors_is_not_saved_and_each_is_told_with_its_line(
    file: Path, text: str, line: int | None, key: str, said: str
) -> None:
    checked = check(text, "stemd.toml")
    assert checked.config is None
    first = checked.problems[0]
    assert (first["key"], said in first["message"]) == (key, True)
    assert line is None or first["line"] == line
    with pytest.raises(ConfigError, match="is not saved"):
        save(file, text, read(file).digest)
    assert file.read_text() == COMMENTED


def test_what_is_doubted_is_told_and_saved_all_the_same(file: Path) -> None:
    doubtful = EDITED.replace("pixel_size_mrad = 0.5", "pixel_size_mrad = 0.5\nenergy_ev = 300")
    assert any("300 keV" in doubt for doubt in check(doubtful, "x").doubts)
    save(file, doubtful, read(file).digest)
    assert file.read_text() == doubtful


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder as systemd shows /etc: mounted read-only."""
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "stemd.toml").write_text(COMMENTED)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        (folder / "stemd.toml").write_text(COMMENTED)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        yield folder / "stemd.toml"
    finally:
        subprocess.run(["umount", str(folder)], check=True)


async def test_on_a_read_only_folder_nothing_can_be_saved_and_the_remedy_is_told_at_once(
    read_only: Path,
) -> None:
    answer = await desk(read_only)({"id": 1, "command": "read", "args": {}})
    assert answer["text"] == COMMENTED
    assert "read-only" in answer["not_writable"]["message"]
    assert "ReadWritePaths" in answer["not_writable"]["remedy"]
    with pytest.raises(ConfigError, match="read-only file system") as caught:
        save(read_only, EDITED, answer["digest"])
    assert "ReadWritePaths" in caught.value.remedy


def test_a_disk_that_is_full_leaves_the_file_as_it_was(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="no space left"):
        save(file, EDITED, read(file).digest)
    assert file.read_text() == COMMENTED
    assert names(file) == ["stemd.toml"]


def desk(path: Path | None, error: StemdError | None = None) -> ConfigRequests:
    async def reload() -> StemdError | None:
        return error

    return ConfigRequests(path, lambda: parse(COMMENTED), reload)


async def test_a_check_says_what_a_reload_would_do(file: Path) -> None:
    other = COMMENTED[COMMENTED.index("[[pipeline]]") :].replace('name = "merlin"', 'name = "two"')

    async def effects(text: str) -> list[Any]:
        answer = await desk(file)({"command": "check", "args": {"text": text}})
        assert answer["problems"] == []
        return [answer[key] for key in ("restarts", "starts", "stops", "needs_restart")]

    assert await effects(COMMENTED) == [[], [], [], []]
    assert await effects(EDITED) == [["merlin"], [], [], []]
    assert await effects(COMMENTED + other) == [[], ["two"], [], []]
    assert await effects(COMMENTED.replace('name = "merlin"', 'name = "two"')) == [
        *([], ["two"], ["merlin"], []),
    ]
    assert (await effects("[mqtt]\nurl = 'embedded'\n" + COMMENTED))[3] == ["mqtt"]


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"command": ["read"]},
        {"command": "rm"},
        {"command": "read", "args": {"path": "/etc/passwd"}},
        {"command": "read", "args": []},
        {"command": "check"},
        {"command": "check", "args": {"text": 1}},
        {"command": "save", "args": {"text": EDITED}},
        {"command": "save", "args": {"text": EDITED, "digest": ""}},
        {"command": "save", "args": {"text": "\ud800", "digest": ""}},
        {"command": "check", "args": {"text": "\ud800"}},
        {"command": "check", "args": {"text": "#" * (MAX_BYTES + 1)}},
    ],
)
async def test_what_is_no_request_is_refused_and_nothing_is_touched(
    file: Path, request_: dict[str, Any]
) -> None:
    reply = await Requests({}, desk(file))("daemon", "config", {"id": 7, **request_})
    assert (reply["id"], reply["ok"]) == (7, False)
    assert reply["error"]["message"]
    assert read(file).text == COMMENTED


async def test_a_reload_tells_why_it_was_refused_and_a_demo_has_no_file(file: Path) -> None:
    hub = Hub()
    ask = {"id": 1, "command": "reload", "args": {}}
    assert not (await hub.request("daemon", "config", ask))["ok"], "not ready yet"
    hub.handler = Requests({}, desk(file, StemdError("the new config is refused", "do this")))
    reply = await hub.request("daemon", "config", ask)
    assert reply["error"] == {
        "key": None,
        "message": "the new config is refused",
        "allowed": "do this",
    }
    hub.handler = Requests({}, desk(file))
    assert await hub.request("daemon", "config", ask) == {"id": 1, "ok": True}
    hub.handler = Requests({}, desk(None))
    assert "no config file" in (await hub.request("daemon", "config", ask))["error"]["message"]
    assert not (await hub.request("daemon", "command", ask))["ok"], "MQTT cannot ask for it"


HARD = {
    "many unknown keys": "[daemon]\n" + "".join(f"k{i}=1\n" for i in range(4000)),
    "many tables": GOOD
    + "".join(f'[[pipeline.engine]]\ntype="com"\nname="c{i}"\n' for i in range(1000)),
    "many broken engines": GOOD + "[[pipeline.engine]]\n" * 6000,
    "many pipelines": "[[pipeline]]\n" * 9000,
    "spaces": "[[pipeline]]\nname = '''\n[" + " " * 100_000 + "\n'''",
    "dots": "[[pipeline]]\nname = '''\na" + ".a" * 50_000 + "\n'''",
    "long word": "[[pipeline]]\nname = '" + "x" * 100_000 + "'",
    "nested": "a = " + "[" * 100_000,
}


@pytest.mark.parametrize("name", HARD)
def test_a_text_made_to_be_slow_is_answered_in_seconds_and_in_few_words(name: str) -> None:
    began = time.thread_time()
    checked = check(HARD[name], "x")
    assert time.thread_time() - began < 3.0
    assert len(checked.problems) <= MAX_PROBLEMS
    assert sum(len(str(problem)) for problem in checked.problems) < 100_000


MORE = ("[[pipeline]]", "= 1e999", "= nan", "[[sink]]", "[page]", "[[session]]", "x = {a=1}")
WORDS = st.sampled_from([*GOOD.splitlines(), *MORE, "type = 'com'", "\ufeff", "= -99999999999999"])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        WORDS | st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=20
    ).map("\n".join)
)
def test_any_text_is_checked_without_another_error(text: str) -> None:
    found = check(text, "x")
    assert (found.config is None) == bool(found.problems)


def test_no_pipeline_is_called_as_the_daemon_is_in_topics() -> None:
    with pytest.raises(ConfigProblemsError, match="daemon's own"):
        parse(GOOD.replace('name = "merlin"', 'name = "daemon"'))
