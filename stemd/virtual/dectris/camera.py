"""A virtual DECTRIS camera: free-running or armed series on the stream's port."""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import dataclass, field

import numpy as np

from stemd.adapters.dectris import zmtp
from stemd.virtual.dectris.frames import STREAMS, Batch, Format, Source, Stream
from stemd.virtual.dectris.simplon import ControlUnit, RestPort
from stemd.virtual.faults import Faults
from stemd.virtual.ports import POLL_S
from stemd.virtual.serving import PACE_S, AbandonedError, Running, VirtualCamera


@dataclass(frozen=True, slots=True, kw_only=True)
class DectrisRunning(Running):
    """`stream_format` is what is sent, whatever SIMPLON is told, None: what SIMPLON is told.

    `wait_for_start`: only make series that were armed. Faults beside `faults` (of which drop,
    garbage, stall_after and stop_early count): `damage`, the share of images that cannot be
    expanded; `steal`: every second image goes to another client; `no_start`, `no_end`: these
    messages are not sent.
    """

    port: int = 31001
    control_port: int = 80
    stream_format: Format | None = "cbor"
    wait_for_start: bool = False
    faults: Faults = field(default_factory=Faults)
    damage: float = 0.0
    steal: bool = False
    no_start: bool = False
    no_end: bool = False

    @property
    def touches_messages(self) -> bool:
        """Whether single messages must be looked at."""
        return self.faults.touches_messages or self.damage > 0 or self.steal


class DectrisCamera(VirtualCamera):
    """Serves the images of a source as a DECTRIS camera would."""

    def __init__(self, source: Source, running: DectrisRunning) -> None:
        super().__init__(running)
        self.source, self._how = source, running
        self.unit = ControlUnit(
            source.frames, source.shape, free_running=not running.wait_for_start
        )
        self._abort = self.unit.abort
        self._greeted: socket.socket | None = None
        self._random = np.random.default_rng([running.faults.seed, 3])
        try:
            self._rest = RestPort(running.host, running.control_port, self.unit)
        except BaseException:
            self._data.close()
            raise

    @property
    def control_port(self) -> int:
        """The port of SIMPLON."""
        return self._rest.port

    def close(self) -> None:
        """End `run` soon."""
        super().close()
        self.unit.abort.set()

    def _may_start(self) -> bool:
        # the handshake does not wait for a series
        client = self._data.client(0.0)
        if client is not None:
            with contextlib.suppress(AbandonedError):
                self._greet(client)
        return self.unit.due(POLL_S)

    def _close_ports(self) -> None:
        super()._close_ports()
        self._rest.close()

    def _greet(self, client: socket.socket) -> None:
        if client is not self._greeted:
            self._send(client, memoryview(zmtp.greeting() + zmtp.ready("PUSH")))
            self._greeted = client

    def _send_scan(self, client: socket.socket) -> None:
        how = self._how
        series, frames = self.unit.begin()
        told: Format = "cbor" if self.unit.config["stream"]["format"] == "cbor" else "legacy"
        stream = STREAMS[how.stream_format or told]()
        try:
            self._greet(client)
            if not how.no_start:
                start = self.source.start(stream, series, frames)
                self._send(client, memoryview(start))
            stop = how.faults.stop_early
            last = frames if stop is None else min(frames, stop)
            try:
                self._images(client, series, last, stream)
            except AbandonedError:
                if self._stop.is_set() or self._data.client() is not client:
                    raise
            if not how.no_end:
                self._send(client, memoryview(self.source.end(stream, series)))
            self._check_client(client)
        finally:
            self.unit.end(closing=self._stop.is_set())

    def _check_client(self, client: socket.socket) -> None:
        if self._data.client() is not client:
            raise AbandonedError

    def _images(self, client: socket.socket, series: int, last: int, stream: Stream) -> None:
        rate = self.running.rate
        group = max(1, int(rate * PACE_S)) if rate > 0 else 1 << 40
        first, begin = 0, time.monotonic()
        for batch in self.source.batches(stream, self.scan, last):
            if first == 0:
                begin = time.monotonic()
            batch.stamp(series, first)
            count, done = min(batch.count, last - first), 0
            while done < count:
                part = min(group, count - done, *self._until_fault())
                begin = self._pace(begin, first + done)
                self._check(client)
                self._send(client, self._messages(batch, done, done + part, first))
                done += part
                self.sent += part
                self._hang_up_if_due(client)
                self._stall_if_due()
            first += count

    def _messages(self, batch: Batch, first: int, stop: int, offset: int) -> memoryview:
        """Messages first..stop-1, with their faults; `offset` is the number of message 0."""
        how = self._how
        if not how.touches_messages:
            return batch.view(first, stop)
        out = []
        for index in range(first, stop):
            if self._random.random() < how.faults.garbage:
                out.append(b"\xa5" * 100)
            if self._random.random() < how.faults.drop or (how.steal and (offset + index) % 2):
                continue
            message = bytearray(batch.view(index, index + 1))
            if self._random.random() < how.damage:
                middle = len(message) // 2
                message[middle : middle + 40] = bytes(len(message[middle : middle + 40]))
            out.append(bytes(message))
        return memoryview(b"".join(out))

    def _until_fault(self) -> list[int]:
        cut = None if self._disconnected else self.running.disconnect_after
        marks = (self._how.faults.stall_after, cut)
        return [max(1, mark - self.sent) for mark in marks if mark is not None]

    def _stall_if_due(self) -> None:
        stall = self._how.faults.stall_after
        if stall is not None and self.sent >= stall:
            while not self._abort.wait(POLL_S):
                pass
            raise AbandonedError
