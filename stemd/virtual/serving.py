"""What all virtual cameras share: scans to one client at a time, paced, cut off on request."""

from __future__ import annotations

import socket
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass

from stemd.logs import get_logger
from stemd.virtual.ports import POLL_S, DataPort

log = get_logger()

PACE_S = 0.004
"""Frames are sent in groups of about this time, so that a slow scan grows smoothly."""


class AbandonedError(Exception):
    """The client went away, or the scan was stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """How a camera runs.

    `rate` in frames a second (0: as fast as the reader takes them), `scans` to make (0: endless),
    `gap_s` between scans, `stay`: keep the connections after the last scan until stopped.
    `disconnect_after` so many frames or positions the connection is closed, once.
    """

    host: str = "127.0.0.1"
    port: int = 0
    rate: float = 1000.0
    scans: int = 0
    gap_s: float = 1.0
    stay: bool = False
    disconnect_after: int | None = None


class VirtualCamera(ABC):
    """The data port and the loop of a camera; `_send_scan` is the camera's own.

    The port is open once this is made. `run` sends in the caller's thread until `close` (callable
    from any thread or a signal handler) or the last scan. A scan begins when a client is there
    and is abandoned when it leaves. `sent` counts frames, or positions, since the beginning.
    """

    def __init__(self, running: Running) -> None:
        self.running = running
        self.scan = 0
        self.sent = 0
        self._stop = threading.Event()
        self._abort = self._stop
        self._disconnected = False
        self._data = DataPort(running.host, running.port)

    @property
    def data_port(self) -> int:
        """The port that data come from."""
        return self._data.port

    def close(self) -> None:
        """End `run` soon."""
        self._stop.set()

    def run(self) -> None:
        """Send scans until closed or done. Raises what rendering raises."""
        scans = self.running.scans
        try:
            while not self._stop.is_set() and (scans == 0 or self.scan < scans):
                client = self._data.client(POLL_S) if self._may_start() else None
                if client is None:
                    continue
                try:
                    self._send_scan(client)
                except AbandonedError:
                    log.debug("scan abandoned", scan=self.scan)
                self.scan += 1
                if scans == 0 or self.scan < scans:
                    self._stop.wait(self.running.gap_s)
            while self.running.stay and not self._stop.is_set():
                self._stop.wait(POLL_S)
        finally:
            self._stop.set()
            self._close_ports()

    def _may_start(self) -> bool:
        """Whether a scan is due; waits a moment where it is not."""
        return True

    def _close_ports(self) -> None:
        self._data.close()

    @abstractmethod
    def _send_scan(self, client: socket.socket) -> None:
        """Send scan number `scan`. Raises AbandonedError."""

    def _send(self, client: socket.socket, data: memoryview) -> None:
        """Send to its end, once begun: a camera that is stopped stops between two frames."""
        while data:
            if self._stop.is_set():
                raise AbandonedError
            try:
                data = data[client.send(data) :]
            except TimeoutError:
                continue
            except OSError as error:
                self._data.drop(client)
                raise AbandonedError from error

    def _check(self, client: socket.socket) -> None:
        """Raise AbandonedError where the scan was stopped or the client has left."""
        if self._abort.is_set() or self._data.client() is not client:
            raise AbandonedError

    def _pace(self, begin: float, frames: int) -> float:
        """Wait until so many frames of the scan are due; returns when it is taken to have begun:
        a reader that was slow is not made up for later.
        """
        if self.running.rate <= 0:
            return begin
        late = time.monotonic() - (begin + frames / self.running.rate)
        if late < 0:
            self._abort.wait(-late)
            return begin
        return begin + max(0.0, late - 0.1)

    def _hang_up_if_due(self, client: socket.socket) -> None:
        due = self.running.disconnect_after
        if due is not None and not self._disconnected and self.sent >= due:
            self._disconnected = True
            self._data.drop(client)
            raise AbandonedError
