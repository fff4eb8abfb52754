"""A daemon to be measured: on a camera of memory, or on the virtual camera over TCP."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

CONFIG = """
[daemon]
data_dir = {data}
[page]
listen = "127.0.0.1:{page}"
[[pipeline]]
name = "bench"
[pipeline.adapter]
type = "merlin"
host = "127.0.0.1"
data_port = {camera}
scan = {{ shape = [{scan}, {scan}], step_size_angstrom = 0.2 }}
[pipeline.optics]
pixel_size_mrad = 0.5
[[pipeline.engine]]
type = "ricom"
kernel_size = 21
[[pipeline.engine]]
type = "com"
[[pipeline.engine]]
type = "virtual_detector"
detectors = {{ bf = [0.0, 10.0], adf = [20.0, 50.0] }}
[[pipeline.engine]]
type = "pacbed"
[pipeline.publish]
rate_hz = 10.0
[pipeline.record]
raw = {raw}
results = []
"""
WARM_POSITIONS = 20_000
"""Before the first turn: everything is compiled, and images have been published."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is scanned: positions and detector pixels a side, frames a second (0: no limit)."""

    scan: int = 256
    detector: int = 256
    rate: int = 0
    raw: bool = False


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class BenchDaemon:
    """A daemon that scans until it is closed; with `memory` on the camera of that name.

    `page` is the page's port, `reader` the id of the reader's thread on a camera of memory.
    """

    def __init__(self, folder: Path, load: Load, *, memory: bool) -> None:
        self.page, self.camera_port = free_port(), free_port()
        config = folder / "bench.toml"
        config.write_text(
            CONFIG.format(
                data=json.dumps(str(folder)),
                page=self.page,
                camera=self.camera_port,
                scan=load.scan,
                raw=str(load.raw).lower(),
            )
        )
        self.camera = None if memory else self._camera(load)
        program = ("benchmarks.page", "daemon") if memory else ("stemd", "run")
        self.process = subprocess.Popen(
            [sys.executable, "-m", *program, str(config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "STEMD_BENCH_SIDE": str(load.detector)},
        )
        self.reader = self.process.pid
        if memory:
            assert self.process.stdout is not None
            self.reader = int(json.loads(self.process.stdout.readline())["reader"])

    def _camera(self, load: Load) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "stemd", "virtual", "merlin"),
                *("--rate", str(load.rate), "--pool", "64", "--scans", "0", "--gap", "0"),
                *("--scan", f"{load.scan}x{load.scan}"),
                *("--detector", f"{load.detector}x{load.detector}"),
                *("--port", str(self.camera_port), "--control-port", "0"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def health(self) -> dict[str, object]:
        """The pipeline's health document, empty while the page does not answer."""
        try:
            url = f"http://127.0.0.1:{self.page}/healthz"
            with urllib.request.urlopen(url, timeout=5) as reply:
                health = json.load(reply)
        except OSError:
            return {}
        found: dict[str, object] = health.get("pipelines", {}).get("bench", {})
        return found

    def positions(self) -> int:
        """Positions since the start, 0 while the page does not answer."""
        return int(str(self.health().get("positions", 0)))

    def warm(self) -> None:
        """Wait until it scans at its full speed."""
        while self.positions() < WARM_POSITIONS:
            time.sleep(0.3)

    def cpu_s(self) -> tuple[float, float, float]:
        """Processor seconds so far: all threads, the event loop's, the reader's."""
        # schedstat counts in nanoseconds, stat in ticks of 10 ms
        total = 0.0
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            try:
                total += int((task / "schedstat").read_text().split()[0]) / 1e9
            except OSError:  # the thread has ended meanwhile
                continue
        return total, self._thread_s(self.process.pid), self._thread_s(self.reader)

    def crowded_s(self) -> float:
        """Seconds so far that the reader's thread was ready to run and something else ran."""
        path = Path(f"/proc/{self.process.pid}/task/{self.reader}/schedstat")
        return int(path.read_text().split()[1]) / 1e9

    def _thread_s(self, thread: int) -> float:
        path = Path(f"/proc/{self.process.pid}/task/{thread}/schedstat")
        return int(path.read_text().split()[0]) / 1e9

    def backlog_bytes(self) -> int:
        """What waits in the kernel for the reader, on the socket of a camera over TCP."""
        wanted = f":{self.camera_port:04X}"
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[2].endswith(wanted) and fields[3] == "01":
                return int(fields[4].partition(":")[2], 16)
        return 0

    def close(self) -> None:
        """End all."""
        for process in (self.process, self.camera):
            if process is not None:
                process.terminate()
                process.wait(20)
        if self.process.stdout is not None:
            self.process.stdout.close()
