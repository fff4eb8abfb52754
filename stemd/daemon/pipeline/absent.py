"""What stands for an adapter that is not there yet."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from stemd.acquisition import Scan
from stemd.blocks import BlockPool, Message
from stemd.errors import CameraError


class Absent:
    """An adapter that has not been built yet: it gives nothing and can do nothing."""

    def __init__(self, pipeline: str) -> None:
        self._pipeline = pipeline

    def read(self, pool: BlockPool, stop: threading.Event) -> Iterator[Message]:
        """Nothing comes."""
        return iter(())

    def set_scan(self, scan: Scan) -> None:
        """The reader tells it the adapter once that is there."""

    def command(self, name: str, args: Mapping[str, Any]) -> NoReturn:
        """Raises CameraError."""
        raise CameraError(
            f"the adapter of {self._pipeline} is not there yet: it cannot be told to {name}",
            "try again when the pipeline waits for a scan; its errors say what keeps it",
        )

    def close(self) -> None:
        """Nothing is open."""
