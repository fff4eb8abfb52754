"""Adapters and sinks of somebody else that hang while they are made, and when they are closed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import free_port, wait_until
from tests.faults.test_start_faults import Started, _health

HUNG = '''
import threading
import time
from pathlib import Path

from stemd.adapters.base import AdapterSettings
from stemd.blocks import Link
from stemd.events import Sink
from stemd.plugins import NoSettings, Plugin


class Settings(AdapterSettings):
    """`go`: a file without which the adapter does not get ready."""

    go: str


class Hung:
    """Hangs in its driver, first and last."""

    def __init__(self, settings):
        while not Path(settings.go).exists():
            time.sleep(0.05)
        self.scans = []

    def read(self, pool, stop):
        yield Link(True, f"{len(self.scans)} scans were set")
        stop.wait()

    def set_scan(self, scan):
        self.scans.append(scan)

    def command(self, name, args):
        return {"told": name}

    @property
    def commands(self):
        return frozenset({"start"})

    def close(self):
        threading.Event().wait()


class HungSink(Sink):
    """Never made."""

    def __init__(self, settings, host):
        threading.Event().wait()


ADAPTER = Plugin("hung", "hangs", Settings, Hung, works_on="images")
SINK = Plugin("hungsink", "hangs", NoSettings, HungSink)
'''
CONFIG = """
[daemon]
instrument = "hung"
data_dir = "data"

[page]
listen = "127.0.0.1:{page}"

[[sink]]
type = "hungsink"

[[pipeline]]
name = "late"
[pipeline.adapter]
type = "hung"
go = "go"

[[pipeline]]
name = "never"
[pipeline.adapter]
type = "hung"
go = "never"

[[pipeline]]
name = "sound"
[pipeline.adapter]
type = "images"
folder = "images"
poll_s = 0.1
"""
IMPATIENT = """
import sys
from stemd.daemon import outlets
from stemd.daemon.pipeline import building
building.BUILD_S, outlets.START_S = 2.0, 1.0
from stemd.cli.main import main
sys.exit(main(["run", sys.argv[1]]))
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[tuple[Started, int]]:
    """A daemon with two adapters and a sink that hang, and where its page is."""
    site = tmp_path / "site"
    about = site / "hung-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "hung.py").write_text(HUNG)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: hung\nVersion: 1.0\n")
    groups = "[stemd.adapters]\nhung = hung:ADAPTER\n[stemd.sinks]\nhungsink = hung:SINK\n"
    (about / "entry_points.txt").write_text(groups)
    (tmp_path / "images").mkdir()
    port = free_port()
    started = Started(
        tmp_path,
        CONFIG.format(page=port),
        program=("-c", IMPATIENT),
        PYTHONPATH=f"{site}:{os.environ.get('PYTHONPATH', '')}",
    )
    yield started, port
    started.process.kill()
    started.process.wait()


def red_of(port: int) -> dict[str, Any]:
    """What is red, by its message's first word."""
    return {each["message"].split(":")[0]: each for each in _health(port)["red"]}


def test_a_plugin_that_never_returns_is_left_out_and_keeps_nobody_waiting(
    daemon: tuple[Started, int], tmp_path: Path
) -> None:
    started, port = daemon
    started.said('"ready"')
    red = red_of(port)
    for name in ("late", "never"):
        text = f"the adapter hung of {name} was not ready within 2 s: the pipeline is left out"
        assert text in red[name]["message"]
        assert red[name]["what"] == "adapter"
        assert red[name]["remedy"]
    (sink,) = [each for each in red.values() if each["what"] == "sink hungsink"]
    assert "was not ready within 1 s" in sink["message"]
    states = {name: each["state"] for name, each in _health(port)["pipelines"].items()}
    assert states == {"late": "fault", "never": "fault", "sound": "waiting"}

    (tmp_path / "go").touch()
    wait_until(lambda: "late" not in red_of(port), "it is there after all", 20.0)
    wait_until(lambda: _health(port)["pipelines"]["late"]["camera_connected"], "it works", 20.0)
    began = time.monotonic()
    code, _ = started.stop()
    assert code == 0, started.log()
    assert time.monotonic() - began < 5.0
    assert "Traceback" not in started.log()


def test_a_plugin_that_hangs_does_not_delay_a_stop_at_the_start(
    daemon: tuple[Started, int],
) -> None:
    started, _ = daemon
    started.said("kernels are compiled")
    code, seconds = started.stop()
    assert code == 0, started.log()
    assert seconds < 5.0
    assert '"ready"' not in started.log()
