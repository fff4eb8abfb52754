"""A live frame camera: keeps the data connection, times scans out, passes commands on."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Mapping
from typing import Annotated, Any, Protocol

from pydantic import Field

from stemd.acquisition import Scan
from stemd.adapters.base import AdapterSettings
from stemd.adapters.frames.decoder import FrameDecoder
from stemd.adapters.frames.format import FrameFormat
from stemd.adapters.frames.warm import warm_up
from stemd.adapters.sockets import Receiver, Wake, backoff_s, connect
from stemd.blocks import BlockPool, Link, Message, Notice, PoolClosedError
from stemd.errors import CameraError

_IDLE_FRAMES = 20  # a slow camera is waited for this many dwell times
_REMEDY = (
    "check that the camera's software runs and serves its data port there, and that no other "
    "client holds it; stemd keeps trying"
)

Port = Annotated[int, Field(ge=1, le=65535)]


class FrameSettings(AdapterSettings):
    """What every frame camera's config table has.

    `idle_timeout_s`: a scan of which nothing has come for so long is over. `receive_buffer` is the
    socket's, in bytes.
    """

    host: str = "127.0.0.1"
    idle_timeout_s: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 2.0
    receive_buffer: Annotated[int, Field(ge=65536, le=1 << 30)] = 4 * 1024 * 1024


class Control(Protocol):
    """Tells a camera what to do; its methods may be called from any thread.

    They raise CameraError when the camera does not answer, or refuses.
    """

    commands: frozenset[str]
    """Of "start", "stop", "abort"."""

    def prepare(self, scan: Scan | None) -> None:
        """The camera has just been connected: set it up."""
        ...

    def command(self, name: str, args: Mapping[str, Any], scan: Scan | None) -> Mapping[str, Any]:
        """Carry out a command; `scan` is the geometry that is configured."""
        ...

    def close(self) -> None:
        """End a request that waits."""
        ...


class FrameAdapter:
    """Implements adapters.base.Adapter for a camera that sends frames from a TCP port.

    `title` stands in what people read ("the Merlin camera at ..."); without `control` the camera
    takes no commands, `no_control` says what to do about it.
    """

    def __init__(
        self,
        settings: FrameSettings,
        camera: FrameFormat,
        port: int,
        title: str,
        *,
        control: Control | None = None,
        no_control: str = "start and stop at the camera",
    ) -> None:
        self.settings = settings
        self._format = camera
        self._port, self._title = port, title
        self._scan = settings.scan
        self._decoder: FrameDecoder | None = None
        self._wake = Wake()
        self._ask_end = threading.Event()
        self._control, self._no_control = control, no_control

    def set_scan(self, scan: Scan) -> None:
        """Scan geometry from the next scan on."""
        self._scan = scan
        if self._decoder is not None:
            self._decoder.scan = scan

    @property
    def commands(self) -> frozenset[str]:
        """See `adapters.base.Commanded`."""
        return self._control.commands if self._control is not None else frozenset()

    def command(self, name: str, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """Carry out "start", "stop" or "abort".

        Raises CameraError when the camera takes no commands, cannot be reached, or refuses.
        """
        if self._control is None:
            raise CameraError(
                f"the {self._title} at {self.settings.host} cannot be told to {name}",
                self._no_control,
            )
        told = self._control.command(name, args, self._scan)
        if name in ("stop", "abort"):
            self._ask_end.set()
        return told

    def close(self) -> None:
        """Wake a blocked `read` after `stop` was set."""
        self._wake.wake()
        if self._control is not None:
            self._control.close()

    def read(self, pool: BlockPool, stop: threading.Event) -> Iterator[Message]:
        """Messages of the camera until `stop`; connects again whenever the camera was lost."""
        warm_up(self._format)
        settings = self.settings
        source = f"{settings.host}:{self._port}"
        decoder = self._decoder = FrameDecoder(self._format, pool, self._scan, source)
        attempt, told = 0, ""
        try:
            while not stop.is_set():
                try:
                    connected = connect(
                        settings.host, self._port, settings.receive_buffer, stop.is_set
                    )
                except OSError as error:
                    attempt += 1
                    reason = f"no connection to the {self._title} at {source}: {_why(error)}"
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
                    told = f"the {self._title} at {source} closed the connection{lost}"
                    yield Link(False, told, _REMEDY)
                    # A camera that hangs up on us at once is asked less and less often.
                    attempt = attempt + 1 if time.monotonic() - began < 1.0 else 1
                    stop.wait(backoff_s(attempt))
        except PoolClosedError:
            return
        finally:
            decoder.reset()

    def _receive(
        self, receiver: Receiver, decoder: FrameDecoder, stop: threading.Event
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
            self._control.prepare(self._scan)
        except CameraError as error:
            yield Notice("camera_control", error.message, "error", remedy=error.remedy)


def _why(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
