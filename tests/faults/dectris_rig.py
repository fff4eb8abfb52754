"""A DECTRIS control unit in this process, a daemon, a broker and an outside client."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stemd.adapters.dectris import stream2, zmtp
from stemd.virtual.dectris.simplon import ControlUnit, RestPort
from tests.conftest import Mosquitto
from tests.daemon import rig
from tests.daemon.rig import POSITIONS, Rig

IMAGE = (32, 32)
HELLO = zmtp.greeting() + zmtp.ready("PUSH")
_MERLIN = """type = "merlin"
host = "127.0.0.1"
data_port = {port}
control_port = {control}
"""
_DECTRIS = """type = "dectris"
host = "127.0.0.1"
data_port = {port}
control_port = {control}
"""


def message(series: int, number: int, shape: tuple[int, int] = IMAGE) -> bytes:
    """The message of an image that only this one has: a spot that wanders, and some noise."""
    made = np.random.default_rng([series, number]).poisson(0.2, shape).astype(np.uint16)
    made[number % shape[0], shape[1] // 2] += 500
    data = {"threshold_1": stream2.encode_array(made, "bslz4")}
    return zmtp.message(stream2.encode_image(series, number, data))


class ControlUnitRig:
    """The stream's port, SIMPLON's port, and a series whenever a test asks for one.

    What was sent is in `sent`, series by series; `hello` is what each client is greeted with.
    """

    def __init__(self, positions: int) -> None:
        self.sent: list[list[bytes]] = []
        self.series = 0
        self.hello = HELLO
        self.connections = 0
        self.hangs_up = False
        self._positions = positions
        self._clients: list[socket.socket] = []
        self._changed = threading.Condition()
        self.port = self.control_port = 0
        self.unit = ControlUnit(positions, IMAGE, free_running=False)
        self.come_back()

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = server.accept()
                self.connections += 1
                with contextlib.suppress(OSError):
                    client.sendall(self.hello)
                if self.hangs_up:
                    client.close()
                    continue
                with self._changed:
                    self._clients.append(client)
                    self._changed.notify_all()

    def wait_for_client(self) -> socket.socket:
        """The connection of whoever came last."""
        with self._changed:
            there = self._changed.wait_for(lambda: self._clients, 30.0)
        assert there, "nobody connected to the camera"
        return self._clients[-1]

    def send(self, data: bytes) -> None:
        """Bytes to whoever is there."""
        self.wait_for_client().sendall(data)

    def begin(self, *, told: bool = True, scans: int = 1) -> None:
        """A series of so many scans begins, and is `told` or not."""
        self.series += 1
        self.sent.append([])
        if told:
            images = self._positions * scans
            self.send(zmtp.message(stream2.encode_start(self.series, IMAGE, "u2", images)))

    def more(self, numbers: Iterable[int], shape: tuple[int, int] = IMAGE) -> None:
        """Images of the series under way."""
        for number in numbers:
            made = message(self.series, number, shape)
            self.send(made)
            self.sent[-1].append(made)

    def finish(self, series: int | None = None) -> None:
        """The message that ends a series."""
        self.send(zmtp.message(stream2.encode_end(self.series if series is None else series)))

    def scan(self, numbers: Sequence[int] | None = None) -> None:
        """A whole series."""
        self.begin()
        self.more(range(self._positions) if numbers is None else numbers)
        self.finish()

    def hang_up(self, *, reset: bool = False) -> None:
        """Close the data connections; new ones are accepted."""
        self.wait_for_client()
        with self._changed:
            clients, self._clients = self._clients, []
        for client in clients:
            if reset:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError, ConnectionError):
                while client.recv(4096):  # what nobody has read makes a reset of any end
                    pass
            client.close()

    def go(self) -> None:
        """The control unit is switched off: both ports are closed."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept
        self._server.close()
        self._thread.join(10.0)
        self._rest.close()
        with self._changed:
            clients, self._clients = self._clients, []
        for client in clients:
            client.close()

    def come_back(self) -> None:
        """Both ports open again at the same numbers."""
        self._server = socket.create_server(("127.0.0.1", self.port))
        self.port = int(self._server.getsockname()[1])
        self._rest = RestPort("127.0.0.1", self.control_port, self.unit)
        self.control_port = self._rest.port
        self._thread = threading.Thread(target=self._accept, args=(self._server,), daemon=True)
        self._thread.start()

    def mute(self) -> None:
        """SIMPLON is there no more, the stream is."""
        self._rest.close()

    def unmute(self) -> None:
        """SIMPLON is there again, at the same port."""
        self._rest = RestPort("127.0.0.1", self.control_port, self.unit)

    close = go


class DectrisRig(Rig):
    """The rig of tests/daemon with a DECTRIS camera."""

    config = rig.CONFIG.replace(_MERLIN, _DECTRIS)
    record_name = "raw.dectris"
    camera: ControlUnitRig  # type: ignore[assignment]

    def __init__(self, folder: Path, broker: Mosquitto, **config: Any) -> None:
        assert self.config != rig.CONFIG
        usual: dict[str, Any] = {"idle": 1.5}
        super().__init__(folder, broker, ControlUnitRig(POSITIONS), **{**usual, **config})  # type: ignore[arg-type]

    def fresh(self) -> None:
        """Forget what was heard; a control unit as it was at first."""
        camera = self.camera
        camera.sent, camera.hello, camera.hangs_up = [], HELLO, False
        self.until_state(lambda s: s["state"] in ("waiting", "fault"), "the rig is at rest")
        self.order("reset")
        self._known = self.state()
        self.client.messages.clear()
