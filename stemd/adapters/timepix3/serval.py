"""A client of SERVAL's REST interface: start, stop, configuration, health."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from typing import Any

from stemd.adapters.rest import FAILURES, Json, RestServer
from stemd.documents import from_json
from stemd.errors import CameraError, FormatError


class ServalClient:
    """One SERVAL server. Every method may be called from any thread and takes at most 6 s."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._server = RestServer(self.url)

    def request(self, path: str, body: Json | None = None) -> Any:
        """GET, or PUT of a JSON body; the reply as JSON, or text where it is none.

        Raises CameraError with what SERVAL says.
        """
        try:
            status, reason, text = self._server.exchange(path, body)
        except FAILURES as error:
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

    def dashboard(self) -> Json:
        """Server, measurement and detector at a glance."""
        return self._object("/dashboard")

    def health(self) -> Json:
        """Temperatures, voltages, fans, by board."""
        reply = self.request("/detector/health")
        return reply if isinstance(reply, dict) else {"detector": reply}

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
        if not isinstance(reply, dict):
            raise CameraError(
                f"SERVAL's reply to {path} is not what was expected: {str(reply)[:80]!r}",
                "check that serval_url is the address of SERVAL",
            )
        return reply
