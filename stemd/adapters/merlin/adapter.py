"""The live Merlin camera: frames from its data port, commands to its control port."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from stemd.acquisition import Scan
from stemd.adapters.frames.adapter import FrameAdapter
from stemd.adapters.frames.linked.adapter import LinkedAdapter
from stemd.adapters.frames.settings import FrameSettings, Port, each_link
from stemd.adapters.merlin.control import MerlinControl
from stemd.adapters.merlin.stream import MerlinFormat
from stemd.errors import CameraError

SOFT_TRIGGER = "5"
"""Of TRIGGERSTART: the frames follow a CMD SOFTTRIGGER."""


QUAD_PIXELS = 515
"""Side of the largest Merlin, with the gap between its chips filled up."""


class MerlinSettings(FrameSettings):
    """The config table of a Merlin camera.

    `control_port`: omit to only listen. `camera` are parameters (by their names in the control
    protocol, e.g. COUNTERDEPTH = 12) that are set whenever the camera has been connected.
    `start`: "camera" waits for acquisitions that are started there, or by the `start` command;
    "connect" also starts one whenever the camera has been connected. `idle_timeout_s`: a scan that
    is at its end, but for its last line, and of which nothing has come for so long, is over.
    `pause_timeout_s`: the same for a scan in its middle, which may only pause. `receive_buffer` is
    the socket's, in bytes. `links`: addresses of data ports that bring the frames of one scan, in
    the place of `data_port`; `host` then is where commands go.
    """

    data_port: Port = 6342
    control_port: Port | None = None
    control_timeout_s: Annotated[float, Field(gt=0.0, le=60.0)] = 2.0
    camera: dict[str, int | float | str | bool] = Field(default_factory=dict)
    start: Literal["camera", "connect"] = "camera"

    def detector_shape(self) -> tuple[int, int]:
        """See AdapterSettings: four chips and the rows and columns between them."""
        return QUAD_PIXELS, QUAD_PIXELS


class _Control:
    """Implements adapters.frames.control.Control by the control protocol.

    One job at a time has the connection, and it is closed after each: some cameras serve one
    client. "stop" and "abort" wait for no other job, they end it.
    """

    commands = frozenset(("start", "stop", "abort"))
    status = ()

    def __init__(self, settings: MerlinSettings, port: int) -> None:
        self._settings = settings
        self._client = MerlinControl(settings.host, port, settings.control_timeout_s)
        self._job = threading.Lock()
        self._stops = 0
        self._closed = False

    def prepare(self, scan: Scan | None) -> str:
        wanted = self._until_a_stop()
        with self._job, contextlib.closing(self._client):
            for name, value in self._settings.camera.items():
                self._client.set(name, value, wanted)
            if self._settings.start == "connect":
                self._start(1, scan, wanted)
        return ""

    def command(self, name: str, args: Mapping[str, Any], scan: Scan | None) -> Mapping[str, Any]:
        if name == "start":
            wanted = self._until_a_stop()
            with self._job, contextlib.closing(self._client):
                return self._start(int(args.get("scans", 1)), scan, wanted)
        if name in ("stop", "abort"):
            self._stops += 1
            self._client.interrupt()
            with self._job, contextlib.closing(self._client):
                self._client.cmd("STOPACQUISITION", lambda: not self._closed)
            return {}
        raise CameraError(f"a Merlin camera cannot {name!r}", "known: start, stop, abort")

    def _until_a_stop(self) -> Callable[[], bool]:
        """Whether no stop has come since now."""
        before = self._stops
        return lambda: self._stops == before

    def _start(
        self, scans: int, scan: Scan | None, wanted: Callable[[], bool]
    ) -> Mapping[str, Any]:
        if scans < 0:
            raise CameraError(f"cannot start {scans} scans", "scans is 1 or more, 0 is endless")
        told: dict[str, Any] = {}
        if scan is not None:
            told["frames"] = scan.frames * scans
            self._client.set("NUMFRAMESTOACQUIRE", told["frames"], wanted)
        self._client.cmd("STARTACQUISITION", wanted)
        if self._waits_for_software():
            self._client.cmd("SOFTTRIGGER", wanted)
        return told

    def _waits_for_software(self) -> bool:
        """Whether the camera begins at a command, not with the acquisition or at a pulse."""
        value = self._settings.camera.get("TRIGGERSTART")
        if value is None:
            try:
                value = self._client.get("TRIGGERSTART")
            except CameraError:  # a camera that does not know the word has no such trigger
                return False
        return str(value).strip() == SOFT_TRIGGER

    def close(self) -> None:
        self._closed = True
        self._stops += 1
        self._client.interrupt()


NO_CONTROL = "set control_port = 6341, or start and stop at the camera"


def build(settings: MerlinSettings) -> MerlinAdapter | LinkedAdapter:
    """The adapter of a Merlin, or of the links that bring its frames."""
    if not settings.links:
        return MerlinAdapter(settings)
    port = settings.control_port
    links = [
        FrameAdapter(link, MerlinFormat(), number, "Merlin camera")
        for link, number in each_link(settings)
    ]
    control = _Control(settings, port) if port is not None else None
    return LinkedAdapter(settings, "Merlin camera", links, control=control, no_control=NO_CONTROL)


class MerlinAdapter(FrameAdapter):
    """A Merlin camera; the "start" command takes `scans`, how many in one acquisition."""

    def __init__(self, settings: MerlinSettings) -> None:
        port = settings.control_port
        super().__init__(
            settings,
            MerlinFormat(),
            settings.data_port,
            "Merlin camera",
            control=_Control(settings, port) if port is not None else None,
            no_control=NO_CONTROL,
        )
