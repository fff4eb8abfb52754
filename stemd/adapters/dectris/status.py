"""What a detector says of itself now and then: its state, high voltage, temperature, humidity."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from stemd.adapters.base import CameraReading
from stemd.adapters.dectris.simplon import Simplon
from stemd.errors import CameraError
from stemd.logs import get_logger

log = get_logger(__name__)

PERIOD_S = 10.0
NO_ANSWER = (CameraReading("control unit", "does not answer", critical=True),)


class StatusWatch:
    """Asks a control unit in a thread of its own, from `begin` to `close`; any thread may read."""

    def __init__(self, simplon: Simplon, period_s: float | None = None) -> None:
        self._readings: Sequence[CameraReading] = ()
        self._simplon = simplon
        self._period_s = PERIOD_S if period_s is None else period_s
        self._again, self._over = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def readings(self) -> Sequence[CameraReading]:
        """The newest; none before the first have come, nor while nobody asks."""
        thread = self._thread
        if thread is not None and not thread.is_alive() and not self._over.is_set():
            log.error("the thread that asks the detector has died and is begun again")
            self._readings = ()
            self.begin()
        return self._readings

    def begin(self) -> None:
        """Ask now, and again after each period."""
        self._again.set()
        thread = self._thread
        if (thread is None or not thread.is_alive()) and not self._over.is_set():
            thread = threading.Thread(target=self._loop, name="dectris-status", daemon=True)
            thread.start()
            self._thread = thread

    def close(self) -> None:
        """Ask no more; the thread ends as soon as a request under way does."""
        self._over.set()
        self._again.set()

    def _loop(self) -> None:
        while not self._over.is_set():
            self._again.clear()
            try:
                self._readings = tuple(self._simplon.readings())
            except CameraError:
                self._readings = NO_ANSWER
            except Exception:  # else old readings would stay, as if they were new
                log.exception("the detector's state could not be read")
                self._readings = NO_ANSWER
            self._again.wait(self._period_s)
