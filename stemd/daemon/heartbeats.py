"""Whether threads work: a stop flag that notices being looked at, and how long to wait for one."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

_SLICE_S = 1.0

PATIENCE_S: dict[str, float] = {"reader": 60.0, "engines": 90.0, "recorder": 180.0}
"""A thread that has been silent for so long is stuck. A socket answers quickly, but a kernel for a
pixel type that nobody expected may have to be compiled first; a disk may take longer still."""


class Pulse(threading.Event):
    """A stop flag; whoever looks at it or waits for it shows that its thread works.

    An adapter looks at its stop flag several times a second whether data comes or not, so a
    quiet camera beats on and a hung adapter does not, without a word in the adapter.
    """

    def __init__(self) -> None:
        super().__init__()
        self.last = time.monotonic()

    @property
    def age_s(self) -> float:
        """Seconds since the last look."""
        return time.monotonic() - self.last

    def beat(self) -> None:
        """The thread works."""
        self.last = time.monotonic()

    def is_set(self) -> bool:
        """Whether to stop."""
        self.last = time.monotonic()
        return super().is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the stop, beating on; True when it has come."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            self.last = time.monotonic()
            left = _SLICE_S if end is None else min(_SLICE_S, end - self.last)
            if super().wait(max(0.0, left)):
                return True
            if end is not None and time.monotonic() >= end:
                return False


def stalled(ages_s: Mapping[str, float]) -> list[str]:
    """Names of the threads, by their ages in seconds, that are stuck."""
    return [name for name, age in ages_s.items() if age > PATIENCE_S[name]]
