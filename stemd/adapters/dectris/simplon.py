"""A client of SIMPLON, the REST interface of a DECTRIS detector control unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemd.adapters.base import CameraReading
from stemd.adapters.rest import FAILURES, RestServer
from stemd.documents import from_json
from stemd.errors import CameraError, FormatError

CONNECT_S = 0.8  # a daemon that is stopped ends within a second
MAX_STATUS = 16
"""Values of the detector's status that are asked for."""
UNKNOWN = "unknown"
"""State of a detector whose control unit does not tell it."""
_INTERESTING = ("high_voltage", "temp", "humidity")
_VERSION = "/detector/api/version"


class RefusedError(CameraError):
    """The control unit answered, and will not or cannot."""


class Simplon:
    """One control unit; its methods may be called from any thread.

    They raise CameraError when it does not answer in time, or refuses.
    """

    def __init__(self, host: str, port: int, version: str) -> None:
        self.where = f"control unit {host}:{port}"
        self.version = version
        self._server = RestServer(f"http://{host}:{port}", CONNECT_S)

    def close(self) -> None:
        """End all requests, and make no more."""
        self._server.close()

    def get(self, module: str, kind: str, name: str) -> Any:
        """The value of a parameter: module "detector" or "stream", kind "config" or "status"."""
        reply = self._ask(f"/{module}/api/{self.version}/{kind}/{name}")
        return reply.get("value") if isinstance(reply, Mapping) else reply

    def set(self, module: str, name: str, value: Any) -> None:
        """Set a configuration parameter."""
        self._ask(f"/{module}/api/{self.version}/config/{name}", {"value": value}, text=f" {value}")

    def command(self, name: str, timeout_s: float | None = None) -> Mapping[str, Any]:
        """Carry out a command of the detector: arm, trigger, disarm, cancel, abort, initialize."""
        path = f"/detector/api/{self.version}/command/{name}"
        reply = self._ask(path, put=True, timeout_s=timeout_s)
        return reply if isinstance(reply, Mapping) else {}

    def status(self) -> dict[str, Any]:
        """State, and what there is of high voltage, temperatures and humidity."""
        return {reading.name: reading.value for reading in self.readings()}

    def readings(self) -> list[CameraReading]:
        """The same with units, and whether a value is out of the detector's own limits."""
        path = f"/detector/api/{self.version}/status/"
        try:
            found = [_reading("state", self._ask(path + "state"))]
        except RefusedError:
            found = [CameraReading("state", UNKNOWN)]
        try:
            names = self._ask(path + "keys")
        except CameraError:
            return found
        if isinstance(names, Mapping):
            names = names.get("value")
        wanted = [
            name
            for name in (names if isinstance(names, list) else [])
            if isinstance(name, str) and any(word in name for word in _INTERESTING)
        ]
        for name in wanted[:MAX_STATUS]:
            try:
                found.append(_reading(name, self._ask(path + name)))
            except RefusedError:
                continue  # older units list what they do not have
        return found

    def _ask(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        put: bool = False,
        timeout_s: float | None = None,
        text: str = "",
    ) -> Any:
        try:
            status, reason, reply = self._server.exchange(path, body, put=put, timeout_s=timeout_s)
        except FAILURES as error:
            raise CameraError(
                f"{self.where} does not answer: {error or type(error).__name__}",
                "check that it is switched on and that host and control_port (80) are right",
            ) from error
        if status == 404:
            self._explain(path)
        if status >= 300:
            why = reply.strip()[:500] or reason
            raise RefusedError(
                f"{self.where} refused {path}{text}: {status} {why}",
                "see the detector's SIMPLON manual for the allowed values, and its state",
            )
        if not reply.strip():
            return None
        try:
            return from_json(reply)
        except FormatError as error:
            raise CameraError(
                f"{self.where} replied {reply[:60]!r} to {path}",
                "check that control_port is SIMPLON's (80), not the stream's",
            ) from error

    def _explain(self, path: str) -> None:
        """Something is not there: raise CameraError if it is this version of the interface."""
        try:
            status, _, reply = self._server.exchange(_VERSION)
            if 300 <= status < 400:
                status, _, reply = self._server.exchange(_VERSION + "/")
            told = from_json(reply) if status < 300 else None
        except (*FAILURES, FormatError):
            return
        version = told.get("value") if isinstance(told, Mapping) else told
        if isinstance(version, str) and version != self.version:
            raise CameraError(
                f"{self.where} speaks SIMPLON {version}, api_version is {self.version}",
                f'set api_version = "{version[:20]}"',
            )


def _reading(name: str, told: Any) -> CameraReading:
    """What a status parameter's JSON says: value, unit, and its state ("normal", "critical")."""
    more = told if isinstance(told, Mapping) else {"value": told}
    value, unit = more.get("value"), more.get("unit")
    return CameraReading(
        name[:80],
        value if isinstance(value, int | float | bool) else str(value)[:200],
        unit[:20] if isinstance(unit, str) else "",
        critical=more.get("state") == "critical",
    )


def described(status: Mapping[str, Any]) -> str:
    """A status as one line for people."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in status.items())
