"""Cameras that vanish without a word: the link is deleted, the sockets stay open."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from stemd.acquisition import Scan
from stemd.adapters.base import Adapter
from stemd.adapters.dectris.adapter import DectrisAdapter, DectrisSettings
from stemd.adapters.merlin import MerlinAdapter, MerlinSettings
from stemd.adapters.merlin.encoder import Camera
from stemd.adapters.timepix3.adapter import Timepix3Adapter
from stemd.blocks import BlockPool, Ended, EventBlock, FrameBlock, Link, Message, Started
from tests.dectris.streams import HELLO, frame, start
from tests.merlin.streams import acquisition
from tests.timepix3 import streams

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="network namespaces need root and ip"
)
SCAN = Scan(shape=(12, 17), flyback=3, dwell_time_us=1.0)
NOTICED_S = 30.0
PORT = 6342
SERVE = """
import socket, sys
first = sys.stdin.buffer.read(int(sys.argv[1]))
with socket.create_server((sys.argv[2], 6342)) as listener:
    print("here", flush=True)
    kept = []
    while True:
        peer, _ = listener.accept()
        peer.sendall(first)
        kept.append(peer)
"""


def ip(*words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words], check=check, capture_output=True, timeout=20)


class Elsewhere:
    """A camera in a network namespace of its own, at the other end of a virtual cable."""

    def __init__(self, name: str, number: int) -> None:
        self.name, self.cable = name, f"v{name}"
        self.here, self.host = f"10.213.{77 + number}.1", f"10.213.{77 + number}.2"
        ip("netns", "add", name)
        self._camera: subprocess.Popen[bytes] | None = None
        self.plug()

    def plug(self) -> None:
        ip("link", "add", self.cable, "type", "veth", "peer", "name", "cam0", "netns", self.name)
        ip("addr", "add", f"{self.here}/24", "dev", self.cable)
        ip("link", "set", self.cable, "up")
        ip("-n", self.name, "addr", "add", f"{self.host}/24", "dev", "cam0")
        ip("-n", self.name, "link", "set", "cam0", "up")
        ip("-n", self.name, "link", "set", "lo", "up")

    def switch_on(self, stream: bytes) -> None:
        """A server that sends this to everybody and then keeps the connection open."""
        words = ["ip", "netns", "exec", self.name, sys.executable, "-c", SERVE]
        words += [str(len(stream)), self.host]
        made = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._camera = made
        assert made.stdin is not None
        assert made.stdout is not None
        made.stdin.write(stream)
        made.stdin.close()
        assert made.stdout.readline() == b"here\n"

    def lose_power(self) -> None:
        """No end of stream, no reset: first the cable goes, then the program."""
        ip("link", "del", self.cable)
        self.switch_off()

    def switch_off(self) -> None:
        if self._camera is not None:
            self._camera.send_signal(signal.SIGKILL)
            self._camera.wait(10)
            assert self._camera.stdout is not None
            self._camera.stdout.close()
            self._camera = None

    def remove(self) -> None:
        self.switch_off()
        ip("link", "del", self.cable, check=False)
        ip("netns", "del", self.name)


@pytest.fixture
def elsewhere() -> Iterator[list[Elsewhere]]:
    with contextlib.ExitStack() as stack:
        made = []
        for number in range(3):
            made.append(Elsewhere(f"s{os.getpid()}-{number}"[-12:], number))
            stack.callback(made[-1].remove)
        yield made


@dataclass
class Reading:
    """An adapter in its thread."""

    adapter: Adapter
    messages: list[Message] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.pool = BlockPool(16 << 20)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        for message in self.adapter.read(self.pool, self.stop):
            if isinstance(message, FrameBlock | EventBlock):
                message.release()
            else:
                self.messages.append(message)

    def links(self) -> list[Link]:
        return [m for m in self.messages if isinstance(m, Link)]

    def count(self, kind: type[Message]) -> int:
        return sum(isinstance(m, kind) for m in self.messages)

    def until(self, condition: Callable[[], object], seconds: float) -> float:
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < seconds, self.messages
            time.sleep(0.05)
        return time.monotonic() - began

    def end(self) -> None:
        self.stop.set()
        self.adapter.close()
        self.thread.join(5)
        assert not self.thread.is_alive()


def merlin(host: str, part: bool) -> tuple[Adapter, bytes]:
    settings = MerlinSettings(
        host=host, data_port=PORT, scan=Scan(shape=(4, 5), flyback=0), pause_timeout_s=60.0
    )
    stream = acquisition(Camera((6, 10), 12), range(1, 11), 20)
    return MerlinAdapter(settings), stream if part else b""


def timepix3(host: str, part: bool) -> tuple[Adapter, bytes]:
    settings = streams.settings(SCAN, host=host, port=PORT, idle_timeout_s=60.0)
    stream = streams.Camera().stream(streams.electrons(SCAN, 6000))
    return Timepix3Adapter(settings), stream[: len(stream) // 2 // 8 * 8] if part else b""


def dectris(host: str, part: bool) -> tuple[Adapter, bytes]:
    settings = DectrisSettings(
        host=host, data_port=PORT, scan=Scan(shape=(4, 5), flyback=0), pause_timeout_s=60.0
    )
    series = start(20) + b"".join(frame(number) for number in range(10))
    return DectrisAdapter(settings), HELLO + (series if part else b"")


@pytest.mark.slow
@pytest.mark.parametrize("part", [False, True], ids=["idle", "in mid-scan"])
def test_cameras_that_lose_their_power_are_noticed_and_found_again(
    elsewhere: list[Elsewhere], part: bool
) -> None:
    """Each kind of camera beside the others: nearly all of the time is waiting for silence."""
    makers = (merlin, timepix3, dectris)
    with ThreadPoolExecutor(len(makers)) as pool:
        jobs = [
            pool.submit(loses_its_power, place, make, part)
            for place, make in zip(elsewhere, makers, strict=True)
        ]
        for job in jobs:
            job.result()


def loses_its_power(
    place: Elsewhere, make: Callable[[str, bool], tuple[Adapter, bytes]], part: bool
) -> None:
    adapter, stream = make(place.host, part)
    place.switch_on(stream)
    reading = Reading(adapter)
    try:
        reading.until(lambda: reading.count(Started) if part else reading.links(), 120.0)
        assert reading.links()[-1].connected
        place.lose_power()
        took = reading.until(lambda: not reading.links()[-1].connected, NOTICED_S)
        sys.stdout.write(f"{make.__name__}: {took:.1f} s: {reading.links()[-1].text}\n")
        assert "no sign of the" in reading.links()[1].text
        assert " since 20" in reading.links()[1].text
        assert reading.count(Ended) == part
        place.plug()
        place.switch_on(stream)
        reading.until(lambda: reading.links()[-1].connected, 30.0)
        reading.until(lambda: reading.count(Started) == 2 * part, 30.0)
    finally:
        reading.end()
