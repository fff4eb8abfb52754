"""Streams of which no frame comes, on every kind of adapter: told once, red, and over by itself."""

from __future__ import annotations

import json
import random
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stemd import entry_points
from stemd.acquisition import Scan
from stemd.adapters.advapix.records import records
from stemd.adapters.events.layout import Layout
from stemd.adapters.merlin.encoder import Camera, encode_frame, encode_hdr, message
from tests.adapters import quicksilver
from tests.adapters.conftest import foreign, package
from tests.conftest import Mosquitto, OutsideClient, free_port, wait_until
from tests.daemon.running import RunningDaemon
from tests.dectris.streams import HELLO
from tests.dectris.streams import series as dectris_series
from tests.faults.conftest import Row
from tests.faults.streams import Feeder, GrowingFile
from tests.timepix3 import streams

__all__ = ["foreign", "package"]

pytestmark = [pytest.mark.mosquitto, pytest.mark.waits]

SHAPE = (6, 8)
EVENTS = Scan(shape=SHAPE, flyback=2, dwell_time_us=10.0)
KIND = Camera((16, 16), 12)
NOTICED_S = 25.0
LOG_BYTES, LOG_MESSAGES = 20_000, 12
"""What one pipeline may say of it in the daemon's log, and on MQTT."""
ELSEWHERE = """
import threading, time
from pathlib import Path
from stemd.adapters.files import FilesAdapter, FilesSettings
from stemd.blocks import Link
from stemd.plugins import Plugin

class Settings(FilesSettings):
    pass

class Geiger(FilesAdapter):
    '''Counts bytes of nothing until its file is there.'''
    received_bytes = 0
    no_frames = "put the lid on"

    def read(self, pool, stop):
        yield Link(True, "the counter ticks")
        while not self.settings.path.exists():
            self.received_bytes += 50_000
            if stop.wait(0.05):
                return
        yield from super().read(pool, stop)

PLUGIN = Plugin(name="geiger", summary="", settings=Settings, build=Geiger)
"""
CONFIG = """
[daemon]
instrument = "many"
data_dir = @DATA@

[mqtt]
url = "{broker}"

[page]
listen = "127.0.0.1:{page}"
"""
PIPELINE = """
[[pipeline]]
name = "{name}"

[pipeline.adapter]
scan = {{ shape = [6, 8], flyback = 2, dwell_time_us = 10.0 }}
{adapter}

[[pipeline.engine]]
type = "sum"
"""


@dataclass
class Stream:
    """What one pipeline is given, and how its config names the adapter."""

    adapter: str
    source: Feeder | GrowingFile | None = None


def junk(without: bytes) -> Callable[[], bytes]:
    """Random bytes in which no message begins, 4 MB a second."""
    one = random.Random(1).randbytes(200_000).replace(without, bytes([without[0] ^ 0x20]))
    return lambda: one


def frames(encode: Callable[[np.ndarray, int], bytes]) -> Callable[[], bytes]:
    """A whole scan, its flyback too."""
    count = SHAPE[0] * (SHAPE[1] + 2)
    return lambda: b"".join(encode(np.ones((16, 16), np.uint16), n) for n in range(count))


def merlin_frame(image: np.ndarray, index: int) -> bytes:
    return message(encode_frame(image, KIND, index + 1))


def images_of_another_kind() -> bytes:
    """Whole images whose compression nobody knows: no garbage, and no frames."""
    return dectris_series(range(60), 60).replace(b"bslz4", b"bzzz4")


def hits_without_pulses() -> Callable[[], bytes]:
    chips = streams.Camera(layout=Layout("single"), edges=())
    at = [1_000_000]

    def more() -> bytes:
        at[0] += 32_000_000
        return b"".join(
            chips.chunks(streams.electrons(EVENTS, 2000, layout=chips.layout, start=at[0]))
        )

    return more


def pulsed_scan() -> bytes:
    chips = streams.Camera(layout=Layout("single"))
    made = streams.electrons(EVENTS, 20_000, layout=chips.layout, dwell=6400)
    return b"".join(chips.chunks(made))


def recorded_scan() -> bytes:
    made = streams.electrons(EVENTS, 20_000, layout=Layout("single"), dwell=6400, start=16)
    return records(made.time, made.y, made.x).tobytes()


def make_streams(folder: Path) -> Iterator[tuple[str, Stream]]:
    """One of each kind of adapter and of fault."""
    head = message(encode_hdr(KIND, SHAPE[0] * (SHAPE[1] + 2)))
    scan = head + frames(merlin_frame)()
    frame_cameras = {
        "merlin-garbage": ("merlin", "data_port", junk(b"M"), lambda: scan),
        "merlin-headers": ("merlin", "data_port", lambda: head * 20, lambda: scan),
        "foreign-garbage": (
            *(quicksilver.NAME, "port", junk(b"Q")),
            frames(quicksilver.encode),
        ),
    }
    event_cameras = {"timepix-garbage": junk(b"T"), "timepix-hits": hits_without_pulses()}
    for name, (kind, key, bad, good) in frame_cameras.items():
        source = Feeder(bad, good)
        text = f'type = "{kind}"\nhost = "127.0.0.1"\n{key} = {source.port}\nidle_timeout_s = 1.0'
        yield name, Stream(text, source)
    for name, bad in event_cameras.items():
        source = Feeder(bad, pulsed_scan)
        text = f'type = "timepix3"\nmode = "connect"\nhost = "127.0.0.1"\nport = {source.port}'
        yield name, Stream(text + "\nidle_timeout_s = 1.0", source)
    dectris = {"dectris-garbage": junk(b"\x05"), "dectris-unreadable": images_of_another_kind}
    for name, bad in dectris.items():
        source = Feeder(bad, lambda: dectris_series(range(60), 60), HELLO)
        text = f'type = "dectris"\nhost = "127.0.0.1"\ndata_port = {source.port}'
        yield name, Stream(text + "\nidle_timeout_s = 1.0", source)
    path = folder / "live.t3p"
    file = GrowingFile(path, lambda: b"\xff" * 16_000, recorded_scan)
    text = f'type = "advapix"\npath = "{path}"\nidle_timeout_s = 1.0'
    yield "advapix-garbage", Stream(text, file)
    yield "foreign-events", Stream(f'type = "geiger"\npath = "{folder / "later.npy"}"')


@pytest.fixture
def geiger(package: Path, foreign: None) -> Iterator[None]:
    """An adapter of somebody else that is no frame camera."""
    (package / "geiger_counter.py").write_text(ELSEWHERE)
    info = package / "geiger_counter-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: geiger-counter\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[stemd.adapters]\ngeiger = geiger_counter:PLUGIN\n")
    entry_points.entries.cache_clear()
    yield
    sys.modules.pop("geiger_counter", None)


class Many:
    """A daemon with one pipeline for each stream."""

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        self.streams = dict(make_streams(folder))
        self.page = free_port()
        text = CONFIG.format(broker=broker.url, page=self.page)
        for name, stream in self.streams.items():
            text += PIPELINE.format(name=name, adapter=stream.adapter)
        self.client = OutsideClient(broker.port, version5=True)
        self.log = folder / "log.txt"
        self.daemon = RunningDaemon(folder, text)

    def red(self) -> dict[str, dict[str, Any]]:
        """What /healthz says of streams, by pipeline."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.page}/healthz", timeout=5) as ok:
                found = json.load(ok)["red"]
        except urllib.error.HTTPError as error:
            with error:
                found = json.load(error)["red"]
        except OSError:
            return {}
        streams_ = [each for each in found if each["what"] == "stream"]
        return {each["message"].partition(":")[0]: each for each in streams_}

    def errors(self, name: str) -> list[dict[str, Any]]:
        """What the newest state of a pipeline says is wrong."""
        states = self.client.on(f"stemd/many/{name}/state")
        return json.loads(states[-1].payload)["errors"] if states else []

    def close(self) -> None:
        """End everything."""
        self.daemon.close()
        self.client.close()
        for stream in self.streams.values():
            if stream.source is not None:
                stream.source.close()


def test_a_stream_without_frames_is_red_on_every_adapter_until_frames_come(
    tmp_path: Path, mosquitto: Mosquitto, geiger: None, row: Callable[[str], Row]
) -> None:
    many = Many(tmp_path, mosquitto)
    try:
        lines = {name: row(f"stream without frames: {name}") for name in many.streams}
        wait_until(lambda: many.red(), "the first is red", 90.0)
        wait_until(
            lambda: many.red().keys() == many.streams.keys(),
            f"all are red: {many.red()}",
            NOTICED_S,
        )
        for name, each in many.red().items():
            assert each["remedy"]
            wait_until(
                lambda name=name: any(e["kind"] == "stream" for e in many.errors(name)), "state"
            )
            source, said = many.streams[name].source, many.client.on(f"stemd/many/{name}/log")
            logged = [t for t in many.log.read_text().splitlines() if f'"pipeline": "{name}"' in t]
            assert sum(map(len, logged)) < LOG_BYTES, logged[-5:]
            assert len(said) < LOG_MESSAGES, [m.payload for m in said]
            lines[name].sent = f"{source.sent if source is not None else 0} bytes"
            lines[name].arrived = f"0 scans, {len(said)} MQTT messages, {len(logged)} log lines"
            lines[name].said = each["message"]
            if isinstance(source, Feeder):
                assert source.connections < 10
        np.save(tmp_path / "later.npy", np.ones((60, 16, 16), np.uint16))
        for stream in many.streams.values():
            if stream.source is not None:
                stream.source.heal()
        wait_until(lambda: not many.red(), f"all is well: {many.red()}", 60.0)
        for name, line in lines.items():
            wait_until(
                lambda name=name: not any(e["kind"] == "stream" for e in many.errors(name)), "state"
            )
            line.healed = "yes"
    finally:
        many.close()
