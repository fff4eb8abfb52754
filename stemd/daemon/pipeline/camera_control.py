"""Commands to the camera, in threads of its own: one that hangs keeps nobody else waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from stemd.daemon.beside import beside
from stemd.errors import CameraError

MOST_WAITING = 8
"""Commands that wait for the camera's answer. What ends a scan needs two places at most."""

Command = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]


class CameraControl:
    """Sends one camera its commands; `send` does so, in any thread."""

    def __init__(self, pipeline: str, send: Command) -> None:
        self._pipeline, self._command = pipeline, send
        self._waiting = 0
        self._lock = threading.Lock()

    async def __call__(self, name: str, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """The camera's answer. Raises StemdError."""
        with self._lock:
            if self._waiting >= MOST_WAITING:
                raise CameraError(
                    f"the camera of {self._pipeline} has not answered {self._waiting} commands",
                    "check the camera's control port, then send reconnect",
                )
            self._waiting += 1
        return await beside(self._send, name, args)

    def _send(self, name: str, args: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return self._command(name, args)
        finally:  # here, in the thread: whoever asked may have given up long ago
            with self._lock:
                self._waiting -= 1
