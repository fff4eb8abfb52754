"""The live Merlin camera: keeps the data connection, times scans out, passes commands on."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from stemd.acquisition import Scan
from stemd.adapters.base import AdapterSettings
from stemd.adapters.frames.decoder import MerlinDecoder
from stemd.adapters.frames.link import Receiver, Wake, backoff_s, connect
from stemd.adapters.frames.warm import warm_up
from stemd.adapters.merlin.control import MerlinControl
from stemd.blocks import BlockPool, Link, Message, Notice, PoolClosedError
from stemd.errors import CameraError

_IDLE_FRAMES = 20  # a slow camera is waited for this many dwell times
_REMEDY = (
    "check that the camera's software runs and serves its data port there, and that no other "
    "client holds it; stemd keeps trying"
)

Port = Annotated[int, Field(ge=1, le=65535)]


class MerlinSettings(AdapterSettings):
    """The config table of a Merlin camera.

    `control_port`: omit to only listen. `camera` are parameters (by their names in the control
    protocol, e.g. COUNTERDEPTH = 12) that are set whenever the camera has been connected.
    `start`: "camera" waits for acquisitions that are started there, or by the `start` command;
    "connect" also starts one whenever the camera has been connected. `idle_timeout_s`: a scan of
    which nothing has come for so long is over. `receive_buffer` is the socket's, in bytes.
    """

    host: str = "127.0.0.1"
    data_port: Port = 6342
    control_port: Port | None = None
    control_timeout_s: Annotated[float, Field(gt=0.0, le=60.0)] = 2.0
    idle_timeout_s: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 2.0
    receive_buffer: Annotated[int, Field(ge=65536, le=1 << 30)] = 4 * 1024 * 1024
    camera: dict[str, int | float | str | bool] = Field(default_factory=dict)
    start: Literal["camera", "connect"] = "camera"


class MerlinAdapter:
    """Implements adapters.base.Adapter for one Merlin camera."""

    def __init__(self, settings: MerlinSettings) -> None:
        self.settings = settings
        self._scan = settings.scan
        self._decoder: MerlinDecoder | None = None
        self._wake = Wake()
        self._ask_end = threading.Event()
        self._control = (
            MerlinControl(settings.host, settings.control_port, settings.control_timeout_s)
            if settings.control_port is not None
            else None
        )

    def set_scan(self, scan: Scan) -> None:
        """Scan geometry from the next scan on."""
        self._scan = scan
        if self._decoder is not None:
            self._decoder.scan = scan

    @property
    def commands(self) -> frozenset[str]:
        """See `adapters.base.Commanded`."""
        return frozenset(("start", "stop", "abort") if self._control is not None else ())

    def command(self, name: str, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """Carry out "start" (args: `scans`, how many in one acquisition), "stop" or "abort".

        Raises CameraError when there is no control port, or the camera refuses.
        """
        if self._control is None:
            raise CameraError(
                f"the camera at {self.settings.host} has no control_port, it cannot be told to "
                f"{name}",
                "set control_port = 6341, or start and stop at the camera",
            )
        if name == "start":
            return self._start(int(args.get("scans", 1)))
        if name in ("stop", "abort"):
            self._control.cmd("STOPACQUISITION")
            self._ask_end.set()
            return {}
        raise CameraError(f"a Merlin camera cannot {name!r}", "known: start, stop, abort")

    def close(self) -> None:
        """Wake a blocked `read` after `stop` was set."""
        self._wake.wake()
        if self._control is not None:
            self._control.close()

    def read(self, pool: BlockPool, stop: threading.Event) -> Iterator[Message]:
        """Messages of the camera until `stop`; connects again whenever the camera was lost."""
        warm_up()
        settings = self.settings
        source = f"{settings.host}:{settings.data_port}"
        decoder = self._decoder = MerlinDecoder(pool, self._scan, source)
        attempt, told = 0, ""
        try:
            while not stop.is_set():
                try:
                    connected = connect(
                        settings.host, settings.data_port, settings.receive_buffer, stop.is_set
                    )
                except OSError as error:
                    attempt += 1
                    reason = f"no connection to the Merlin camera at {source}: {_why(error)}"
                    if reason != told and not stop.is_set():
                        told = reason
                        yield Link(False, reason, _REMEDY)
                    stop.wait(backoff_s(attempt))
                    continue
                self._wake.watch(connected)
                began = time.monotonic()
                try:
                    yield Link(True, f"connected to {source}")
                    yield from self._prepare()
                    lost = yield from self._receive(Receiver(connected), decoder, stop)
                finally:
                    self._wake.watch(None)
                    connected.close()
                now_ns = time.time_ns()
                yield from decoder.flush(now_ns, eof=True)
                yield from decoder.end("stopped" if stop.is_set() else "disconnected", now_ns)
                decoder.reset()
                if not stop.is_set():
                    told = f"the Merlin camera at {source} closed the connection{lost}"
                    yield Link(False, told, _REMEDY)
                    # A camera that hangs up on us at once is asked less and less often.
                    attempt = attempt + 1 if time.monotonic() - began < 1.0 else 1
                    stop.wait(backoff_s(attempt))
        except PoolClosedError:
            return
        finally:
            decoder.reset()

    def _receive(
        self, receiver: Receiver, decoder: MerlinDecoder, stop: threading.Event
    ) -> Generator[Message, None, str]:
        """Receive until the stream ends or `stop`; returns how a connection was lost."""
        last = time.monotonic()
        self._ask_end.clear()
        while not stop.is_set():
            try:
                count = receiver.receive(decoder.wants())
            except OSError as error:
                return f": {_why(error)}"
            if count == 0:
                return ""
            now_ns = time.time_ns()
            if count is not None:
                last = time.monotonic()
                yield from decoder.fed(count, now_ns)
            if count is None or receiver.patient:
                yield from decoder.flush(now_ns, eof=False)
            if count is not None:
                continue
            acquisition = decoder.acquisition
            if acquisition is not None:
                dwell_s = (acquisition.scan.dwell_time_us or 0.0) * 1e-6
                if self._ask_end.is_set():
                    yield from decoder.end("stopped", now_ns)
                elif time.monotonic() - last > max(
                    self.settings.idle_timeout_s, _IDLE_FRAMES * dwell_s
                ):
                    yield from decoder.end("idle", now_ns)
            self._ask_end.clear()
            receiver.wait()
        return ""

    def _prepare(self) -> Iterator[Message]:
        """Set the camera up after it has been connected; what fails is told, not fatal."""
        if self._control is None:
            return
        try:
            for name, value in self.settings.camera.items():
                self._control.set(name, value)
            if self.settings.start == "connect":
                self._start(1)
        except CameraError as error:
            yield Notice("camera_control", error.message, "error", remedy=error.remedy)

    def _start(self, scans: int) -> Mapping[str, Any]:
        assert self._control is not None
        if scans < 0:
            raise CameraError(f"cannot start {scans} scans", "scans is 1 or more, 0 is endless")
        told: dict[str, Any] = {}
        if self._scan is not None:
            told["frames"] = self._scan.frames * scans
            self._control.set("NUMFRAMESTOACQUIRE", told["frames"])
        self._control.cmd("STARTACQUISITION")
        return told


def _why(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
