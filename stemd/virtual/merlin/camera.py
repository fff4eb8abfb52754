"""A virtual Merlin camera: free-running or commanded acquisitions on the data port."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field

from stemd.adapters.merlin.encoder import message
from stemd.logs import get_logger
from stemd.virtual.faults import Faults, Spoiler
from stemd.virtual.merlin.control import CameraControl
from stemd.virtual.merlin.frames import FrameSource, Sending
from stemd.virtual.ports import POLL_S, ControlPort
from stemd.virtual.serving import PACE_S, AbandonedError, Running, VirtualCamera

log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class MerlinRunning(Running):
    """`wait_for_start`: only acquire on STARTACQUISITION."""

    port: int = 6342
    control_port: int = 6341
    wait_for_start: bool = False
    faults: Faults = field(default_factory=Faults)


class MerlinCamera(VirtualCamera):
    """Serves a source of frames as a Merlin camera would.

    An acquisition begins when a client is on the data port, or by STARTACQUISITION.
    """

    def __init__(self, source: FrameSource, running: MerlinRunning) -> None:
        super().__init__(running)
        self.source = source
        self._faults = running.faults
        self._spoiler = Spoiler(running.faults)
        self._junked: socket.socket | None = None
        self._control = CameraControl(source, free_running=not running.wait_for_start)
        self._abort = self._control.abort
        try:
            self._control_port = ControlPort(
                running.host, running.control_port, self._control.serve
            )
        except BaseException:
            self._data.close()
            raise

    @property
    def control_port(self) -> int:
        """The port that takes commands."""
        return self._control_port.port

    def close(self) -> None:
        """End `run` soon."""
        super().close()
        self._control.abort.set()

    def _may_start(self) -> bool:
        return self._control.wait_for_start(POLL_S)

    def _close_ports(self) -> None:
        super()._close_ports()
        self._control_port.close()

    def _send_scan(self, client: socket.socket) -> None:
        frames = self._control.begin()
        log.debug("acquisition", scan=self.scan, frames=frames)
        try:
            if self._faults.junk_first and self._junked is not client:
                self._send(client, memoryview(self._spoiler.junk()))
                self._junked = client
            hdr = message(self.source.hdr(frames, time.time_ns()))
            self._send(client, memoryview(hdr))
            while not self._control.wait_for_trigger(POLL_S):
                self._check(client)
            self._frames(client, frames or 2**62)
        finally:
            self._control.end(closing=self._stop.is_set())

    def _frames(self, client: socket.socket, frames: int) -> None:
        faults = self._faults
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
                begin = self._pace(begin, first + done)
                self._messages(client, batch, view, first, done, part)
                done += part
                self.sent += part
                self._fault(client)
            first += count
        self._check(client)

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
            raise AbandonedError
        size = batch.message_bytes
        part = view[done * size : (done + count) * size]
        if self._faults.touches_messages:
            part = memoryview(self._spoiler.spoil(part, size, first + done))
        self._send(client, part)

    def _until_fault(self) -> list[int]:
        """Frames that may be sent before the next fault is due."""
        cut = None if self._disconnected else self.running.disconnect_after
        return [
            max(1, mark - self.sent) for mark in (self._faults.stall_after, cut) if mark is not None
        ]

    def _fault(self, client: socket.socket) -> None:
        self._hang_up_if_due(client)
        if self._faults.stall_after is not None and self.sent >= self._faults.stall_after:
            while not self._abort.wait(POLL_S):
                pass
            raise AbandonedError
