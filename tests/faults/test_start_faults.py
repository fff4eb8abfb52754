"""Starts that are cut off, that wait for somebody else's engine, or find no room or no port."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.conftest import free_port, wait_until
from tests.daemon.rig import POSITIONS, Rig
from tests.daemon.running import compile_kernels
from tests.faults.conftest import Row

Rows = Callable[[str], Row]

CONFIG = """
[daemon]
instrument = "start"
data_dir = "data"

[page]
listen = "127.0.0.1:{page}"

[[pipeline]]
name = "cam"

[pipeline.adapter]
type = "{adapter}"

{engines}
"""
FOREIGN = '''
import threading

from stemd.engines.sum import SumEngine
from stemd.plugins import Plugin
from stemd.settings import EngineSettings


class Settings(EngineSettings):
    """None of its own."""


class Endless(SumEngine):
    """Is never ready."""

    def __init__(self, settings):
        super().__init__(settings)
        self.name = settings.name or "endless"

    def start(self, acquisition, settings, maps):
        if acquisition.id == "warm-up":
            threading.Event().wait()
        super().start(acquisition, settings, maps)


ENDLESS = Plugin("endless", "never ready", Settings, Endless)
'''
IMPATIENT = """
import sys
from stemd.daemon import warming
warming.LATE_S = 2.0
from stemd.cli.main import main
sys.exit(main(["run", sys.argv[1]]))
"""


class Started:
    """A daemon of a config, in a folder of its own."""

    def __init__(
        self,
        folder: Path,
        config: str,
        program: tuple[str, ...] = ("-m", "stemd", "run"),
        **environment: str,
    ) -> None:
        self.folder = folder
        (folder / "stemd.toml").write_text(config)
        with (folder / "log.txt").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *program, "stemd.toml"],
                cwd=folder,
                stderr=log,
                env=os.environ | environment,
            )

    def log(self) -> str:
        """What it has said."""
        return (self.folder / "log.txt").read_text()

    def said(self, words: str, seconds: float = 60.0) -> None:
        """Wait until it has said so, or has ended."""
        wait_until(lambda: words in self.log() or self.process.poll() is not None, words, seconds)
        assert words in self.log()

    def stop(self) -> tuple[int, float]:
        """Exit code of SIGTERM, and seconds until then."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30.0), time.monotonic() - began


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Starts daemons that do not outlive the test."""
    made: list[Started] = []

    def begin(config: str, **more: Any) -> Started:
        made.append(Started(tmp_path, config, **more))
        return made[-1]

    yield begin
    for each in made:
        each.process.kill()
        each.process.wait()


def test_sigterm_while_kernels_are_compiled_is_obeyed_at_once(
    start: Callable[..., Started], tmp_path: Path
) -> None:
    engine = '[[pipeline.engine]]\ntype = "ricom"\n'
    daemon = start(
        CONFIG.format(page=0, adapter="merlin", engines=engine),
        NUMBA_CACHE_DIR=str(tmp_path / "cache"),
    )
    daemon.said("kernels are compiled")
    wait_until(lambda: list(tmp_path.rglob("cache/*/*")), "it compiles", 60.0)
    code, seconds = daemon.stop()
    assert code == 0, daemon.log()
    assert seconds < 5.0
    assert '"ready"' not in daemon.log()


@pytest.mark.parametrize("kind", ["frames", "frames without optics", "repeats", "hits", "image"])
def test_a_scan_after_the_warm_up_compiles_nothing(kind: str) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "tests.faults.warm_scans", kind],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert json.loads(found.stdout.splitlines()[-1]) == []


def _install(folder: Path) -> None:
    """The package of FOREIGN as pip would leave it."""
    folder.mkdir()
    (folder / "foreign.py").write_text(FOREIGN)
    about = folder / "foreign-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[stemd.engines]\nendless = foreign:ENDLESS\n")


def _health(port: int) -> dict[str, Any]:
    try:
        with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return dict(json.load(answer))
    except HTTPError as error:
        return dict(json.load(error))


def test_an_engine_that_is_never_ready_is_left_out_and_told(
    start: Callable[..., Started], tmp_path: Path
) -> None:
    compile_kernels()
    _install(tmp_path / "site")
    engines = '[[pipeline.engine]]\ntype = "endless"\n[[pipeline.engine]]\ntype = "sum"\n'
    port = free_port()
    daemon = start(
        CONFIG.format(page=port, adapter="merlin", engines=engines),
        program=("-c", IMPATIENT),
        PYTHONPATH=f"{tmp_path / 'site'}:{os.environ.get('PYTHONPATH', '')}",
    )
    daemon.said('"ready"')
    (red,) = [each for each in _health(port)["red"] if "endless" in each["what"]]
    assert "cam: the engine endless was not ready within 2 s and is left out" in red["message"]
    assert red["remedy"]
    code, seconds = daemon.stop()
    assert code == 0, daemon.log()
    assert seconds < 5.0


def test_sigterm_while_an_engine_is_waited_for_is_obeyed_at_once(
    start: Callable[..., Started], tmp_path: Path
) -> None:
    compile_kernels()
    _install(tmp_path / "site")
    engines = '[[pipeline.engine]]\ntype = "endless"\n'
    daemon = start(
        CONFIG.format(page=0, adapter="merlin", engines=engines),
        PYTHONPATH=f"{tmp_path / 'site'}:{os.environ.get('PYTHONPATH', '')}",
    )
    daemon.said("kernels are compiled")
    code, seconds = daemon.stop()
    assert code == 0, daemon.log()
    assert seconds < 5.0


def test_a_page_whose_port_is_taken_ends_the_start_with_the_port_and_a_remedy(
    start: Callable[..., Started],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        daemon = start(CONFIG.format(page=port, adapter="merlin", engines=""))
        assert daemon.process.wait(60.0) == 1
    assert f"port {port} is in use" in daemon.log()
    assert "remedy: " in daemon.log()
    assert "Traceback" not in daemon.log()


@pytest.mark.mosquitto
@pytest.mark.parametrize("fault", ["size=1m", "nr_inodes=2"], ids=["full", "no inodes"])
def test_a_data_folder_without_room_at_the_start_is_used_as_soon_as_there_is_some(
    fault: str, make_rig: Callable[..., Rig], row: Rows
) -> None:
    line = row(f"data folder on a disk without room at the start ({fault})")
    rig = make_rig(reserve=0)
    data = rig.folder / "data"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", fault, "stemd-test", str(data)], check=True)
    try:
        if fault.startswith("size"):
            (data / "filler").write_bytes(b"x" * 2**20)
        else:
            (data / "filler").touch()
        rig.start()
        rig.camera.scan()
        document = rig.finished(1)[-1]
        assert (document["status"], document["positions_done"]) == ("not recorded", POSITIONS)
        line.wrong(rig, "disk", "no space left")
        (data / "filler").unlink()
        more = "remount,size=64m,nr_inodes=1000"
        subprocess.run(["mount", "-o", more, str(data)], check=True)
        path = data / document["started"][:10] / document["id"] / "scan.json"
        wait_until(path.exists, "scan.json is written after all", 30.0)
        line.heal(rig)
        line.count(rig)
        rig.daemon.stop()
    finally:
        subprocess.run(["umount", "-l", str(data)], check=True)
