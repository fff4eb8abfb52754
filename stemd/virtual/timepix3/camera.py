"""A virtual Timepix3 readout: serves raw chunks over TCP as SERVAL does."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass

import numpy as np
import structlog

from stemd.virtual.ports import POLL_S, DataPort
from stemd.virtual.timepix3.events import EventSource

log = structlog.get_logger()


class _AbandonedError(Exception):
    """The client went away, or the camera is closed."""


@dataclass(frozen=True, slots=True)
class Running:
    """How the camera runs.

    `rate` in positions a second (0: as fast as the reader takes them), `scans` to make (0:
    endless), `gap_s` between scans, `stay`: keep the connection after the last scan. Faults:
    `drop` and `garbage` are probabilities for each piece of the stream to be lost, or to have
    junk before it; `disconnect_after` positions the connection is closed, once.
    """

    host: str = "127.0.0.1"
    port: int = 8451
    rate: float = 1000.0
    scans: int = 0
    gap_s: float = 1.0
    stay: bool = False
    drop: float = 0.0
    garbage: float = 0.0
    disconnect_after: int | None = None
    seed: int = 1


class Timepix3Camera:
    """Serves a source of events to one client at a time.

    The port is open once this is made. `run` sends in the caller's thread until `close` (from
    any thread or a signal handler) or the last scan. A scan begins when a client is there and is
    abandoned when it leaves.
    """

    def __init__(self, source: EventSource, running: Running) -> None:
        self.running = running
        self.sent_positions = 0
        self.sent_bytes = 0
        self.scan = 0
        self._source = source
        self._stop = threading.Event()
        self._random = np.random.default_rng([running.seed, 4])
        self._disconnected = False
        self._data = DataPort(running.host, running.port)

    @property
    def data_port(self) -> int:
        """The port that events come from."""
        return self._data.port

    def close(self) -> None:
        """End `run` soon."""
        self._stop.set()

    def run(self) -> None:
        """Send scans until closed or done. Raises what rendering raises."""
        scans = self.running.scans
        try:
            while not self._stop.is_set() and (scans == 0 or self.scan < scans):
                client = self._data.client(POLL_S)
                if client is None:
                    continue
                try:
                    self._send_scan(client)
                except _AbandonedError:
                    log.debug("scan abandoned", scan=self.scan)
                self.scan += 1
                if scans == 0 or self.scan < scans:
                    self._stop.wait(self.running.gap_s)
            while self.running.stay and not self._stop.is_set():
                self._stop.wait(POLL_S)
        finally:
            self._stop.set()
            self._data.close()

    def _send_scan(self, client: socket.socket) -> None:
        begin: float | None = None
        sent = 0
        for data, frames in self._source.pieces(self.scan, self._stop):
            begin = time.monotonic() if begin is None else begin
            sent += frames
            self._send(client, data)
            self.sent_positions += frames
            if self.running.rate > 0:
                late = time.monotonic() - begin - sent / self.running.rate
                if late < 0:
                    self._stop.wait(-late)
                else:
                    begin += max(0.0, late - 0.1)  # a slow reader is not made up for later
            due = self.running.disconnect_after
            if due is not None and not self._disconnected and self.sent_positions >= due:
                self._disconnected = True
                self._data.drop(client)
                raise _AbandonedError
        if self._data.client() is not client:
            raise _AbandonedError

    def _send(self, client: socket.socket, data: bytes) -> None:
        if self._random.random() < self.running.garbage:
            size = int(self._random.integers(1, 200))
            junk = self._random.integers(0, 256, size, np.uint8).tobytes()
            data = junk.replace(b"T", b"t") + data
        if self._random.random() < self.running.drop:
            return
        view = memoryview(data)
        while view:
            if self._stop.is_set():
                raise _AbandonedError
            try:
                count = client.send(view)
            except TimeoutError:
                continue
            except OSError as error:
                self._data.drop(client)
                raise _AbandonedError from error
            view = view[count:]
            self.sent_bytes += count
