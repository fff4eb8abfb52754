"""A camera with a control port, a daemon, a broker and an outside client, joined for a test."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from stemd.adapters.merlin.control import OK, UNKNOWN, ControlServerProtocol
from stemd.adapters.merlin.encoder import Camera, encode_frame, encode_hdr, message
from tests.conftest import Mosquitto, OutsideClient, wait_until
from tests.daemon.running import RunningDaemon
from tests.sinks.asyncapi import check, validator

SHAPE = (6, 8)
POSITIONS = SHAPE[0] * SHAPE[1]
KIND = Camera(shape=(256, 256), depth=6)
BASE = "stemd/rig/cam"
CONFIG = """
[daemon]
instrument = "rig"
data_dir = @DATA@
reserve_mb = {reserve}
{daemon}

[mqtt]
url = "{broker}"
keepalive_s = 5
{mqtt}

{sessions}

[[pipeline]]
name = "cam"

[pipeline.adapter]
type = "merlin"
host = "127.0.0.1"
data_port = {port}
control_port = {control}
idle_timeout_s = {idle}
pause_timeout_s = {idle}
scan = {{ shape = [{lines}, 8], step_size_angstrom = 0.5 }}

[pipeline.optics]
energy_ev = 300e3
convergence_semi_angle_mrad = 12.0
pixel_size_mrad = 1.0

[[pipeline.engine]]
type = "ricom"
kernel_size = 5

[[pipeline.engine]]
type = "com"

[[pipeline.engine]]
type = "virtual_detector"
detectors = {{ bf = [0.0, 20.0] }}

{engines}

[pipeline.publish]
rate_hz = 20.0

[pipeline.record]
raw = {raw}
"""


def make_frames(seed: int = 1, count: int = POSITIONS, dose: int = 40) -> list[bytes]:
    """Header and pixels of each frame: a disc that wanders."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:256, :256]
    frames = []
    for index in range(count):
        cy, cx = 126 + rng.normal(size=2)
        pattern = np.where(np.hypot(y - cy, x - cx) < 12, rng.integers(1, dose, (256, 256)), 0)
        frames.append(
            encode_frame(pattern.astype(np.uint8), KIND, index + 1, 1_700_000_000 * 10**9)
        )
    return frames


class MerlinRig:
    """A camera in this process: a data port and a control port.

    `on_start` is called in the control thread when the acquisition is started; by default it
    sends as many of `frames` as it was asked for, to whoever is connected. What was sent is in
    `sent`, scan by scan.
    """

    def __init__(self, frames: Sequence[bytes]) -> None:
        self.frames = list(frames)
        self.sent: list[list[bytes]] = []
        self.commands: list[str] = []
        self.values = {"NUMFRAMESTOACQUIRE": str(POSITIONS), "COUNTERDEPTH": "6"}
        self.on_start: Callable[[], None] = self.as_asked
        self.refuse_start = False
        self._server = socket.create_server(("127.0.0.1", 0))
        self._control = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self.control_port = int(self._control.getsockname()[1])
        self._client: socket.socket | None = None
        self._here = threading.Event()
        for work in (self._accept, self._obey):
            threading.Thread(target=work, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                if self._client is not None:
                    self._client.close()
                self._client = client
                self._here.set()

    def _obey(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._control.accept()
                threading.Thread(target=self._converse, args=(peer,), daemon=True).start()

    def _converse(self, peer: socket.socket) -> None:
        protocol = ControlServerProtocol(self.values, self._command)
        with peer, contextlib.suppress(OSError):
            while data := peer.recv(4096):
                peer.sendall(protocol.feed(data))

    def _command(self, name: str) -> int:
        self.commands.append(name)
        if name == "STARTACQUISITION":
            if self.refuse_start:
                return 1
            threading.Thread(target=self.on_start, daemon=True).start()
            return OK
        return OK if name == "STOPACQUISITION" else UNKNOWN

    def wait_for_client(self) -> socket.socket:
        """The connection of whoever is there."""
        assert self._here.wait(30.0), "nobody connected to the camera"
        assert self._client is not None
        return self._client

    def send(self, data: bytes) -> None:
        """Bytes on the data port."""
        self.wait_for_client().sendall(data)

    def begin(self) -> None:
        """The HDR of an acquisition, which tells how many frames were asked for."""
        self.send(message(encode_hdr(KIND, int(self.values["NUMFRAMESTOACQUIRE"]))))
        self.sent.append([])

    def more(self, frames: Sequence[bytes], pause_s: float = 0.0) -> None:
        """Frames of the running acquisition."""
        for frame in frames:
            self.send(message(frame))
            self.sent[-1].append(frame)
            if pause_s:
                time.sleep(pause_s)

    def scan(self, frames: Sequence[bytes] | None = None) -> None:
        """A whole acquisition."""
        self.begin()
        self.more(self.frames if frames is None else frames)

    def as_asked(self) -> None:
        """An acquisition of the length that was set over the control port."""
        self.scan(self.frames[: int(self.values["NUMFRAMESTOACQUIRE"])])

    def hang_up(self, *, reset: bool = False) -> None:
        """Close the data connection; a new one is accepted."""
        client = self.wait_for_client()
        self._here.clear()
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()

    def go(self) -> None:
        """The camera's computer is switched off: both ports are closed."""
        for server in (self._server, self._control):
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept
            server.close()
        self._here.clear()
        if self._client is not None:
            self._client.close()

    def come_back(self) -> None:
        """Both ports open again at the same numbers."""
        self._server = socket.create_server(("127.0.0.1", self.port))
        self._control = socket.create_server(("127.0.0.1", self.control_port))
        for work in (self._accept, self._obey):
            threading.Thread(target=work, daemon=True).start()

    close = go


class Rig:
    """All four, with what a test asks of them."""

    config = CONFIG
    record_name = "raw.mib"

    def __init__(self, folder: Path, broker: Mosquitto, camera: MerlinRig, **config: Any) -> None:
        self.folder, self.broker, self.camera = folder, broker, camera
        self.options: dict[str, Any] = {
            **{"lines": SHAPE[0], "raw": "true"},
            **{"idle": 4.0, "reserve": 1, "daemon": "", "mqtt": "", "sessions": "", "engines": ""},
            **{"broker": broker.url, "port": camera.port, "control": camera.control_port},
            **config,
        }
        self.client = OutsideClient(broker.port, version5=True)
        self.daemons: list[RunningDaemon] = []
        self.environment: dict[str, str] = {}
        self._ids = 0
        self._known: dict[str, Any] = {}

    @property
    def daemon(self) -> RunningDaemon:
        """The newest daemon."""
        return self.daemons[-1]

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.daemon.data_dir

    def start(self) -> None:
        """Start a daemon and wait until it has found the camera."""
        connected = len(self.states("camera_connected"))
        self.daemons.append(
            RunningDaemon(self.folder, self.config.format(**self.options), self.environment)
        )
        wait_until(
            lambda: any(self.states("camera_connected")[connected:]), "the camera is found", 60.0
        )

    def fresh(self) -> None:
        """Forget what was heard; the config's settings and a camera that does as it is told."""
        self.until_state(lambda s: s["state"] in ("waiting", "fault"), "the rig is at rest")
        camera = self.camera
        camera.on_start, camera.refuse_start = camera.as_asked, False
        camera.sent, camera.commands = [], []
        camera.values["NUMFRAMESTOACQUIRE"] = str(POSITIONS)
        self.order("reset")
        self._known = self.state()
        self.client.messages.clear()

    def folder_of(self, scan: dict[str, Any]) -> Path:
        """The folder of a scan by its document."""
        return next(self.data.glob(f"*/{scan['id']}"))

    def documents(self, what: str) -> list[dict[str, Any]]:
        """JSON messages on a topic of the pipeline."""
        return [json.loads(m.payload) for m in self.client.on(f"{BASE}/{what}")]

    def states(self, key: str) -> list[Any]:
        """One value of every state document so far."""
        return [state.get(key) for state in self.documents("state")]

    def state(self) -> dict[str, Any]:
        """The newest state document."""
        return (self.documents("state") or [self._known])[-1]

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        """Scan documents of these kinds."""
        return [d for d in self.documents("scan") if d["event"] in kinds]

    def finished(self, count: int = 1, seconds: float = 60.0) -> list[dict[str, Any]]:
        """Wait for scans that are over."""
        ends = ("finished", "aborted")
        wait_until(lambda: len(self.events(*ends)) >= count, f"{count} scans are over", seconds)
        return self.events(*ends)

    def until_state(self, condition: Callable[[dict[str, Any]], object], what: str) -> None:
        """Wait until the newest state fulfils something."""
        wait_until(lambda: condition(self.state()), what, 60.0)

    def order(self, command: str, request_id: str | None = None, **args: Any) -> dict[str, Any]:
        """Send a command and wait for its reply."""
        return self.ask("command", {"command": command, "args": args}, request_id)

    def settings(self, **change: Any) -> dict[str, Any]:
        """Send a settings change and wait for its reply."""
        return self.ask("settings/set", change)

    def ask(
        self, topic: str, body: dict[str, Any], request_id: str | None = None
    ) -> dict[str, Any]:
        """Publish a request with an id of its own; the reply."""
        self._ids += 1
        name = request_id or f"request-{self._ids}"
        body = {"id": name, **body}
        if topic == "command" and body["command"] != "dance":
            validator("command").validate(body)
        before = len(self.documents("reply"))
        self.client.client.publish(f"{BASE}/{topic}", json.dumps(body), qos=1)

        def replies() -> list[dict[str, Any]]:
            return [r for r in self.documents("reply")[before:] if r["id"] == name]

        wait_until(replies, f"a reply to {body}", 30.0)
        return replies()[0]

    def last_image(self, name: str = "ricom") -> tuple[Any, dict[str, Any]]:
        """The newest retained image with its description."""
        payload = self.client.wait_for(f"{BASE}/image/{name}/last")[-1].payload
        with tifffile.TiffFile(io.BytesIO(payload)) as tiff:
            return tiff.asarray(), json.loads(tiff.pages.first.description)

    def check_messages(self) -> None:
        """Every message so far is as docs/asyncapi.yaml describes it."""
        for heard in self.client.messages:
            if not heard.topic.endswith(("/command", "/settings/set")):
                check(heard.topic, heard.payload)

    def record(self, scan: dict[str, Any]) -> bytes:
        """The raw record of a scan by its document."""
        return (self.folder_of(scan) / self.record_name).read_bytes()

    def close(self) -> None:
        """End everything."""
        for daemon in self.daemons:
            daemon.close()
        self.client.close()
        self.camera.close()
