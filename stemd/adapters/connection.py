"""The data connection of a camera: made again whenever it is lost, its losses told once.

What a camera adapter must get right whatever its bytes mean: patience with a camera that is not
there, less and less hurry with one that hangs up or sends nonsense, one sentence for each trouble.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import threading
import time
from collections.abc import Generator, Iterator

from stemd.adapters.sockets import Wake, backoff_s, connect, silent_s, watch_over
from stemd.blocks import Link
from stemd.errors import CameraError

SENSE_S = 5.0
"""A stream that has been nonsense by a quarter for so long is given up."""
SENSE_BYTES = 65_536
"""Less nonsense than this in that time is put up with."""
SETTLED_S = SENSE_S + 1.0
"""After a visit that brought nothing the camera counts as connected after so long, or once it has
sent something that makes sense."""
NONSENSE_PAUSE_S = 30.0
"""Longest pause after a stream of nonsense."""

_VANISHED = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN)


class Sense:
    """Whether the bytes of one connection make sense: compares garbage with all that came."""

    def __init__(self) -> None:
        self.received = 0
        self.garbage = 0
        self._since = time.monotonic()
        self._received_then = self._garbage_then = 0

    def nonsense(self, count: int, garbage: int) -> bool:
        """`count` more bytes have come, `garbage` of all were none of this camera's.

        True when more than a quarter of what came in the last seconds was garbage.
        """
        self.received += count
        self.garbage = garbage
        now = time.monotonic()
        if now - self._since < SENSE_S:
            return False
        bad = garbage - self._garbage_then
        nonsense = bad > SENSE_BYTES and 4 * bad > self.received - self._received_then
        self._since, self._received_then, self._garbage_then = now, self.received, garbage
        return nonsense

    @property
    def made_sense(self) -> bool:
        """Something has come, and most of it made sense."""
        return self.received > 4 * self.garbage


class Connection:
    """Connects to `host`:`port`, or listens there for `peer` to connect.

    `title` stands in what people read ("the Merlin camera at ..."). `open`, `came`, `waits` and
    `lost` are for the reader's thread, `reconnect` and `close` for any other.
    """

    def __init__(
        self,
        title: str,
        host: str,
        port: int,
        receive_buffer: int,
        remedy: str,
        *,
        peer: str | None = None,
    ) -> None:
        self.title, self.source = title, f"{host}:{port}"
        self.listening_port: int | None = None
        self._host, self._port, self._receive_buffer = host, port, receive_buffer
        self._remedy, self._peer = remedy, peer
        self._listener: socket.socket | None = None
        self._wake = Wake()
        self._again = threading.Event()
        self._closing = threading.Event()
        self._socket: socket.socket | None = None
        self._attempt = 0
        self._began = 0.0
        self._told: str | None = None  # why there is no camera; "" when it counts as connected
        self._empty = False  # the last visit brought nothing
        self._unseen = ""
        self.sense = Sense()

    # The reader's thread

    def over(self, stop: threading.Event) -> bool:
        """Whether the adapter is to end."""
        return stop.is_set() or self._closing.is_set()

    def open(self, stop: threading.Event) -> Generator[Link, None, socket.socket | None]:
        """A connection, however long it takes; None when the adapter is to end.

        Raises CameraError when it cannot listen.
        """
        if self._attempt:
            longest = NONSENSE_PAUSE_S if self.sense.garbage else 5.0
            self._pause(stop, backoff_s(self._attempt, longest))
        self._again.clear()
        while not self.over(stop):
            try:
                made = self._accept() if self._peer else self._connect(stop)
            except OSError as error:
                self._attempt += 1
                if not self.over(stop):
                    yield from self._tell(
                        f"no connection to the {self.title} at {self.source}{self._unseen}: "
                        f"{_why(error)}"
                    )
                self._pause(stop, backoff_s(self._attempt))
                continue
            if made is None:
                yield from self._tell(
                    f"waiting for {self._peer} to connect to {self.source}{self._unseen}"
                )
                continue
            self._socket, self._began, self.sense = made, time.monotonic(), Sense()
            self._unseen = ""
            self._wake.watch(made)
            if not self._empty:
                yield from self._connected()
            return made
        return None

    def another(self, stop: threading.Event, address: str = "") -> socket.socket:
        """One more connection, to where `open` has connected or to host:port. Raises OSError."""
        if not address:
            return self._connect(stop)
        host, port = address.rsplit(":", 1)
        return connect(host, int(port), self._receive_buffer, lambda: self.over(stop))

    def came(self, count: int, garbage: int) -> bool:
        """`count` bytes have come, `garbage` in all made no sense; False: it is not worth more."""
        return not self.sense.nonsense(count, garbage)

    def waits(self) -> Iterator[Link]:
        """Nothing comes for the moment, or the bytes have been looked at: the camera is there."""
        if self._told and (self.sense.made_sense or time.monotonic() - self._began > SETTLED_S):
            yield from self._connected()

    def lost(self, error: OSError | None = None, *, nonsense: bool = False) -> Iterator[Link]:
        """The connection is over: close it, and say why."""
        made, self._socket = self._socket, None
        self._wake.watch(None)
        assert made is not None
        silent = silent_s(made)
        with contextlib.suppress(OSError):
            made.close()
        lasted = time.monotonic() - self._began
        fruitful = self.sense.made_sense and not nonsense
        self._empty = not fruitful and (nonsense or lasted < SETTLED_S)
        self._attempt = self._attempt + 1 if self._empty else 1
        what = f"the {self.title} at {self.source}"
        if nonsense:
            text = f"what {what} sends makes no sense: the connection was ended"
        elif self._again.is_set():
            text = f"the connection to {what} is made anew, as was asked for"
            self._attempt = 0
        elif error is not None and error.errno in _VANISHED:
            since = time.gmtime(time.time() - (silent or 0.0))
            self._unseen = time.strftime(" (no sign of it since %Y-%m-%d %H:%M:%S UTC)", since)
            text = time.strftime(f"no sign of {what} since %Y-%m-%d %H:%M:%S UTC", since)
        elif error is not None:
            text = f"lost the connection to {what}: {_why(error)}"
        else:
            text = f"{what} closed the connection"
        yield from self._tell(text)

    def drop(self) -> None:
        """Close without a word: the adapter ends."""
        self._wake.watch(None)
        for opened in (self._socket, self._listener):
            if opened is not None:
                opened.close()
        self._socket = self._listener = None

    # Any thread

    def reconnect(self) -> None:
        """End the connection, if there is one, and connect anew at once."""
        self._again.set()
        self._wake.wake()

    def close(self) -> None:
        """End a blocked receive, for good."""
        self._closing.set()
        self._wake.wake()

    # Inside

    def _connected(self) -> Iterator[Link]:
        if self._told != "":
            self._told = ""
            yield Link(True, f"connected to {self.source}")

    def _tell(self, text: str) -> Iterator[Link]:
        if text != self._told:
            self._told = text
            yield Link(False, text, self._remedy)

    def _pause(self, stop: threading.Event, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._again.is_set():
            if self._closing.is_set() or stop.wait(min(0.1, left)):
                return

    def _connect(self, stop: threading.Event) -> socket.socket:
        return connect(self._host, self._port, self._receive_buffer, lambda: self.over(stop))

    def _accept(self) -> socket.socket | None:
        """The next peer, None when none has come for a moment. Raises OSError, CameraError."""
        if self._listener is None:
            self._listener = self._listen()
        if not select.select([self._listener], [], [], 0.1)[0]:
            return None
        made, _ = self._listener.accept()
        watch_over(made)
        return made

    def _listen(self) -> socket.socket:
        try:
            listener = socket.create_server((self._host, self._port), backlog=1)
        except OSError as error:
            raise CameraError(
                f"cannot listen on {self.source}: {error.strerror or error}",
                "choose another pipeline.adapter.port, or end the program that uses it",
            ) from error
        with contextlib.suppress(OSError):
            # Before anybody connects: the window scale is agreed on in the handshake.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        self.listening_port = listener.getsockname()[1]
        return listener


def _why(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
