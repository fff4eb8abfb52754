"""Requests to a camera's HTTP server, each answered whole within a bounded time, or not at all."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from stemd.adapters.sockets import watch_over

CONNECT_S = 2.0
TIMEOUT_S = 4.0
"""For a whole request and its reply, however slowly that comes."""
MAX_REPLY_BYTES = 4 * 1024 * 1024

Json = Mapping[str, Any]
FAILURES = (OSError, ValueError, http.client.HTTPException)
"""What an exchange may raise."""


def _hang_up(opened: socket.socket, late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(OSError):
        opened.shutdown(socket.SHUT_RDWR)


class RestServer:
    """The server at `url`; a connection for each request, from any thread."""

    def __init__(self, url: str, connect_s: float | None = None) -> None:
        parts = urlsplit(url.rstrip("/"))
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port
        self._prefix = parts.path
        self._connect_s = connect_s
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closed = False

    def close(self) -> None:
        """End all requests that wait, and answer no more: they raise ConnectionError at once."""
        with self._lock:
            self._closed = True
            for opened in self._open:
                with contextlib.suppress(OSError):
                    opened.shutdown(socket.SHUT_RDWR)

    def _keep(self, opened: socket.socket) -> None:
        with self._lock:
            if self._closed:
                raise ConnectionAbortedError("closed")
            self._open.add(opened)

    def exchange(
        self,
        path: str,
        body: Json | None = None,
        *,
        put: bool | None = None,
        timeout_s: float | None = None,
    ) -> tuple[int, str, str]:
        """(status, its reason, text) of the reply to a GET, or the PUT of a JSON body.

        `put` asks for a PUT without a body. Raises one of FAILURES.
        """
        limit_s = TIMEOUT_S if timeout_s is None else timeout_s
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        opened = kind(self._host, self._port, timeout=self._connect_s or CONNECT_S)
        connected = None
        try:
            opened.connect()
            connected = opened.sock
            self._keep(connected)
            watch_over(opened.sock)
            opened.sock.settimeout(limit_s)
            # A time limit of a socket is one for each byte: this is one for the whole reply.
            late = threading.Event()
            limit = threading.Timer(limit_s, _hang_up, (opened.sock, late))
            limit.daemon = True
            limit.start()
            try:
                told = self._asked(opened, path, body, bool(put) or body is not None)
                if late.is_set():  # without a length a reply ends where it was cut off
                    raise ConnectionError("cut off")
                return told
            except (OSError, http.client.HTTPException) as error:
                if not late.is_set():
                    raise
                raise TimeoutError(f"no whole answer within {limit_s:g} s") from error
            finally:
                limit.cancel()
        finally:
            with self._lock:
                self._open.discard(connected)
            opened.close()

    def _asked(
        self, opened: http.client.HTTPConnection, path: str, body: Json | None, put: bool
    ) -> tuple[int, str, str]:
        data = None if body is None else json.dumps(body).encode()
        opened.request(
            "PUT" if put else "GET",
            self._prefix + path,
            data,
            {"Content-Type": "application/json", "Connection": "close"},
        )
        reply = opened.getresponse()
        text = reply.read(MAX_REPLY_BYTES).decode("utf-8", "replace")
        return reply.status, reply.reason, text
