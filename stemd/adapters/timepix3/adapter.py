"""The live camera: SERVAL's raw TCP stream into the decoder, and its REST control."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, Protocol

from stemd.acquisition import Acquisition, Scan
from stemd.adapters.connection import Connection
from stemd.adapters.events.decoder import EventDecoder
from stemd.adapters.events.received import NO_SCAN, Received
from stemd.adapters.silence import Silence
from stemd.adapters.timepix3.csr import CsrDecoder
from stemd.adapters.timepix3.front import WordsFront
from stemd.adapters.timepix3.serval import ServalClient
from stemd.adapters.timepix3.settings import Timepix3Settings
from stemd.adapters.timepix3.words import NAME, RAW_NAME
from stemd.ahead import ahead
from stemd.blocks import BlockPool, EndReason, EventBlock, Message
from stemd.errors import CameraError

WAIT_S = 0.2
"""Longest sleep in a system call, so that `stop` is obeyed well within a second."""
FLUSH_S = 0.005
"""After this long without bytes what has come goes on, be the block full or not."""
DELAY_S = 0.02
"""A block that fills slowly goes on after this long."""
RECEIVE_BUFFER = 8 * 1024 * 1024


class StreamDecoder(Protocol):
    """A decoder that the adapter can run."""

    @property
    def acquisition(self) -> Acquisition | None:
        """The scan that is open, None between scans."""
        ...

    @property
    def at_the_end(self) -> bool:
        """The open scan lacks no more than its last line."""
        ...

    @property
    def scans(self) -> int:
        """Scans that have begun."""
        ...

    @property
    def undecided(self) -> bool:
        """Something waits that the end of a silence decides."""
        ...

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

    def close(self) -> None:
        """Give every block back."""
        ...

    @property
    def garbage_bytes(self) -> int:
        """Bytes that were none of this camera's."""
        ...

    def set_scan(self, scan: Scan) -> None:
        """Geometry from the next scan on."""
        ...

    @property
    def change_waits(self) -> bool:
        """Another geometry waits for the end of a scan that seems whole."""
        ...


def _forget(message: Message) -> None:
    """Give the memory of a message back that nobody takes."""
    if isinstance(message, EventBlock):
        message.release()


class Timepix3Adapter:
    """Receives from SERVAL (connecting to it, or listening for it) and controls it by REST."""

    def __init__(self, settings: Timepix3Settings) -> None:
        self._settings = settings
        self._scan = settings.scan
        self._decoder: StreamDecoder | None = None
        self._received = Received()
        self._ask_end = threading.Event()
        self.no_frames = NO_SCAN
        self._serval = ServalClient(settings.serval_url) if settings.serval_url else None
        way, peer = ("listen", None) if settings.mode == "connect" else ("connect", "SERVAL")
        address = f"{settings.host}:{settings.port}"
        self._connection = Connection(
            "Timepix3 camera",
            settings.host,
            settings.port,
            RECEIVE_BUFFER,
            f"SERVAL's raw destination must be tcp://{way}@{address}; stemd goes on trying",
            peer=peer,
        )

    def read(self, pool: BlockPool, stop: threading.Event) -> Iterator[Message]:
        """See `adapters.base.Adapter`. Each connection is a stream of its own."""
        messages = self._read(pool, stop)
        if not self._settings.decode_apart:
            return messages
        # of a camera that sends nothing the other thread would never come back
        return ahead(messages, _forget, hurry=self._connection.close)

    def _read(self, pool: BlockPool, stop: threading.Event) -> Iterator[Message]:
        link = self._connection
        try:
            while not link.over(stop):
                connected = yield from link.open(stop)
                if connected is None:
                    break
                decoder = self._decoder = self._make_decoder(pool)
                self._received.began()
                try:
                    why, nonsense = yield from self._receive(connected, decoder, stop)
                finally:
                    decoder.close()
                if not link.over(stop):
                    yield from link.lost(why, nonsense=nonsense)
        finally:
            link.drop()

    @property
    def received_bytes(self) -> int:
        """See `adapters.base.Receives`."""
        return self._received.bytes

    @property
    def listening_port(self) -> int | None:
        """The port on which SERVAL is waited for, once it is open."""
        return self._connection.listening_port

    def _make_decoder(self, pool: BlockPool) -> StreamDecoder:
        settings = self._settings
        source = f"tcp://{self._connection.source}"
        if settings.stream == "csr":
            return CsrDecoder(settings, pool, scan=self._scan, source=source)
        front = WordsFront(
            settings.detector_layout,
            back_limit_us=settings.back_limit_ms * 1000.0,
            window_us=settings.reorder_window_us,
            headers_required=True,
            correction=settings.time_correction,
        )
        return EventDecoder(
            settings, front, pool, scan=self._scan, name=NAME, raw_name=RAW_NAME, source=source
        )

    def _receive(
        self, connection: socket.socket, decoder: StreamDecoder, stop: threading.Event
    ) -> Generator[Message, None, tuple[OSError | None, bool]]:
        """Receive until the stream ends or `stop`; see `frames.adapter`."""
        link = self._connection
        connection.setblocking(False)
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        oldest = time.monotonic()  # of the bytes not passed on
        silence = Silence(self._settings, "hit", stops=self._serval is not None)
        self._ask_end.clear()
        waiting = False
        while not link.over(stop):
            try:
                count = connection.recvmsg_into(decoder.wants())[0]
            except BlockingIOError:
                if not poll.poll(1000 * (FLUSH_S if waiting else WAIT_S)):
                    now = time.time_ns()
                    if waiting:
                        yield from decoder.flush(now, eof=False)
                        waiting = False
                    yield from link.waits()
                    yield from self._silent(silence, decoder, now)
                continue
            except OSError as error:
                yield from decoder.flush(time.time_ns(), eof=True)
                return error, False
            if count == 0:
                yield from decoder.flush(time.time_ns(), eof=True)
                return None, False
            silence.broken()
            last = time.monotonic()
            oldest = oldest if waiting else last
            waiting = True
            yield from decoder.fed(count, time.time_ns())
            garbage = decoder.garbage_bytes
            self._received.came(count, garbage, decoder.scans)
            if last - oldest > DELAY_S:
                yield from decoder.flush(time.time_ns(), eof=False)
                waiting = False
            yield from link.waits()
            if not link.came(count, garbage):
                yield from decoder.flush(time.time_ns(), eof=True)
                return None, True
        yield from decoder.flush(time.time_ns(), eof=False)
        yield from decoder.finish("stopped", time.time_ns())
        return None, False

    def _silent(self, silence: Silence, decoder: StreamDecoder, now: int) -> Iterator[Message]:
        """Nothing comes: end the scan, and what may yet be one, where it is over for that."""
        scan = decoder.acquisition
        asked = self._ask_end.is_set()
        self._ask_end.clear()
        if scan is None and not decoder.undecided:
            return
        if asked:
            yield from decoder.finish("stopped", now)
        elif decoder.change_waits or (
            yield from silence.lasts(scan, at_the_end=decoder.at_the_end)
        ):
            yield from decoder.finish("idle", now)

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
        try:
            return self._serval.command(name, args)
        finally:
            if name in ("stop", "abort"):
                self._ask_end.set()  # also where SERVAL does not answer: nothing more comes

    def close(self) -> None:
        """Wake a blocked `read`."""
        self._connection.close()

    def reconnect(self) -> None:
        """See `adapters.base.Reconnects`."""
        self._connection.reconnect()
