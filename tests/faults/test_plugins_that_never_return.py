"""Adapters and sinks of somebody else that hang while they are made, and when they are closed."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
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


class Deaf(Hung):
    """Is there, and hangs in whatever it is told later."""

    def set_scan(self, scan):
        threading.Event().wait()

    def reconnect(self):
        threading.Event().wait()


class DeafSink(Sink):
    """Hangs in the first settings that somebody has changed."""

    def __init__(self, settings, host):
        pass

    def on_settings(self, pipeline, settings):
        if settings["changed"]:
            threading.Event().wait()


ADAPTER = Plugin("hung", "hangs", Settings, Hung, works_on="images")
DEAF = Plugin("deaf", "hangs later", Settings, Deaf, works_on="images")
DEAF_SINK = Plugin("deafsink", "hangs later", NoSettings, DeafSink)
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
DEAF = """
[daemon]
instrument = "deaf"
data_dir = "data"

[page]
listen = "127.0.0.1:{page}"

[[sink]]
type = "deafsink"

[[pipeline]]
name = "deaf"
[pipeline.adapter]
type = "deaf"
go = "."
scan = {{ shape = [4, 5] }}
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
def daemon(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Started, int]]:
    """A daemon with adapters and a sink that hang, and where its page is."""
    site = tmp_path / "site"
    about = site / "hung-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "hung.py").write_text(HUNG)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: hung\nVersion: 1.0\n")
    groups = (
        "[stemd.adapters]\nhung = hung:ADAPTER\ndeaf = hung:DEAF\n"
        "[stemd.sinks]\nhungsink = hung:SINK\ndeafsink = hung:DEAF_SINK\n"
    )
    (about / "entry_points.txt").write_text(groups)
    (tmp_path / "images").mkdir()
    port = free_port()
    started = Started(
        tmp_path,
        getattr(request, "param", CONFIG).format(page=port),
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


async def ask(port: int, *requests: dict[str, Any]) -> list[dict[str, Any]]:
    """What the page answers to these, sent together, in the order of their ids."""
    replies: dict[str, dict[str, Any]] = {}
    async with (
        asyncio.timeout(60.0),
        aiohttp.ClientSession() as client,
        client.ws_connect(f"http://127.0.0.1:{port}/ws", max_msg_size=0) as ws,
    ):
        for each in requests:
            await ws.send_json({"type": "request", "pipeline": "deaf", **each})
        while len(replies) < len(requests):
            heard = await ws.receive()
            document = json.loads(heard.data) if heard.type is aiohttp.WSMsgType.TEXT else {}
            if document.get("type") == "reply":
                reply = document["document"]
                replies[reply["id"]] = reply
    return [replies[key] for key in sorted(replies)]


@pytest.mark.parametrize("daemon", [DEAF], indirect=True)
def test_a_plugin_that_hangs_in_what_it_is_told_later_stops_nobody_else(
    daemon: tuple[Started, int],
) -> None:
    started, port = daemon
    started.said('"ready"')
    longest = 0.0
    over = threading.Event()

    def watch() -> None:
        nonlocal longest
        while not over.wait(0.2):
            began = time.monotonic()
            _health(port)
            longest = max(longest, time.monotonic() - began)

    watching = threading.Thread(target=watch)
    watching.start()
    change = {"kind": "settings", "request": {"id": "1", "scan": {"shape": [7, 9]}}}
    again = {"kind": "command", "request": {"id": "2", "command": "reconnect"}}
    start = {"kind": "command", "request": {"id": "3", "command": "start"}}
    changed, reconnected, begun = asyncio.run(ask(port, change, again, start))
    assert changed["ok"], "the settings are in force, whatever the adapter does"
    for reply, call in ((reconnected, "reconnect"), (begun, "set_scan")):
        assert f"has not returned from {call} for 5 s" in reply["error"]["message"]
    for what in ("the adapter of deaf has not returned from", "sink deafsink has not returned"):
        wait_until(lambda what=what: what in json.dumps(_health(port)["red"]), what, 20.0)
    over.set()
    watching.join()
    assert longest < 4.0, "the event loop has waited for one of them"
    code, seconds = started.stop()
    assert code == 0, started.log()
    assert seconds < 5.0
    assert "Traceback" not in started.log()
