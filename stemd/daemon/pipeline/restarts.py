"""An adapter that fails is started again: how often in a row it failed, and after what pause."""

from __future__ import annotations

import random
import threading
import time

RESTART_S = (0.3, 0.6, 1.2, 5.0, 10.0, 30.0)
"""Pauses before the adapter is started again after it has failed; the last one repeats."""
JITTER = (0.75, 1.25)
"""Pauses are stretched by a random factor: what fails together must not come back together."""
GOOD_AFTER_S = 60.0
"""An adapter that has run for so long starts with a clean record."""
LOOK_S = 0.2


class Restarts:
    """Counts failures in a row. The reader's thread counts and rests, any thread may `retry`."""

    def __init__(self) -> None:
        self.failures = 0
        self._retry = threading.Event()

    def failed(self, after_s: float) -> float:
        """The adapter has failed after so many seconds; returns the pause, in seconds."""
        self._forgive()
        self.failures = 1 if after_s > GOOD_AFTER_S else self.failures + 1
        return RESTART_S[min(self.failures, len(RESTART_S)) - 1] * random.uniform(*JITTER)

    def rest(self, seconds: float, stop: threading.Event) -> None:
        """Pause, unless somebody stops the reader or asks for a retry."""
        until = time.monotonic() + seconds
        while not stop.is_set() and time.monotonic() < until:
            if self._retry.wait(min(LOOK_S, max(0.0, until - time.monotonic()))):
                self._forgive()
                break

    def retry(self) -> None:
        """Start a failed adapter again now, with a clean record."""
        self._retry.set()

    def _forgive(self) -> None:
        """Begin a clean record if that was asked for."""
        if self._retry.is_set():
            self._retry.clear()
            self.failures = 0
