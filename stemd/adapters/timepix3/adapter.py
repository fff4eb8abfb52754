"""The live camera: SERVAL's raw TCP stream into the decoder, and its REST control."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, Protocol

import structlog

from stemd.acquisition import Acquisition, Scan
from stemd.adapters.events.decoder import EventDecoder
from stemd.adapters.timepix3.csr import CsrDecoder
from stemd.adapters.timepix3.front import WordsFront
from stemd.adapters.timepix3.serval import ServalClient
from stemd.adapters.timepix3.settings import Timepix3Settings
from stemd.adapters.timepix3.words import NAME, RAW_NAME
from stemd.blocks import BlockPool, EndReason, Link, Message
from stemd.errors import CameraError

log = structlog.get_logger(__name__)

WAIT_S = 0.2
"""Longest sleep in a system call, so that `stop` is obeyed well within a second."""
FLUSH_S = 0.005
"""After this long without bytes what has come goes on, be the block full or not."""
DELAY_S = 0.02
"""A block that fills slowly goes on after this long."""
RETRY_S = 0.5
RECEIVE_BUFFER = 8 * 1024 * 1024


class StreamDecoder(Protocol):
    """A decoder that the adapter can run."""

    acquisition: Acquisition | None

    def wants(self) -> Sequence[memoryview]:
        """See `adapters.base.Decoder`."""
        ...

    def fed(self, count: int, now_ns: int) -> Iterator[Message]:
        """See `adapters.base.Decoder`."""
        ...

    def flush(self, now_ns: int, *, eof: bool) -> Iterator[Message]:
        """See `adapters.base.Decoder`."""
        ...

    def finish(self, reason: EndReason, now_ns: int) -> Iterator[Message]:
        """End the scan with what has come."""
        ...

    def set_scan(self, scan: Scan) -> None:
        """Geometry from the next scan on."""
        ...

    @property
    def change_waits(self) -> bool:
        """Another geometry waits for the end of a scan that seems whole."""
        ...


class Timepix3Adapter:
    """Receives from SERVAL (connecting to it, or listening for it) and controls it by REST."""

    def __init__(self, settings: Timepix3Settings) -> None:
        self._settings = settings
        self._scan = settings.scan
        self._decoder: StreamDecoder | None = None
        self._closing = threading.Event()
        self._serval = ServalClient(settings.serval_url) if settings.serval_url else None
        self.listening_port: int | None = None

    def read(self, pool: BlockPool, stop: threading.Event) -> Iterator[Message]:
        """See `adapters.base.Adapter`. Each connection is a stream of its own."""
        told = False
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(self._listen()) if self._listens else None
            while not self._over(stop):
                connection, why = self._accept(listener) if listener else self._connect()
                if connection is None:
                    if not told:
                        told = True
                        yield Link(False, why, self._remedy)
                    stop.wait(0.0 if listener else RETRY_S)
                    continue
                told = False
                yield Link(True, f"receiving from {self._address}")
                with connection:
                    reason = yield from self._receive(connection, pool, stop)
                yield Link(False, reason, self._remedy)

    @property
    def _listens(self) -> bool:
        return self._settings.mode == "listen"

    @property
    def _address(self) -> str:
        return f"{self._settings.host}:{self._settings.port}"

    @property
    def _remedy(self) -> str:
        way = "listen" if self._settings.mode == "connect" else "connect"
        return f"SERVAL's raw destination must be tcp://{way}@{self._address}; stemd goes on trying"

    def _over(self, stop: threading.Event) -> bool:
        return stop.is_set() or self._closing.is_set()

    def _listen(self) -> socket.socket:
        try:
            listener = socket.create_server((self._settings.host, self._settings.port), backlog=1)
        except OSError as error:
            raise CameraError(
                f"cannot listen on {self._address}: {error.strerror or error}",
                "choose another pipeline.adapter.port, or end the program that uses it",
            ) from error
        self.listening_port = listener.getsockname()[1]
        return listener

    def _accept(self, listener: socket.socket) -> tuple[socket.socket | None, str]:
        if select.select([listener], [], [], WAIT_S)[0]:
            return listener.accept()[0], ""
        return None, f"waiting for SERVAL to connect to {self._address}"

    def _connect(self) -> tuple[socket.socket | None, str]:
        try:
            address = (self._settings.host, self._settings.port)
            return socket.create_connection(address, timeout=WAIT_S * 2), ""
        except OSError as error:
            return None, f"no camera at {self._address}: {error.strerror or error}"

    def _make_decoder(self, pool: BlockPool) -> StreamDecoder:
        settings = self._settings
        source = f"tcp://{self._address}"
        if settings.stream == "csr":
            return CsrDecoder(settings, pool, scan=self._scan, source=source)
        front = WordsFront(
            settings.detector_layout,
            back_limit_us=settings.back_limit_ms * 1000.0,
            headers_required=True,
            correction=settings.time_correction,
        )
        return EventDecoder(
            settings, front, pool, scan=self._scan, name=NAME, raw_name=RAW_NAME, source=source
        )

    def _receive(
        self, connection: socket.socket, pool: BlockPool, stop: threading.Event
    ) -> Generator[Message, None, str]:
        decoder = self._decoder = self._make_decoder(pool)
        connection.setblocking(False)
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        last = oldest = time.monotonic()  # of the newest bytes, and of those not passed on
        waiting = False
        while not self._over(stop):
            try:
                count = connection.recvmsg_into(decoder.wants())[0]
            except BlockingIOError:
                if not poll.poll(1000 * (FLUSH_S if waiting else WAIT_S)):
                    now = time.time_ns()
                    if waiting:
                        yield from decoder.flush(now, eof=False)
                        waiting = False
                    quiet = time.monotonic() - last
                    over = decoder.change_waits or quiet > self._settings.idle_timeout_s
                    if decoder.acquisition is not None and over:
                        yield from decoder.finish("idle", now)
                continue
            except OSError as error:
                yield from decoder.flush(time.time_ns(), eof=True)
                return f"lost the connection to {self._address}: {error.strerror or error}"
            if count == 0:
                yield from decoder.flush(time.time_ns(), eof=True)
                return f"{self._address} closed the connection"
            last = time.monotonic()
            oldest = oldest if waiting else last
            waiting = True
            yield from decoder.fed(count, time.time_ns())
            if last - oldest > DELAY_S:
                yield from decoder.flush(time.time_ns(), eof=False)
                waiting = False
        yield from decoder.flush(time.time_ns(), eof=False)
        yield from decoder.finish("stopped", time.time_ns())
        return "stopped"

    def set_scan(self, scan: Scan) -> None:
        """See `adapters.base.Adapter`."""
        self._scan = scan
        if self._decoder is not None:
            self._decoder.set_scan(scan)

    @property
    def commands(self) -> frozenset[str]:
        """See `adapters.base.Commanded`."""
        return frozenset(("start", "stop", "abort") if self._serval is not None else ())

    def command(self, name: str, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """ "start", "stop", "abort", "health", "configure" through SERVAL's REST interface."""
        if self._serval is None:
            raise CameraError(
                f"the camera cannot be told to {name}: it has no control address",
                "set serval_url in the adapter's settings",
            )
        return self._serval.command(name, args)

    def close(self) -> None:
        """Wake a blocked `read`: it looks every 0.2 s."""
        self._closing.set()
