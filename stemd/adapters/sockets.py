"""Sockets to cameras: connect with patience, notice a silent death, receive, wake on close."""

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

ALIVE_IDLE_S, ALIVE_INTERVAL_S, ALIVE_PROBES = 10, 5, 3
"""A peer that has been silent for so long is asked whether it is there, so often, so many times:
one that has gone without a word is noticed after 25 s."""
_USER_TIMEOUT_MS = 24_000  # less than 25 s: the clock of the probes must not add another interval
_TCP_INFO_BYTES = 60
_LAST_DATA, _LAST_ACK = 52, 56  # offsets in Linux' struct tcp_info, ms ago


def watch_over(connected: socket.socket) -> None:
    """Make the kernel notice a peer that is gone without having closed the connection.

    A receiver sends nothing, so nothing tells it of a camera whose PC lost its power: every
    socket to or from a camera goes through here. An accepted socket has it of its listener.
    """
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", ALIVE_IDLE_S),
        ("TCP_KEEPINTVL", ALIVE_INTERVAL_S),
        ("TCP_KEEPCNT", ALIVE_PROBES),
        ("TCP_USER_TIMEOUT", _USER_TIMEOUT_MS),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            with contextlib.suppress(OSError):  # not every system has every one
                connected.setsockopt(socket.IPPROTO_TCP, option, value)


def silent_s(connected: socket.socket) -> float | None:
    """Seconds since the peer's last sign of life, data or not; None where the system cannot tell.

    Also of a connection that the kernel has given up, as long as the socket is not closed.
    """
    option = getattr(socket, "TCP_INFO", None)
    if option is None:
        return None
    try:
        info = connected.getsockopt(socket.IPPROTO_TCP, option, _TCP_INFO_BYTES)
        data, ack = (struct.unpack_from("=I", info, at)[0] for at in (_LAST_DATA, _LAST_ACK))
    except (OSError, struct.error):
        return None
    return float(min(data, ack)) / 1e3


def backoff_s(attempt: int, longest: float = 5.0) -> float:
    """Pause before connection attempt number `attempt` (from 1): doubling, with jitter."""
    return min(longest, 0.1 * 2.0 ** min(attempt, 10)) * random.uniform(0.6, 1.0)


def connect(
    host: str, port: int, receive_buffer: int, stop: Callable[[], bool], timeout_s: float = 5.0
) -> socket.socket:
    """A connected, watched socket. Raises OSError; InterruptedError when `stop` says so."""
    error: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        made = socket.socket(family, kind, protocol)
        try:
            # Before connecting: the window scale is agreed on in the handshake.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            watch_over(made)
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

    def leave(self) -> None:
        """Close what it has opened besides the socket that it was given: nothing."""

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
