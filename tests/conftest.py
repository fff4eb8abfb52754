"""Fixtures that several rooms share: scans with results, a real broker, an outside client."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import paho.mqtt.client as paho
import pytest
import structlog
from hypothesis import settings

from stemd.acquisition import Acquisition, Detector, Scan
from stemd.results import Result, Snapshot
from tests import handing_out, left_behind

WAIT_SECONDS = 60.0
NOTHING_MAY_BE_MISSING = os.environ.get("STEMD_REQUIRE_SERVICES") == "1"
"""Set by .ci/run: a test that is skipped has failed, whatever its reason."""
Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


SLOW_FOLDERS = ("airpi", "cluster", "faults", "restoration", "system")
SLOW_FIXTURES = {"daemon", "laboratory", "make_rig", "module_rig", "room"}
"""They start a daemon or a replay, which takes seconds of a processor."""


# No deadlines: an example that compiles a kernel takes seconds. Where nothing may be missing every
# run tries the same examples: what has passed lands, and new ones are found by whoever works here.
settings.register_profile("anywhere", deadline=None)
settings.load_profile("ci" if NOTHING_MAY_BE_MISSING else "anywhere")


def pytest_configure(config: pytest.Config) -> None:
    handing_out.register(config)
    _default_logs()
    left_behind.watch_loops()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell's `pytest &` has Ctrl-C ignored by whatever the tests start, which is not meant.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what is slow for a reason that can be seen; the rest says so itself."""
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        browser = item.get_closest_marker("browser") is not None
        slow = folder in SLOW_FOLDERS or browser
        if slow or SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
    items[:] = handing_out.waiting_first(items)


def _default_logs() -> None:
    """structlog's own, but with plain tracebacks: its own take up to a second."""
    structlog.reset_defaults()
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _skipped_is_failed((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _skipped_is_failed((yield))


def _skipped_is_failed(report: Report) -> Report:
    if report.skipped and NOTHING_MAY_BE_MISSING:
        path, line, reason = report.longrepr  # type: ignore[misc]
        report.outcome = "failed"
        report.longrepr = f"{path}:{line}: nothing may be missing here, but {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Fail the test that leaves something behind, by name."""
    result = yield
    _default_logs()  # a command that ran in this process hides what is no warning
    if left := left_behind.take():
        pytest.fail("\n".join([f"{item.nodeid} leaves behind:", *left]), pytrace=False)
    return result


@pytest.fixture
def tiny_numbers_stay() -> Iterator[None]:
    """Training has its thread's processor take them for zero, which is faster; not for long."""
    import torch

    yield
    torch.set_flush_denormal(False)


def patience(seconds: float) -> float:
    """Seconds to wait for what takes `seconds` at most on a quiet machine."""
    waiting_for_each_processor = os.getloadavg()[0] / (os.cpu_count() or 1)
    return seconds * max(1.0, 2.0 * waiting_for_each_processor)


def wait_until(condition: Callable[[], object], what: str, seconds: float = WAIT_SECONDS) -> None:
    """Poll until true; fails with `what` if it never is."""
    end = time.monotonic() + patience(seconds)
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds} s in vain until {what}")
        time.sleep(0.01)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def an_acquisition(shape: tuple[int, int] = (6, 9), **fields: object) -> Acquisition:
    """A small non-square scan with a step size of 0.2 angstrom."""
    scan = Scan(shape=shape, step_size_angstrom=0.2, dwell_time_us=100.0)
    detector = Detector("virtual", (64, 48), "u2", 12, header="HDR,")
    return Acquisition(scan, detector, **fields)  # type: ignore[arg-type]


def a_snapshot(
    acquisition: Acquisition,
    *,
    names: tuple[str, ...] = ("ricom",),
    final: bool = False,
    sequence: int = 1,
    fill: float | None = None,
) -> Snapshot:
    """A snapshot with one image a name: a ramp, or all `fill`."""
    shape = acquisition.scan.shape
    ramp = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
    image = ramp if fill is None else np.full(shape, fill, np.float32)
    results = [
        Result(name, image, "a.u.", pixel_size=0.2, extra={"kernel_size": 21}) for name in names
    ]
    total = acquisition.scan.positions
    done = total if final else total // 2
    return Snapshot(
        acquisition, results, done, total, final, sequence, 1_764_000_000_123_456_789, 3
    )


@dataclass
class Mosquitto:
    """A real mosquitto on a port of 127.0.0.1; `options` are further lines of its config."""

    folder: Path
    options: tuple[str, ...] = ("allow_anonymous true",)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it accepts connections."""
        config = self.folder / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", "persistence false", *self.options]
        if os.geteuid() == 0:
            lines.append("user root")  # else it changes to a user who may not read tmp_path
        config.write_text("\n".join(lines) + "\n")
        self.process = subprocess.Popen(
            ["mosquitto", "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(self._accepts, "mosquitto listens")

    def _accepts(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def send(self, number: signal.Signals) -> None:
        """Send a signal, e.g. SIGSTOP to make it hang."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        """Kill it: retained messages are gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"mqtt://127.0.0.1:{self.port}"


def require(program: str) -> None:
    """Skip the test where a program is missing."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not on PATH (.ci/run installs it)")


@pytest.fixture
def mosquitto_with(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    """Starts mosquitto with the given config lines; mark the test with `mosquitto`."""
    require("mosquitto")
    brokers: list[Mosquitto] = []

    def start(*options: str) -> Mosquitto:
        folder = tmp_path / f"mosquitto{len(brokers)}"
        folder.mkdir()
        broker = Mosquitto(folder, options or ("allow_anonymous true",))
        brokers.append(broker)
        broker.start()
        return broker

    yield start
    for broker in brokers:
        broker.stop()


@pytest.fixture
def mosquitto(mosquitto_with: Callable[..., Mosquitto]) -> Mosquitto:
    """A real mosquitto that lets everybody in."""
    return mosquitto_with()


class OutsideClient:
    """A program of somebody else's: paho in a thread of its own, which keeps what it hears."""

    def __init__(self, port: int, *, version5: bool, topics: str = "#", **login: str) -> None:
        self.messages: list[paho.MQTTMessage] = []
        self.version5 = version5
        self._ready = threading.Event()
        version = paho.MQTTv5 if version5 else paho.MQTTv311
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=version)
        if login:
            self.client.username_pw_set(login["username"], login["password"])
        self.client.on_message = lambda client, userdata, message: self.messages.append(message)
        self.client.on_connect = lambda client, *rest: client.subscribe(topics, qos=1)
        self.client.on_subscribe = lambda *rest: self._ready.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self._ready.wait(WAIT_SECONDS), "the outside client could not subscribe"

    def on(self, topic: str) -> list[paho.MQTTMessage]:
        """What came on this topic, in order."""
        return [message for message in self.messages if message.topic == topic]

    def wait_for(self, topic: str, count: int = 1) -> list[paho.MQTTMessage]:
        """Wait for so many messages on a topic."""
        wait_until(lambda: len(self.on(topic)) >= count, f"{count} message(s) on {topic} came")
        return self.on(topic)

    def close(self) -> None:
        """Disconnect and end the thread."""
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def outside() -> Iterator[Callable[..., OutsideClient]]:
    """Makes outside clients and closes them."""
    clients: list[OutsideClient] = []

    def make(port: int, *, version5: bool = True, topics: str = "#", **login: str) -> OutsideClient:
        client = OutsideClient(port, version5=version5, topics=topics, **login)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()
