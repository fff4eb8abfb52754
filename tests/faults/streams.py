"""Sources for one pipeline each that send what no frame comes of, and good scans when told to."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

PACE_S = 0.05


class Feeder:
    """A port that sends `bad` again and again to whoever connects, or, once `heal` was called, a
    whole scan to everybody new; behind `hello` in both cases.
    """

    def __init__(
        self, bad: Callable[[], bytes], good: Callable[[], bytes], hello: bytes = b""
    ) -> None:
        self.sent = 0
        self.connections = 0
        self._bad, self._good, self._hello = bad, good, hello
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._listener.settimeout(PACE_S)
        self._well, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def heal(self) -> None:
        """Good scans from now on."""
        self._well.set()

    def close(self) -> None:
        """No more."""
        self._stop.set()
        self._thread.join(10.0)
        self._listener.close()

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            client.settimeout(30.0)
            with client, contextlib.suppress(OSError):
                self._serve(client)

    def _serve(self, client: socket.socket) -> None:
        well = self._well.is_set()
        client.sendall(self._hello)
        if well:
            client.sendall(self._good())
        while not self._stop.is_set() and self._well.is_set() is well:
            if not well:
                data = self._bad()
                client.sendall(data)
                self.sent += len(data)
            time.sleep(PACE_S)


class GrowingFile:
    """A file that grows by `bad`, and is made anew with a whole scan once `heal` was called."""

    def __init__(self, path: Path, bad: Callable[[], bytes], good: Callable[[], bytes]) -> None:
        self.sent = 0
        self._path, self._bad, self._good = path, bad, good
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def heal(self) -> None:
        """Good scans from now on."""
        self.close()
        self._path.unlink()
        self._path.write_bytes(self._good())

    def close(self) -> None:
        """No more."""
        self._stop.set()
        self._thread.join(10.0)

    def _loop(self) -> None:
        with self._path.open("wb", buffering=0) as file:
            while not self._stop.wait(PACE_S):
                data = self._bad()
                file.write(data)
                self.sent += len(data)
