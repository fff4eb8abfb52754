"""What is wrong with a pipeline now: told once where it happens, kept until it is over."""

from __future__ import annotations

import time

import structlog

from stemd.acquisition import iso_utc
from stemd.errors import StemdError
from stemd.events import Hub, Json

log = structlog.get_logger(__name__)


class Troubles:
    """The last error of a pipeline and whether the pipeline is out of order because of it."""

    def __init__(self, pipeline: str, hub: Hub) -> None:
        self.last_error: Json | None = None
        self.fault = False
        self._pipeline = pipeline
        self._hub = hub

    def tell(self, level: str, text: str, remedy: str, kind: str) -> None:
        """Log it, publish it, and keep it if it is an error."""
        now = time.time_ns()
        entry = {
            "level": level,
            "kind": kind,
            "message": text,
            "remedy": remedy,
            "time": iso_utc(now),
            "time_ns": now,
        }
        if level == "error":
            self.last_error = {
                "kind": kind,
                "message": text,
                "remedy": remedy,
                "time": entry["time"],
            }
        if level != "info":
            self._hub.log(self._pipeline, entry)
        getattr(log, level)(text, pipeline=self._pipeline, **({"remedy": remedy} if remedy else {}))

    def error(self, error: StemdError, kind: str = "error") -> None:
        """Something failed."""
        self.tell("error", error.message, error.remedy, kind)

    def over(self, *kinds: str) -> bool:
        """The causes of these kinds (none given: of any) have gone; True if that was news."""
        if self.last_error is None or (kinds and self.last_error["kind"] not in kinds):
            return False
        self.last_error = None
        return True
