"""A virtual Timepix3 readout: serves raw chunks over TCP as SERVAL does."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass

import numpy as np

from stemd.virtual.serving import AbandonedError, Running, VirtualCamera
from stemd.virtual.timepix3.events import EventSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Timepix3Running(Running):
    """`rate` is in positions a second. `drop` and `garbage` are probabilities for each piece of
    the stream to be lost, or to have junk before it.
    """

    port: int = 8451
    drop: float = 0.0
    garbage: float = 0.0
    seed: int = 1


class Timepix3Camera(VirtualCamera):
    """Serves a source of events to one client at a time."""

    def __init__(self, source: EventSource, running: Timepix3Running) -> None:
        super().__init__(running)
        self.sent_bytes = 0
        self._source = source
        self._drop, self._garbage = running.drop, running.garbage
        self._random = np.random.default_rng([running.seed, 4])

    def _send_scan(self, client: socket.socket) -> None:
        begin: float | None = None
        sent = 0
        for data, frames in self._source.pieces(self.scan, self._stop):
            begin = time.monotonic() if begin is None else begin
            sent += frames
            self._send_piece(client, data)
            self.sent += frames
            begin = self._pace(begin, sent)
            self._hang_up_if_due(client)
        if self._data.client() is not client:
            raise AbandonedError

    def _send_piece(self, client: socket.socket, data: bytes) -> None:
        if self._random.random() < self._garbage:
            size = int(self._random.integers(1, 200))
            junk = self._random.integers(0, 256, size, np.uint8).tobytes()
            data = junk.replace(b"T", b"t") + data
        if self._random.random() < self._drop:
            return
        self._send(client, memoryview(data))
        self.sent_bytes += len(data)
