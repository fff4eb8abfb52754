"""A daemon in a process of its own, and a camera that cuts its stream where it likes."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stemd.adapters.merlin.encoder import message


class CuttingCamera:
    """Serves scans of a recorded file as Merlin messages, in pieces of random length.

    Each scan goes to whoever is connected when `scan` is called.
    """

    def __init__(self, hdr: bytes, seed: int = 0) -> None:
        self._hdr = hdr
        self._random = random.Random(seed)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._client: socket.socket | None = None
        self._accepted = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                if self._client is not None:
                    self._client.close()
                self._client = client
                self._accepted.set()

    def wait_for_client(self) -> None:
        """Return when somebody has connected."""
        assert self._accepted.wait(30.0), "nobody connected to the camera"

    def scan(self, frames: list[bytes], pause_s: float = 0.0) -> None:
        """Send the HDR and these frames (header and pixels)."""
        self.wait_for_client()
        assert self._client is not None
        stream = message(self._hdr) + b"".join(message(frame) for frame in frames)
        position = 0
        while position < len(stream):
            length = self._random.choice([1, 14, 15, 16, 400, 5_000, 70_000, 200_000])
            self._client.sendall(stream[position : position + length])
            position += length
            if pause_s:
                time.sleep(pause_s)

    def hang_up(self) -> None:
        """Close the connection; a new one is accepted."""
        self._accepted.clear()
        if self._client is not None:
            self._client.close()
            self._client = None

    def close(self) -> None:
        """Close everything."""
        self._server.close()
        self.hang_up()


@functools.cache
def compile_kernels() -> None:
    """Compile what is not in numba's cache yet, once a session.

    A first start takes minutes of a processor for it, longer than any test would wait. Of several
    workers one compiles, and the others wait for what it leaves in the cache.
    """
    session = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"alone, process {os.getpid()}")
    with (Path(tempfile.gettempdir()) / "stemd-tests-compile").open("a+") as one:
        fcntl.flock(one, fcntl.LOCK_EX)
        one.seek(0)
        if one.read() == session:
            return
        subprocess.run([sys.executable, "-m", "stemd", "bench", "--warm"], check=True)
        one.truncate(0)
        one.write(session)


class RunningDaemon:
    """`stemd run` of a config text."""

    def __init__(
        self, folder: Path, text: str, environment: Mapping[str, str] | None = None
    ) -> None:
        compile_kernels()
        self.data_dir = folder / "data"
        self.config = folder / "stemd.toml"
        self.config.write_text(text.replace("@DATA@", json.dumps(str(self.data_dir))))
        self.log = (folder / "log.txt").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stemd", "run", str(self.config)],
            stderr=self.log,
            stdout=self.log,
            env={**os.environ, **(environment or {})},
        )

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 20.0) -> int:
        """Send a signal and wait for the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def close(self) -> None:
        """Kill it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def scans(self) -> list[dict[str, Any]]:
        """All scan.json, the oldest first."""
        return [
            json.loads(path.read_text()) for path in sorted(self.data_dir.glob("*/*/scan.json"))
        ]

    def folders(self) -> list[Path]:
        """All scan folders, the oldest first."""
        return [path.parent for path in sorted(self.data_dir.glob("*/*/scan.json"))]
