"""What every adapter owes the daemon, whatever its camera; one suite for all of them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stemd import plugins
from stemd.acquisition import Scan
from stemd.adapters.base import Adapter
from stemd.blocks import BlockPool, Ended, EventBlock, FrameBlock, Link, Message, Notice, Started
from stemd.errors import CameraError
from tests.adapters.quicksilver import NAME
from tests.conftest import patience

SHAPE = (6, 8)
Source = tuple[str, dict[str, Any]]


@dataclass
class Taken:
    """Everything that an adapter has said, its blocks released as the daemon does."""

    messages: list[Message] = field(default_factory=list)
    positions: dict[str, set[int]] = field(default_factory=dict)
    ended: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None

    def take(self, message: Message) -> None:
        if isinstance(message, FrameBlock | EventBlock):
            seen = self.positions.setdefault(message.acquisition.id, set())
            if isinstance(message, EventBlock):
                for first, stop in message.complete:
                    seen.update(range(first, stop))
            else:
                seen.update(int(p) for p in message.probe[: message.count] if p >= 0)
            message.release()
        self.messages.append(message)

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.messages if isinstance(message, kind)]


class Reading:
    """`read` in a thread, as the daemon runs it."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter, self.taken, self.pool = adapter, Taken(), BlockPool(4 << 20)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            for message in self.adapter.read(self.pool, self.stop):
                self.taken.take(message)
        except BaseException as error:
            self.taken.error = error
        finally:
            self.taken.ended.set()

    def until(self, what: Callable[[Taken], bool], seconds: float = 30.0) -> None:
        end = time.monotonic() + patience(seconds)
        while not what(self.taken):
            assert self.taken.error is None, self.taken.error
            assert time.monotonic() < end, [type(m).__name__ for m in self.taken.messages]
            time.sleep(0.01)

    def close(self) -> bool:
        """Stop it; whether it ended within the second that it has."""
        self.stop.set()
        self.pool.close()
        self.adapter.close()
        return self.taken.ended.wait(patience(1.0))


def camera(*arguments: str) -> tuple[subprocess.Popen[str], int]:
    command = [sys.executable, "-m", "stemd", "virtual", *arguments, "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        document = json.loads(line) if line.startswith("{") else {}
        if document.get("event") == "ready":
            return process, int(document["data_port"])
    raise AssertionError("the virtual camera did not start")


def cameras() -> list[str]:
    """Every adapter that has a virtual camera: a new one is tested without a line here."""
    known = plugins.catalogue("adapters")
    return [plugin.name for plugin in known if plugin.virtual or plugin.encode is not None]


@pytest.fixture(params=[*cameras(), NAME, "files"])
def source(request: pytest.FixtureRequest, tmp_path: Path, foreign: None) -> Iterator[Source]:
    """A source of scans of SHAPE, one after the other, and the config of its adapter."""
    scan = {"shape": list(SHAPE)}
    size = f"{SHAPE[0]}x{SHAPE[1]}"
    if request.param == "files":
        path = tmp_path / "scan.npy"
        np.save(path, np.ones((*SHAPE, 16, 16), np.uint16))
        yield "files", {"path": str(path), "scan": scan, "repeat": True, "rate_hz": 500.0}
        return
    process, port = camera(request.param, "--scan", size, "--rate", "500", "--gap", "0.3")
    fields = plugins.load("adapters", request.param).settings.model_fields
    name = "data_port" if "data_port" in fields else "port"
    try:
        yield request.param, {"host": "127.0.0.1", name: port, "scan": scan}
    finally:
        process.kill()
        process.communicate()


def adapter_of(source: Source) -> Adapter:
    name, table = source
    plugin = plugins.load("adapters", name)
    adapter: Adapter = plugin.build(plugin.settings.model_validate(table))
    return adapter


def test_scans_come_in_order_each_begun_filled_and_ended(source: Source) -> None:
    reading = Reading(adapter_of(source))
    reading.until(lambda taken: len(taken.of(Ended)) >= 3)
    assert reading.close()
    running: str | None = None
    for message in reading.taken.messages:
        match message:
            case Started():
                assert running is None
                running = message.acquisition.id
                assert message.acquisition.scan.shape == SHAPE
            case FrameBlock() | EventBlock():
                assert message.acquisition.id == running
            case Ended():
                assert message.acquisition.id == running
                running = None
    # the first scan may have been under way when we came
    whole = list(reading.taken.positions.values())[1:2]
    assert whole == [set(range(SHAPE[0] * SHAPE[1]))]
    assert len({m.acquisition.id for m in reading.taken.of(Started)}) >= 3


def test_it_says_that_the_camera_is_there_before_anything_else(source: Source) -> None:
    reading = Reading(adapter_of(source))
    reading.until(lambda taken: bool(taken.of(Started)))
    assert reading.close()
    spoken = [m for m in reading.taken.messages if not isinstance(m, Notice)]
    assert isinstance(spoken[0], Link)
    assert spoken[0].connected


@pytest.mark.parametrize("moment", ["at once", "in a scan"])
def test_it_ends_within_a_second_of_being_told(source: Source, moment: str) -> None:
    reading = Reading(adapter_of(source))
    if moment == "in a scan":
        reading.until(lambda taken: bool(taken.positions))
    assert reading.close()
    assert reading.taken.error is None or "Pool" in type(reading.taken.error).__name__


def test_a_new_geometry_holds_from_the_next_scan_on(source: Source) -> None:
    adapter = adapter_of(source)
    reading = Reading(adapter)
    reading.until(lambda taken: bool(taken.of(Started)))
    adapter.set_scan(Scan(shape=(SHAPE[0] // 2, SHAPE[1] * 2)))
    known = len(reading.taken.of(Started))
    reading.until(
        lambda taken: any(
            m.acquisition.scan.shape == (SHAPE[0] // 2, SHAPE[1] * 2)
            for m in taken.of(Started)[known:]
        )
    )
    assert reading.close()


def test_an_unknown_command_is_refused_in_words(source: Source) -> None:
    adapter = adapter_of(source)
    with pytest.raises(CameraError) as refused:
        adapter.command("dance", {})
    assert "dance" in str(refused.value)
    adapter.close()


def test_memory_comes_back_however_many_scans_have_gone_by(source: Source) -> None:
    reading = Reading(adapter_of(source))
    out = []
    for scans in (2, 6):
        reading.until(lambda taken, scans=scans: len(taken.of(Ended)) >= scans)
        out.append(reading.pool.buffers - len(reading.pool._free))
    assert reading.close()
    # an adapter holds on to the blocks that it is filling, and to no others
    assert abs(out[1] - out[0]) <= 1
    assert max(out) <= 4
