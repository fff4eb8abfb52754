"""A web server of one folder that knows ranges, and faults."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Fault = Callable[[str, int], str]
"""(file name, first byte) -> "" or what goes wrong: "cut" (half of the bytes, then nothing),
"busy" (503), "forbidden" (403), "whole" (ranges are not known), "ignores" (If-Range is not known),
"shifted" (another range than was asked for), "trickle" (100 bytes a second)"""


def no_fault(name: str, first: int) -> str:
    """All goes well."""
    return ""


class RangeServer:
    """Serves on loopback until `stop`; `start` again takes the same port.

    `asked` are the ranges (name, first, stop) of all requests for content.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fault: Fault = no_fault
        self.tagged = True
        self.asked: list[tuple[str, int, int]] = []
        self.port = 0
        self._server: _Server | None = None
        self.start()

    def start(self) -> None:
        """Listen."""
        self._server = _Server(self)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Die: whoever is served is cut off, nobody is let in."""
        if self._server is not None:
            self._server.dead = True
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def url(self, name: str) -> str:
        """The address of a file."""
        return f"http://127.0.0.1:{self.port}/{name}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, owner: RangeServer) -> None:
        self.owner = owner
        self.dead = False
        super().__init__(("127.0.0.1", owner.port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away in the middle are no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *args: Any) -> None:
        """Nothing to stderr."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        owner = self.server.owner
        name = self.path.partition("?")[0].lstrip("/")
        if self.server.dead:
            self.close_connection = True
            return
        path = owner.folder / name
        if not path.is_file():
            self._status(404)
            return
        size = path.stat().st_size
        said = self.headers.get("Range", "")
        first, stop = 0, size
        if said:
            low, _, high = said.removeprefix("bytes=").partition("-")
            first, stop = int(low), min(size, int(high) + 1)
        if body:
            owner.asked.append((name, first, stop))
        if first >= size > 0:
            self._status(416)
            return
        fault = owner.fault(name, first)
        if fault in ("busy", "forbidden"):
            self._status(503 if fault == "busy" else 403)
            return
        changed = path.stat().st_mtime_ns
        tag = f'"{changed:x}"'
        condition = self.headers.get("If-Range", tag)
        same = condition in (tag, self.date_time_string(int(changed / 1e9)))
        partial = bool(said) and fault != "whole" and (same or fault == "ignores")
        shift = 1 if fault == "shifted" else 0
        self.send_response(206 if partial else 200)
        if partial:
            self.send_header("Content-Range", f"bytes {first + shift}-{stop - 1 + shift}/{size}")
        else:
            first, stop = 0, size
        self.send_header("Content-Length", str(stop - first))
        if owner.tagged:
            self.send_header("ETag", tag)
            self.send_header("Last-Modified", self.date_time_string(int(changed / 1e9)))
        self.end_headers()
        if body:
            half = fault == "cut" and first > 0
            with path.open("rb") as file:
                file.seek(first)
                if fault == "trickle":
                    while not self.server.dead:
                        self.wfile.write(file.read(10))
                        self.wfile.flush()
                        time.sleep(0.1)
                self.wfile.write(file.read((stop - first) // 2 if half else stop - first))
            self.close_connection = self.close_connection or half or self.server.dead

    def _status(self, code: int) -> None:
        self.send_response(code)
        self.send_header("Content-Length", "0")
        self.end_headers()
