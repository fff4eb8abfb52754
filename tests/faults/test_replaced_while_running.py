"""Another version of stemd is installed over one that runs: old code never meets new files."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest
import tifffile

import stemd
from stemd import installation
from stemd.errors import ModelError
from stemd.inference import catalogue, worker
from stemd.inference.worker import NetworkThread
from stemd.installation import Installation, ReplacedError
from stemd.offline.completion.maker import made
from stemd.offline.replay.player import Player
from stemd.offline.same_code import CODE
from tests.conftest import free_port, wait_until
from tests.inference.models import smoother

CONFIG = """
[daemon]
instrument = "old"
data_dir = "data"

[page]
listen = "127.0.0.1:{port}"

[[pipeline]]
name = "microscope"

[pipeline.adapter]
type = "images"
folder = "images"
poll_s = 0.1
"""
ANOTHER = """
[[pipeline]]
name = "camera"

[pipeline.adapter]
type = "timepix3"
scan = { shape = [4, 4] }

[[pipeline.engine]]
type = "pacbed"
"""


def _update(package: Path) -> None:
    """What pip does, with a version of which no module fits the others."""
    for path in package.rglob("*.py"):
        path.unlink()
        path.write_text("raise RuntimeError('code of another version')\n")
    (package / "__init__.py").write_text('__version__ = "9.9.9"\n')
    for path in [*package.rglob("*.onnx"), *package.rglob("*.js"), *package.rglob("*.html")]:
        path.write_text("of another version")
    shutil.rmtree(package / "storage")


class Old:
    """A daemon of a package of its own, which is then replaced."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.package = folder / "site" / "stemd"
        ignored = shutil.ignore_patterns("__pycache__", "*.onnx")
        shutil.copytree(Path(stemd.__file__).parent, self.package, ignore=ignored)
        (folder / "images").mkdir()
        self.configure("")
        with (folder / "log.txt").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "stemd", "run", "stemd.toml"],
                cwd=folder,
                stderr=log,
                # a package of its own has a cache of its own: nothing is compiled here
                env={
                    **os.environ,
                    "PYTHONPATH": str(folder / "site"),
                    "NUMBA_DISABLE_JIT": "1",
                },
            )
        self.said('"ready"')

    def configure(self, more: str) -> None:
        (self.folder / "stemd.toml").write_text(CONFIG.format(port=self.port) + more)

    def said(self, words: str) -> None:
        def found() -> bool:
            assert self.process.poll() is None, self.log()
            return words in self.log()

        wait_until(found, words, 60.0)

    def log(self) -> str:
        return (self.folder / "log.txt").read_text()

    def get(self, path: str) -> tuple[int, bytes]:
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=10) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            return error.code, error.read()

    def red(self) -> list[dict[str, Any]]:
        return list(json.loads(self.get("healthz")[1])["red"])

    def image(self, name: str) -> Path:
        """Put an image into the folder; what becomes of it."""
        noise = np.random.default_rng(1).poisson(9.0, (32, 32)).astype(np.float32)
        before = set(self.folder.glob("data/*/*/image.tif"))
        tifffile.imwrite(self.folder / "images" / name, noise)

        def written() -> set[Path]:
            return set(self.folder.glob("data/*/*/image.tif")) - before

        wait_until(written, "the image is a scan", 30.0)
        return written().pop()


def _document(scan: Path) -> dict[str, Any]:
    return dict(json.loads((scan / "scan.json").read_text()))


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Old]:
    """A daemon that runs."""
    made = Old(tmp_path)
    yield made
    made.process.kill()
    made.process.wait()


def test_a_daemon_under_which_another_version_was_installed_goes_on_and_asks_for_a_restart(
    old: Old,
) -> None:
    pages = [old.get(name) for name in ("", "app.js")]
    assert [status for status, _ in pages] == [200, 200]
    assert old.red() == []
    _update(old.package)
    # while the files are being replaced it says that they are
    wait_until(lambda: "was installed" in str(old.red()), "health is red", 30.0)
    (red,) = old.red()
    assert red["what"] == "version"
    assert f"stemd 9.9.9 was installed while {stemd.__version__} runs" in red["message"]
    assert "restart" in red["remedy"]
    assert old.get("healthz")[0] == 503
    old.said("stemd 9.9.9 was installed")

    scan = old.image("after.tif").parent
    wait_until(lambda: _document(scan)["status"] == "complete", "the scan is complete", 30.0)
    assert _document(scan)["versions"]["stemd"] == stemd.__version__
    assert [old.get(name) for name in ("", "app.js")] == pages

    # adapters and engines that nothing has used so far
    old.configure(ANOTHER)
    old.process.send_signal(signal.SIGHUP)
    old.said("config read again")
    assert "another version" not in old.log().replace("stemd 9.9.9", "")
    assert "Traceback" not in old.log()
    old.process.send_signal(signal.SIGTERM)
    assert old.process.wait(20.0) == 0


def test_files_that_are_written_again_with_the_same_contents_are_no_other_version(
    tmp_path: Path,
) -> None:
    package = tmp_path / "stemd"
    package.mkdir()
    (package / "__init__.py").write_text(f'__version__ = "{stemd.__version__}"\n')
    (package / "a.py").write_text("1\n")
    mine = Installation(package)
    assert mine.changed() is None
    for path in package.iterdir():
        text = path.read_text()
        path.unlink()
        path.write_text(text)
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "a.nbi").touch()
    assert mine.changed() is None
    assert mine.digest == Installation(package).digest
    (package / "a.py").write_text("2\n")
    assert "were changed while it runs" in str(mine.changed())
    (package / "a.py").write_text("1\n")
    assert mine.changed() is None
    (package / "b.py").touch()
    assert mine.changed() is not None
    (package / "b.py").unlink()
    (package / "a.py").unlink()
    assert mine.changed() is not None
    (package / "__init__.py").unlink()
    assert "is being replaced or was removed" in str(mine.changed())


@pytest.fixture
def replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process runs the code of a package that is not there any more in this form."""
    package = tmp_path / "stemd"
    package.mkdir()
    (package / "__init__.py").write_text('__version__ = "1"\n')
    mine = Installation(package)
    monkeypatch.setattr(installation, "at_start", lambda: mine)
    (package / "__init__.py").write_text('__version__ = "2"\n')
    return package


async def test_neither_replay_nor_completion_is_begun_with_other_code(replaced: Path) -> None:
    def told(*_: object) -> None:
        raise AssertionError

    async def shown(*_: object) -> None:
        raise AssertionError

    job: Any = None
    with pytest.raises(ReplacedError, match=r"stemd 2 was installed while .* a restart is needed"):
        await made(job, told)
    with pytest.raises(ReplacedError, match="restart"):
        await Player(job, told, shown).start()


@pytest.mark.parametrize("module", ["stemd.offline.completion", "stemd.offline.replay"])
async def test_a_process_of_other_code_than_the_daemons_ends_before_it_reads_anything(
    module: str,
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", module),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, CODE: "another"},
    )
    _, said = await process.communicate()
    assert process.returncode == 1
    assert b"stemd was replaced while the daemon runs: restart stemd" in said


def test_a_network_that_came_with_stemd_stays_the_one_that_was_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = tmp_path / "models"
    shipped.mkdir()
    for name in ("used", "unused"):
        (shipped / f"{name}.onnx").write_bytes(smoother())
    monkeypatch.setattr(catalogue, "shipped_folder", lambda: shipped)
    monkeypatch.setattr(worker, "shipped_folder", lambda: shipped)
    mine = Installation(shipped)
    monkeypatch.setattr(installation, "at_start", lambda: mine)
    thread = NetworkThread()
    first = thread.network("used", "onnxruntime", 1)
    for path in shipped.iterdir():
        path.write_bytes(b"of another version")
    assert thread.network("used", "onnxruntime", 1) is first
    (shipped / "used.onnx").unlink()
    assert thread.network("used", "onnxruntime", 1) is first
    with pytest.raises(ModelError, match=r"model unused: .* a restart is needed"):
        thread.network("unused", "onnxruntime", 1)
