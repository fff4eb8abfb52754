"""A virtual Merlin camera: free-running or commanded acquisitions on the data port."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass, field

import structlog

from stemd.adapters.merlin.encoder import message
from stemd.virtual.faults import Faults, Spoiler
from stemd.virtual.merlin.control import CameraControl
from stemd.virtual.merlin.frames import FrameSource, Sending
from stemd.virtual.ports import POLL_S, ControlPort, DataPort

log = structlog.get_logger()

PACE_S = 0.004
"""Frames are sent in groups of about this time, so that a slow scan grows smoothly."""


class _AbandonedError(Exception):
    """The client went away, or the acquisition was stopped."""


@dataclass(frozen=True, slots=True)
class Running:
    """How the camera runs.

    `rate` in frames a second (0: as fast as the reader takes them), `scans` to make (0: endless),
    `gap_s` between scans, `wait_for_start`: only acquire on STARTACQUISITION, `stay`: keep the
    connections after the last scan until stopped.
    """

    host: str = "127.0.0.1"
    port: int = 6342
    control_port: int = 6341
    rate: float = 1000.0
    scans: int = 0
    gap_s: float = 1.0
    wait_for_start: bool = False
    stay: bool = False
    faults: Faults = field(default_factory=Faults)


class MerlinCamera:
    """Serves a source of frames as a Merlin camera would.

    The ports are open once this is made. `run` acquires in the caller's thread until `close`
    (callable from any thread or a signal handler) or the last scan. An acquisition begins when a
    client is on the data port, or by STARTACQUISITION; it is abandoned when the client leaves.
    """

    def __init__(self, source: FrameSource, running: Running) -> None:
        self.source = source
        self.running = running
        self.sent_frames = 0
        self.scan = 0
        self._stop = threading.Event()
        self._spoiler = Spoiler(running.faults)
        self._disconnected = False
        self._junked: socket.socket | None = None
        self._data = DataPort(running.host, running.port)
        self._control = CameraControl(source, free_running=not running.wait_for_start)
        try:
            self._control_port = ControlPort(
                running.host, running.control_port, self._control.serve
            )
        except BaseException:
            self._data.close()
            raise

    @property
    def data_port(self) -> int:
        """The port that frames come from."""
        return self._data.port

    @property
    def control_port(self) -> int:
        """The port that takes commands."""
        return self._control_port.port

    def close(self) -> None:
        """End `run` soon."""
        self._stop.set()
        self._control.abort.set()

    def run(self) -> None:
        """Acquire until closed or done. Raises what rendering raises."""
        scans = self.running.scans
        try:
            while not self._stop.is_set() and (scans == 0 or self.scan < scans):
                if not self._control.wait_for_start(POLL_S):
                    continue
                client = self._data.client(POLL_S)
                if client is None:
                    continue
                self._acquire(client)
                self.scan += 1
                if scans == 0 or self.scan < scans:
                    self._stop.wait(self.running.gap_s)
            while self.running.stay and not self._stop.is_set():
                self._stop.wait(POLL_S)
        finally:
            self._stop.set()
            self._data.close()
            self._control_port.close()

    def _acquire(self, client: socket.socket) -> None:
        frames = self._control.begin()
        log.debug("acquisition", scan=self.scan, frames=frames)
        try:
            if self.running.faults.junk_first and self._junked is not client:
                self._send(client, memoryview(self._spoiler.junk()))
                self._junked = client
            hdr = message(self.source.hdr(frames, time.time_ns()))
            self._send(client, memoryview(hdr))
            while not self._control.wait_for_trigger(POLL_S):
                self._check(client)
            self._frames(client, frames or 2**62)
        except _AbandonedError:
            log.debug("acquisition abandoned", scan=self.scan)
        finally:
            self._control.end(closing=self._stop.is_set())

    def _frames(self, client: socket.socket, frames: int) -> None:
        faults = self.running.faults
        last = frames if faults.stop_early is None else min(frames, faults.stop_early)
        rate = self.running.rate
        period_ns = int(1e9 / rate) if rate > 0 else 0
        first = 0
        begin = time.monotonic()
        for batch in self.source.batches(self.scan, last, self._control.abort):
            if first == 0:
                begin = time.monotonic()
            view = batch.views(first, period_ns, time.time_ns())
            group = max(1, int(rate * PACE_S)) if rate > 0 else 1 << 40
            count = len(view) // batch.message_bytes
            done = 0
            while done < count:
                part = min(group, count - done, *self._until_fault())
                if rate > 0:
                    begin = self._pace(begin, first + done, rate)
                self._messages(client, batch, view, first, done, part)
                done += part
                self.sent_frames += part
                self._fault(client)
            first += count
        self._check(client)

    def _pace(self, begin: float, frame: int, rate: float) -> float:
        """Wait until `frame` is due; a reader that was slow is not made up for later."""
        late = time.monotonic() - (begin + frame / rate)
        if late < 0:
            self._control.abort.wait(-late)
            return begin
        return begin + max(0.0, late - 0.1)

    def _messages(
        self,
        client: socket.socket,
        batch: Sending,
        view: memoryview,
        first: int,
        done: int,
        count: int,
    ) -> None:
        if self._control.abort.is_set():
            raise _AbandonedError
        size = batch.message_bytes
        part = view[done * size : (done + count) * size]
        if self.running.faults.touches_messages:
            part = memoryview(self._spoiler.spoil(part, size, first + done))
        self._send(client, part)

    def _send(self, client: socket.socket, data: memoryview) -> None:
        # Once begun it is sent to its end: a camera that is stopped stops between two frames.
        while data:
            if self._stop.is_set():
                raise _AbandonedError
            try:
                data = data[client.send(data) :]
            except TimeoutError:
                continue
            except OSError as error:
                self._data.drop(client)
                raise _AbandonedError from error

    def _check(self, client: socket.socket) -> None:
        if self._control.abort.is_set() or self._data.client() is not client:
            raise _AbandonedError

    def _until_fault(self) -> list[int]:
        """Frames that may be sent before the next fault is due."""
        faults = self.running.faults
        marks = [faults.stall_after, None if self._disconnected else faults.disconnect_after]
        return [max(1, mark - self.sent_frames) for mark in marks if mark is not None]

    def _fault(self, client: socket.socket) -> None:
        faults = self.running.faults
        due = faults.disconnect_after
        if due is not None and not self._disconnected and self.sent_frames >= due:
            self._disconnected = True
            self._data.drop(client)
            raise _AbandonedError
        if faults.stall_after is not None and self.sent_frames >= faults.stall_after:
            while not self._control.abort.wait(POLL_S):
                pass
            raise _AbandonedError
