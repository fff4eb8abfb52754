"""The optics measured while a scan goes on, in a thread of its own beside those of the engine."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable

from stemd.inference.worker import NICENESS

SHARE = 0.25
"""Of one core, at low priority, goes into measuring a scan that is not finished."""
LOOK_S = 0.2
"""Between two looks at how many lines there are."""
LEAST_LINES, MORE = 32, 1.5
"""Lines from which on an unfinished scan is measured; again when it has so many times more."""


class MeasuringSoFar:
    """Has something measured now and then while lines come, by one thread at a time.

    It knows whom it calls only while it calls: an engine that has ended is not held by it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._next_look = self._next_time = 0.0
        self._next_lines = LEAST_LINES
        self._thread: threading.Thread | None = None

    def look(
        self,
        lines_now: Callable[[], int],
        measure: Callable[[int], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """There may be more lines: begin to measure them if it is time to; returns at once.

        `lines_now()`: how many there are; `measure(lines)` runs in a thread. What goes wrong is
        told to `failed`: a scan goes on without being measured.
        """
        now = time.monotonic()
        busy = self._thread is not None and self._thread.is_alive()
        if now < max(self._next_look, self._next_time) or busy:
            return
        self._next_look = now + LOOK_S
        lines = lines_now()
        if lines >= self._next_lines:
            self._next_lines = round(MORE * lines)
            self._thread = threading.Thread(
                target=self._run,
                args=(lines, measure, failed),
                name=f"{self._name}-measure",
                daemon=True,
            )
            self._thread.start()

    def wait(self) -> None:
        """Wait until nothing is being measured: `measure` must know that it is to end."""
        if self._thread is not None:
            self._thread.join()

    def _run(
        self, lines: int, measure: Callable[[int], None], failed: Callable[[Exception], None]
    ) -> None:
        with contextlib.suppress(OSError, AttributeError):
            # Linux has a niceness for each thread
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        began = time.monotonic()
        try:
            measure(lines)
        except Exception as error:  # whatever it is: nobody else would hear of it
            failed(error)
        ended = time.monotonic()
        self._next_time = ended + (ended - began) * (1.0 / SHARE - 1.0)
