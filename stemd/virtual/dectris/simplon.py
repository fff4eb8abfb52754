"""The virtual control unit: SIMPLON's configuration, commands and status over HTTP."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from stemd.documents import object_from_json
from stemd.errors import CameraError, FormatError
from stemd.virtual.ports import POLL_S

VERSION = "1.8.0"
INTERNAL = ("ints", "inte")
_MODES = ("ints", "inte", "exts", "exte")
_PATH = re.compile(r"/(detector|stream)/api/([0-9.]+)/(config|status|command)/([\w/]+)")


class ControlUnit:
    """Its state and settings, shared by the acquiring thread and the clients of HTTP.

    `free_running` makes series by itself, whatever it is told. The acquiring thread calls `due`,
    `begin` and `end`, and watches `abort`.
    """

    def __init__(self, frames: int, shape: tuple[int, int], *, free_running: bool) -> None:
        self.abort = threading.Event()
        self.version = VERSION
        self._free = free_running
        self._changed = threading.Condition()
        self._state = "idle"
        self._triggered = False
        self._series = 0
        self.config: dict[str, dict[str, Any]] = {
            "detector": {
                "nimages": frames,
                "ntrigger": 1,
                "trigger_mode": "exts",
                "count_time": 1e-5,
                "frame_time": 1e-5,
                "compression": "bslz4",
                "counting_mode": "normal",
                "threshold/1/energy": 4000.0,
                "x_pixels_in_detector": shape[1],
                "y_pixels_in_detector": shape[0],
            },
            "stream": {"mode": "disabled", "format": "legacy", "header_detail": "basic"},
        }
        self._status: dict[str, Any] = {
            "high_voltage/state": {"value": "READY"},
            "board_000/th0_temp": {"value": 24.5, "unit": "C", "critical_limits": [15.0, 37.5]},
            "board_000/th0_humidity": {"value": 8.2, "unit": "%", "critical_limits": [0.0, 35.0]},
        }

    @property
    def state(self) -> str:
        """na, idle, ready, acquire."""
        return self._state

    def sense(self, name: str, value: float) -> None:
        """A sensor has another value."""
        self._status[name] = {**self._status[name], "value": value}

    def lose(self) -> None:
        """The detector is not initialised."""
        self._state = "na"

    def due(self, timeout: float) -> bool:
        """Whether a series is to be made, waiting for up to `timeout` seconds."""
        if self._free:
            return True
        with self._changed:
            return self._changed.wait_for(self._is_due, timeout)

    def _is_due(self) -> bool:
        internal = self.config["detector"]["trigger_mode"] in INTERNAL
        return self._state == "ready" and (self._triggered or not internal)

    def begin(self) -> tuple[int, int]:
        """A series begins: its number, and how many images it is to have."""
        detector = self.config["detector"]
        with self._changed:
            if self._free:
                self._series += 1
            self._state = "acquire"
            return self._series, int(detector["nimages"]) * int(detector["ntrigger"])

    def end(self, *, closing: bool) -> None:
        """The series is over; `closing` keeps `abort` set."""
        with self._changed:
            self._state, self._triggered = "idle", False
            if not closing:
                self.abort.clear()
            self._changed.notify_all()

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """(HTTP status, JSON) of a request."""
        if path.rstrip("/") == "/detector/api/version":
            return 200, {"value": self.version, "value_type": "string"}
        found = _PATH.fullmatch(path.rstrip("/"))
        if found is None or found[2] != self.version:
            return 404, {"error": f"there is no {path}"}
        module, _, kind, name = found.groups()
        if kind == "command" and module == "detector" and method == "PUT":
            return self._command(name)
        if kind == "status" and module == "detector" and method == "GET":
            return self._told(name)
        if kind == "config" and name in self.config[module]:
            return self._configured(module, name, method, body)
        return 404, {"error": f"there is no {path}"}

    def _told(self, name: str) -> tuple[int, Any]:
        known = {"state": {"value": self._state}, **self._status}
        if name == "keys":
            return 200, list(known)
        if name not in known:
            return 404, {"error": name}
        told = known[name]
        if "critical_limits" in told:
            low, high = told["critical_limits"]
            told = {**told, "state": "normal" if low <= told["value"] <= high else "critical"}
        return 200, told

    def _configured(self, module: str, name: str, method: str, body: bytes) -> tuple[int, Any]:
        values = self.config[module]
        if method == "GET":
            return 200, {"value": values[name]}
        try:
            value = object_from_json(body)["value"]
        except (FormatError, KeyError):
            return 400, {"error": "the body is no value"}
        if type(value) is not type(values[name]) and not (
            isinstance(value, int | float) and isinstance(values[name], float)
        ):
            return 400, {"error": f"{name} cannot be {value!r}"}
        if name == "trigger_mode" and value not in _MODES:
            return 400, {"error": f"{name} is one of {', '.join(_MODES)}"}
        if name in ("nimages", "ntrigger") and value < 1:
            return 400, {"error": f"{name} is 1 or more"}
        if module == "detector" and self._state not in ("idle", "ready"):
            return 400, {"error": f"not while the detector's state is {self._state}"}
        values[name] = value
        return 200, [name]

    def _command(self, name: str) -> tuple[int, Any]:
        with self._changed:
            if name == "initialize":
                self._state = "idle"
            elif self._state == "na":
                return 400, {"error": "the detector is not initialised"}
            elif name == "arm" and self._state == "idle":
                self._series += 1
                self._state, self._triggered = "ready", False
                self._changed.notify_all()
            elif name == "trigger" and self._state == "ready":
                self._triggered = True
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._state == "idle")
            elif name in ("disarm", "abort", "cancel"):
                if self._state == "acquire":
                    self.abort.set()
                elif self._state == "ready":
                    self._state = "idle"
                self._changed.notify_all()
            else:
                return 400, {"error": f"{name} is not possible, the state is {self._state}"}
            return 200, {"sequence id": self._series}


class RestPort:
    """Serves a control unit at a port, in threads of its own."""

    def __init__(self, host: str, port: int, unit: ControlUnit) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer("GET")

            def do_PUT(self) -> None:
                self._answer("PUT")

            def _answer(self, method: str) -> None:
                size = min(int(self.headers.get("Content-Length") or 0), 1 << 20)
                status, reply = unit.answer(method, self.path, self.rfile.read(size))
                data = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except (OSError, OverflowError) as error:
            raise CameraError(
                f"control port {port} on {host} cannot be opened: {error}",
                "end the program that uses it, or choose another port (0 takes any free one)",
            ) from error
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_S,), name="virtual-rest", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
