"""A client of SERVAL's REST interface: start, stop, configuration, health."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from stemd.adapters.sockets import watch_over
from stemd.documents import from_json
from stemd.errors import CameraError, FormatError

CONNECT_S = 2.0
TIMEOUT_S = 4.0
"""For a whole request and its reply, however slowly that comes."""
MAX_REPLY_BYTES = 4 * 1024 * 1024

Json = Mapping[str, Any]


def _hang_up(opened: socket.socket, late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(OSError):
        opened.shutdown(socket.SHUT_RDWR)


class ServalClient:
    """One SERVAL server. Every method may be called from any thread and takes at most 6 s."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port
        self._prefix = parts.path

    def request(self, path: str, body: Json | None = None) -> Any:
        """GET, or PUT of a JSON body; the reply as JSON, or text where it is none.

        Raises CameraError with what SERVAL says.
        """
        try:
            status, reason, text = self._exchange(path, body)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise CameraError(
                f"SERVAL at {self.url} does not answer: {error or type(error).__name__}",
                "check that SERVAL runs and serval_url is its address",
            ) from error
        if status >= 300:
            raise CameraError(
                f"SERVAL refused {path}: {status} {text.strip()[:2000] or reason}",
                "see SERVAL's own log",
            )
        try:
            return from_json(text)
        except FormatError:
            return text.strip()

    def _exchange(self, path: str, body: Json | None) -> tuple[int, str, str]:
        """Status, its reason, and text of a reply that is whole in time. Raises OSError, ..."""
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        opened = kind(self._host, self._port, timeout=CONNECT_S)
        try:
            opened.connect()
            watch_over(opened.sock)
            opened.sock.settimeout(TIMEOUT_S)
            # A time limit of a socket is one for each byte: this is one for the whole reply.
            late = threading.Event()
            limit = threading.Timer(TIMEOUT_S, _hang_up, (opened.sock, late))
            limit.daemon = True
            limit.start()
            try:
                told = self._asked(opened, path, body)
                if late.is_set():  # without a length a reply ends where it was cut off
                    raise ConnectionError("cut off")
                return told
            except (OSError, http.client.HTTPException) as error:
                if not late.is_set():
                    raise
                raise TimeoutError(f"no whole answer within {TIMEOUT_S:g} s") from error
            finally:
                limit.cancel()
        finally:
            opened.close()

    def _asked(
        self, opened: http.client.HTTPConnection, path: str, body: Json | None
    ) -> tuple[int, str, str]:
        data = None if body is None else json.dumps(body).encode()
        opened.request(
            "GET" if data is None else "PUT",
            self._prefix + path,
            data,
            {"Content-Type": "application/json", "Connection": "close"},
        )
        reply = opened.getresponse()
        text = reply.read(MAX_REPLY_BYTES).decode("utf-8", "replace")
        return reply.status, reply.reason, text

    def dashboard(self) -> Json:
        """Server, measurement and detector at a glance."""
        return self._object("/dashboard")

    def health(self) -> Json:
        """Temperatures, voltages, fans, by board."""
        reply = self.request("/detector/health")
        return reply if isinstance(reply, Mapping) else {"detector": reply}

    def info(self) -> Json:
        """What the detector is: chips, boards, firmware."""
        return self._object("/detector/info")

    def configuration(self) -> Json:
        """The detector's settings."""
        return self._object("/detector/config")

    def configure(self, changes: Json) -> Json:
        """Change some of the detector's settings, the others stay; returns them as they are."""
        self.request("/detector/config", {**self.configuration(), **changes})
        return self.configuration()

    def send_raw_to(self, url: str) -> None:
        """Make SERVAL send raw chunks to tcp://connect@host:port or tcp://listen@host:port."""
        self.request("/server/destination", {"Raw": [{"Base": url, "FilePattern": ""}]})

    def load_pixel_configuration(self, path: str, kind: str = "pixelconfig") -> None:
        """Make SERVAL load a pixel configuration ("pixelconfig") or DACs ("dacs") from a file."""
        self.request(f"/config/load?format={kind}&file={urllib.request.pathname2url(path)}")

    def start(self) -> None:
        """Begin to measure."""
        self.request("/measurement/start")

    def stop(self) -> None:
        """End the measurement."""
        self.request("/measurement/stop")

    def command(self, name: str, args: Json) -> Json:
        """A camera command of the pipeline by name. Raises CameraError for unknown ones."""
        actions: dict[str, Callable[[], Json | None]] = {
            "start": self.start,
            "stop": self.stop,
            "abort": self.stop,
            "health": self.health,
            "dashboard": self.dashboard,
            "configure": lambda: self.configure(args),
        }
        if name not in actions:
            raise CameraError(
                f"the camera has no command {name!r}", f"known: {', '.join(sorted(actions))}"
            )
        return actions[name]() or {}

    def _object(self, path: str) -> Json:
        reply = self.request(path)
        if not isinstance(reply, Mapping):
            raise CameraError(
                f"SERVAL's reply to {path} is not what was expected: {str(reply)[:80]!r}",
                "check that serval_url is the address of SERVAL",
            )
        return reply
