"""The data connection: connect with patience, receive into scatter lists, wake on close."""

from __future__ import annotations

import contextlib
import os
import random
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence

_SLICE_S = 0.1  # how often `stop` is looked at while nothing happens


def backoff_s(attempt: int, longest: float = 5.0) -> float:
    """Pause before connection attempt number `attempt` (from 1): doubling, with jitter."""
    return min(longest, 0.1 * 2.0 ** min(attempt, 10)) * random.uniform(0.6, 1.0)


def connect(
    host: str, port: int, receive_buffer: int, stop: Callable[[], bool], timeout_s: float = 5.0
) -> socket.socket:
    """A connected socket. Raises OSError; InterruptedError when `stop` says so meanwhile."""
    error: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        made = socket.socket(family, kind, protocol)
        try:
            # Before connecting: the window scale is agreed on in the handshake.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            _finish(made, address, stop, time.monotonic() + timeout_s)
        except OSError as failed:
            made.close()
            error = failed
            if isinstance(failed, InterruptedError):
                break
        else:
            return made
    raise error or OSError(f"{host} has no address")


def _finish(
    made: socket.socket, address: tuple[object, ...], stop: Callable[[], bool], deadline: float
) -> None:
    made.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        made.connect(address)
    while not select.select([], [made], [], _SLICE_S)[1]:
        if stop():
            raise InterruptedError("stopped")
        if time.monotonic() > deadline:
            raise TimeoutError("no answer")
    code = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


class Receiver:
    """Receives whole scatter lists from a connected socket.

    Where it is `patient` (Linux), `receive` waits until a list is full or `patience_s` have
    passed since the call, whichever is first, in one system call that sleeps in the kernel.
    """

    def __init__(self, connected: socket.socket, patience_s: float = 0.005) -> None:
        self.socket = connected
        connected.setblocking(True)
        micros = int(patience_s * 1e6)
        patience = struct.pack("ll", micros // 10**6, micros % 10**6)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
        self._flags = getattr(socket, "MSG_WAITALL", 0)
        self.patient = bool(self._flags)
        self._poll = select.poll()
        self._poll.register(connected, select.POLLIN)
        self._scatter = hasattr(connected, "recvmsg_into")

    def wait(self) -> bool:
        """Wait a moment for anything to read; True when there is, or the stream has ended."""
        return bool(self._poll.poll(int(_SLICE_S * 1000)))

    def receive(self, views: Sequence[memoryview]) -> int | None:
        """Bytes received into `views` in order; 0 at the end of the stream, None: none now.

        Raises OSError when the connection is lost.
        """
        try:
            if self._scatter:
                return self.socket.recvmsg_into(views, 0, self._flags)[0]
            return self.socket.recv_into(views[0], 0, self._flags)
        except (BlockingIOError, InterruptedError):
            return None

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


class Wake:
    """Lets another thread end a blocked receive."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def watch(self, connected: socket.socket | None) -> None:
        """The socket to shut down on `wake`, None for no longer."""
        with self._lock:
            self._socket = connected

    def wake(self) -> None:
        """Shut the watched socket down: its receive returns at once with the end of the stream."""
        with self._lock:
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
