"""A daemon and a broker in processes of their own, for the long trials."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

_PR_SET_PDEATHSIG = 1
CONFIG = """
[daemon]
instrument = "trial"
data_dir = "{data}"

{mqtt}

[[pipeline]]
name = "cam"

[pipeline.adapter]
type = "merlin"
data_port = {port}
idle_timeout_s = {idle}
pause_timeout_s = {idle}
scan = {{ shape = [{ny}, {nx}] }}

[[pipeline.engine]]
type = "ricom"
kernel_size = 5

[[pipeline.engine]]
type = "virtual_detector"
detectors_px = {{ bf = [0.0, 5.0] }}

[pipeline.record]
raw = true
"""


def ends_with_parent() -> None:
    """In a child that begins: be ended with the trial, however that is killed (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """mosquitto, where it is installed."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        user = ["user root"] if os.geteuid() == 0 else []
        lines = [f"listener {self.port} 127.0.0.1", "allow_anonymous true", *user]
        self._config.write_text("\n".join(lines) + "\n")
        self.process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def available() -> bool:
        """Whether there is one."""
        return shutil.which("mosquitto") is not None

    def start(self) -> None:
        """Start it, again on the same port."""
        command = ["mosquitto", "-c", str(self._config)]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=ends_with_parent,
        )

    def send(self, number: signal.Signals) -> None:
        """A signal: SIGSTOP freezes it."""
        if self.process is not None:
            self.process.send_signal(number)

    def stop(self) -> None:
        """Kill it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    @property
    def table(self) -> str:
        """The config's [mqtt]."""
        return f'[mqtt]\nurl = "mqtt://127.0.0.1:{self.port}"'


class Daemon:
    """`stemd run`, told ready by its own notification."""

    def __init__(
        self, folder: Path, config: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.config = folder / "trial.toml"
        self.config.write_text(config)
        self._notify = folder / "notify"
        self._notify.unlink(missing_ok=True)
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._channel.bind(str(self._notify))
        self._ready = threading.Event()
        threading.Thread(target=self._hear, daemon=True).start()
        self._log = (folder / "log.txt").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stemd", "run", str(self.config)],
            env={**os.environ, "NOTIFY_SOCKET": str(self._notify), **(environment or {})},
            stdout=self._log,
            stderr=self._log,
            preexec_fn=ends_with_parent,
        )

    def wait_ready(self, seconds: float = 600.0) -> None:
        """Until READY. Raises RuntimeError when it does not come."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            if self._ready.wait(0.2):
                return
        raise RuntimeError(f"the daemon did not become ready: see {self.folder / 'log.txt'}")

    def _hear(self) -> None:
        with contextlib.suppress(OSError):
            while said := self._channel.recv(4096):  # nothing: it is shut
                if b"READY=1" in said:
                    self._ready.set()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[float, int]:
        """Send a signal; (seconds until it had ended, exit status)."""
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            status = self.process.wait(30.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        took = time.monotonic() - began
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        self._channel.close()
        self._log.close()
        return took, status
