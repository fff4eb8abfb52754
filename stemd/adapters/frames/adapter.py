"""A live frame camera: keeps the data connection, times scans out, passes commands on."""

from __future__ import annotations

import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from stemd.acquisition import Acquisition, Scan
from stemd.adapters.base import CameraReading, Decoder
from stemd.adapters.connection import Connection
from stemd.adapters.frames.control import Control
from stemd.adapters.frames.decoder import FrameDecoder
from stemd.adapters.frames.format import FrameFormat
from stemd.adapters.frames.settings import FrameSettings
from stemd.adapters.frames.warm import warm_up
from stemd.adapters.silence import Silence
from stemd.adapters.sockets import Receiver
from stemd.blocks import BlockPool, EndReason, Message, Notice, PoolClosedError
from stemd.errors import CameraError

_REMEDY = (
    "check that the camera's software runs and serves its data port there, and that no other "
    "client holds it; stemd keeps trying"
)

_NO_FRAMES = (
    "check that the adapter's type, host and port are those of this camera, and that it sends "
    "frames and not only headers; state.counters says what was skipped"
)


class LiveDecoder(Decoder, Protocol):
    """The decoder of a connection to a frame camera, see `FrameDecoder`."""

    scan: Scan | None
    broken: bool
    """What comes makes no sense any more: the connection is to be ended."""

    @property
    def acquisition(self) -> Acquisition | None:
        """The scan under way."""
        ...

    def of_several(self) -> None:
        """This is one of several links that bring the frames of a scan."""
        ...

    @property
    def at_the_end(self) -> bool:
        """It lacks no more than its last frames."""
        ...

    def end(self, reason: EndReason, now_ns: int) -> Iterable[Message]:
        """End it."""
        ...

    @property
    def useless_bytes(self) -> int:
        """Bytes of this connection that no frame can come of."""
        ...

    def reset(self) -> None:
        """The next byte is the first of a new connection."""
        ...


class StreamAdapter(ABC):
    """Implements adapters.base.Adapter for a camera that sends frames from a TCP port.

    `title` stands in what people read ("the Merlin camera at ..."); without `control` the camera
    takes no commands, `no_control` says what to do about it. What the bytes mean is said by
    `new_decoder`, see `FrameAdapter`.
    """

    def __init__(
        self,
        settings: FrameSettings,
        port: int,
        title: str,
        *,
        control: Control | None = None,
        no_control: str = "start and stop at the camera",
    ) -> None:
        self.settings = settings
        self._title = title
        self._scan = settings.scan
        self._decoder: LiveDecoder | None = None
        self._connection = Connection(title, settings.host, port, settings.receive_buffer, _REMEDY)
        self._ask_end = threading.Event()
        self._control, self._no_control = control, no_control
        self._received_bytes = 0
        self._of_several = False
        self.no_frames = _NO_FRAMES

    @property
    def received_bytes(self) -> int:
        """See `adapters.base.Receives`: a frame camera sends nothing between two scans."""
        return self._received_bytes

    def set_scan(self, scan: Scan) -> None:
        """Scan geometry from the next scan on."""
        self._scan = scan
        if self._decoder is not None:
            self._decoder.scan = scan

    @property
    def source(self) -> str:
        """Where the camera is, host:port."""
        return self._connection.source

    def of_several(self) -> None:
        """Before `read`: this is one of several links that bring the frames of a scan."""
        self._of_several = True

    def end_scan(self) -> None:
        """The scan under way is over once nothing comes for a moment. From any thread."""
        self._ask_end.set()

    @property
    def commands(self) -> frozenset[str]:
        """See `adapters.base.Commanded`."""
        return self._control.commands if self._control is not None else frozenset()

    @property
    def camera_status(self) -> Sequence[CameraReading]:
        """See `adapters.base.Instrumented`."""
        return self._control.status if self._control is not None else ()

    def command(self, name: str, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """Carry out "start", "stop" or "abort".

        Raises CameraError when the camera takes no commands, cannot be reached, or refuses.
        """
        if self._control is None:
            raise CameraError(
                f"the {self._title} at {self.settings.host} cannot be told to {name}",
                self._no_control,
            )
        try:
            return self._control.command(name, args, self._scan)
        finally:
            if name in ("stop", "abort"):
                self._ask_end.set()  # also where the camera does not answer: nothing more comes

    def reconnect(self) -> None:
        """See `adapters.base.Reconnects`."""
        self._connection.reconnect()

    def close(self) -> None:
        """Wake a blocked `read` after `stop` was set."""
        self._connection.close()
        if self._control is not None:
            self._control.close()

    def read(self, pool: BlockPool, stop: threading.Event) -> Iterator[Message]:
        """Messages of the camera until `stop`; connects again whenever the camera was lost."""
        link = self._connection
        decoder = self._decoder = self.new_decoder(pool, self._scan, link.source)
        if self._of_several:
            decoder.of_several()
        try:
            while not link.over(stop):
                connected = yield from link.open(stop)
                if connected is None:
                    break
                yield from self._prepare()
                why, nonsense = yield from self._converse(connected, decoder, stop)
                now_ns = time.time_ns()
                yield from decoder.flush(now_ns, eof=True)
                yield from decoder.end("stopped" if stop.is_set() else "disconnected", now_ns)
                decoder.reset()
                if not link.over(stop):
                    yield from link.lost(why, nonsense=nonsense)
        except PoolClosedError:
            return
        finally:
            link.drop()
            decoder.reset()

    @abstractmethod
    def new_decoder(self, pool: BlockPool, scan: Scan | None, source: str) -> LiveDecoder:
        """The decoder of all connections, its kernels compiled."""

    def receiver(self, connected: socket.socket, stop: threading.Event) -> Receiver:
        """What receives from the camera that has been connected. Raises OSError."""
        return Receiver(connected)

    def answer(self, connected: socket.socket, decoder: LiveDecoder) -> None:  # noqa: B027 as it says
        """Send what the protocol asks for: nothing. Raises OSError."""

    def _converse(
        self, connected: socket.socket, decoder: LiveDecoder, stop: threading.Event
    ) -> Generator[Message, None, tuple[OSError | None, bool]]:
        """See `_receive`."""
        try:
            receiver = self.receiver(connected, stop)
        except OSError as error:
            return error, False
        try:
            return (yield from self._receive(receiver, decoder, stop))
        finally:
            receiver.leave()

    def _receive(
        self, receiver: Receiver, decoder: LiveDecoder, stop: threading.Event
    ) -> Generator[Message, None, tuple[OSError | None, bool]]:
        """Receive until the stream ends or `stop`; returns how a connection was lost.

        The second is True where what came made no sense.
        """
        link = self._connection
        silence = Silence(self.settings, "frame", stops="stop" in self.commands)
        self._ask_end.clear()
        while not stop.is_set():
            try:
                self.answer(receiver.socket, decoder)
                count = receiver.receive(decoder.wants())
            except OSError as error:
                return error, False
            if count == 0:
                return None, False
            now_ns = time.time_ns()
            if count is not None:
                self._received_bytes += count
                silence.broken()
                yield from decoder.fed(count, now_ns)
                if decoder.broken or not link.came(count, decoder.useless_bytes):
                    return None, True
            if count is None or receiver.patient:
                yield from decoder.flush(now_ns, eof=False)
            yield from link.waits()
            if count is not None:
                continue
            if decoder.acquisition is not None:
                if self._ask_end.is_set():
                    yield from decoder.end("stopped", now_ns)
                elif (yield from silence.lasts(decoder.acquisition, at_the_end=decoder.at_the_end)):
                    yield from decoder.end("idle", now_ns)
            self._ask_end.clear()
            receiver.wait()
        return None, False

    def _prepare(self) -> Iterator[Message]:
        """Set the camera up after it has been connected; what fails is told, not fatal."""
        if self._control is None:
            return
        try:
            told = self._control.prepare(self._scan)
        except CameraError as error:
            yield Notice("camera_control", error.message, "error", remedy=error.remedy)
        else:
            if told:
                yield Notice("camera_status", told, "info")


class FrameAdapter(StreamAdapter):
    """A camera whose bytes a `FrameFormat` knows."""

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
        super().__init__(settings, port, title, control=control, no_control=no_control)
        self._format = camera

    def new_decoder(self, pool: BlockPool, scan: Scan | None, source: str) -> LiveDecoder:
        """See `StreamAdapter`."""
        warm_up(self._format)
        return FrameDecoder(self._format, pool, scan, source)
