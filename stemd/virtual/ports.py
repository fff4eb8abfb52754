"""Listening sockets of the virtual cameras."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import threading
from collections.abc import Callable

from stemd.errors import CameraError

POLL_S = 0.2


def listen(host: str, port: int, what: str) -> socket.socket:
    """A listening TCP socket; port 0 takes any free one. Raises CameraError naming the port."""
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((host, port))
    except (OSError, OverflowError) as error:
        server.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise CameraError(
                f"{what} {port} on {host} is in use by another program",
                "end that program, or choose another port (0 takes any free one)",
            ) from error
        raise CameraError(
            f"{what} {port} on {host} cannot be opened: {error}",
            "choose an address of this machine and a port from 1024 to 65535, or 0 for a free one",
        ) from error
    server.listen(16)
    server.settimeout(POLL_S)
    return server


def port_of(server: socket.socket) -> int:
    """The port a socket listens on."""
    return int(server.getsockname()[1])


def _gone(client: socket.socket) -> bool:
    """Whether the peer has closed; what it may have sent is read and forgotten."""
    try:
        readable = select.poll()
        readable.register(client, select.POLLIN)
        while readable.poll(0):  # recv itself would wait for the socket's time-out
            if not client.recv(4096):
                return True
    except OSError:
        return True
    return False


class DataPort:
    """One client at a time is served; further ones are accepted and get nothing.

    When the served client has gone the newest of the others takes its place.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = listen(host, port, "data port")
        self.port = port_of(self._server)
        self._condition = threading.Condition()
        self._clients: list[socket.socket] = []
        self._served: socket.socket | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._accept, name="virtual-data", daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._server.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.settimeout(POLL_S)
            with self._condition:
                self._clients.append(client)
                self._condition.notify_all()

    def client(self, timeout: float = 0.0) -> socket.socket | None:
        """The client to be served, waiting up to `timeout` seconds for one."""
        with self._condition:
            self._tidy()
            if self._served is None and timeout > 0:
                self._condition.wait(timeout)
                self._tidy()
            return self._served

    def _tidy(self) -> None:
        for client in [c for c in self._clients if _gone(c)]:
            self._forget(client)
        if self._served is None and self._clients:
            self._served = self._clients[-1]

    def _forget(self, client: socket.socket) -> None:
        if client in self._clients:
            self._clients.remove(client)
        if client is self._served:
            self._served = None
        client.close()

    def drop(self, client: socket.socket) -> None:
        """Close this client's connection; what was sent is still delivered."""
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)
        with self._condition:
            self._forget(client)

    def close(self) -> None:
        """Close every connection and stop listening."""
        self._closed = True
        self._server.close()
        self._thread.join()
        with self._condition:
            for client in list(self._clients):
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_WR)
                self._forget(client)


class ControlPort:
    """Accepts any number of control clients, each served by `serve` in a thread of its own."""

    def __init__(
        self, host: str, port: int, serve: Callable[[socket.socket, threading.Event], None]
    ) -> None:
        self._server = listen(host, port, "control port")
        self.port = port_of(self._server)
        self._serve = serve
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._accept, name="virtual-control", daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                client, _ = self._server.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            client.settimeout(POLL_S)
            thread = threading.Thread(target=self._run, args=(client,), daemon=True)
            self._threads = [t for t in self._threads if t.is_alive()]
            self._threads.append(thread)
            thread.start()

    def _run(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            self._serve(client, self._stop)

    def close(self) -> None:
        """Stop listening and end every conversation."""
        self._stop.set()
        self._server.close()
        self._thread.join()
        for thread in self._threads:
            thread.join()
