"""How a frame camera is told what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from stemd.acquisition import Scan
from stemd.adapters.base import CameraReading


class Control(Protocol):
    """Tells a camera what to do; its methods may be called from any thread.

    They raise CameraError when the camera does not answer, or refuses.
    """

    commands: frozenset[str]
    """Of "start", "stop", "abort"."""

    @property
    def status(self) -> Sequence[CameraReading]:
        """What the camera said last of itself, nothing where it says nothing."""
        ...

    def prepare(self, scan: Scan | None) -> str:
        """The camera has just been connected: set it up; what there is to tell of it, or ""."""
        ...

    def command(self, name: str, args: Mapping[str, Any], scan: Scan | None) -> Mapping[str, Any]:
        """Carry out a command; `scan` is the geometry that is configured."""
        ...

    def close(self) -> None:
        """End a request that waits."""
        ...
