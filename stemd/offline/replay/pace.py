"""How fast a replay goes: so many seconds for the whole scan, paused or not, from any thread."""

from __future__ import annotations

import threading
import time

LATE_S = 0.5
"""A replay that the machine holds up by more goes on from there, it does not catch up."""
FASTEST_BYTES_PER_S = 400e6
"""However few seconds are asked for: memory and disk are the running scan's first."""


class Pace:
    """`changed` wakes whoever waits for the next step or for news."""

    def __init__(self, seconds: float) -> None:
        self.changed = threading.Condition()
        self.paused = False
        self.late = False
        self._total = 1
        self._least = 0.0
        self._seconds = seconds
        self._due = time.monotonic()

    def measure(self, total: int, record_bytes: int) -> None:
        """What is played has so many steps, and so many bytes to be read for them."""
        with self.changed:
            self._total = max(1, total)
            self._least = record_bytes / FASTEST_BYTES_PER_S

    @property
    def per_s(self) -> float:
        """Steps a second."""
        return self._total / max(self._seconds, self._least, 1e-3)

    def set(self, seconds: float | None = None, *, paused: bool) -> None:
        """From now on so fast."""
        with self.changed:
            if seconds is not None:
                self._seconds = seconds
            self.paused = paused
            self._due = time.monotonic()
            self.changed.notify_all()

    def begin(self) -> None:
        """The first step is due now."""
        self._due = time.monotonic()

    def rest(self, steps: int) -> None:
        """Wait until so many more steps are due, or until something has changed."""
        with self.changed:
            self._due += steps / self.per_s
            now = time.monotonic()
            self.late = now > self._due + LATE_S
            if self.late:
                self._due = now
            elif self._due > now:
                self.changed.wait(self._due - now)
