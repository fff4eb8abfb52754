"""The catalogue is written by a thread of its own: nobody waits for one that somebody holds."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from stemd.errors import SinkError
from stemd.logs import get_logger
from stemd.storage.catalogue.catalogue import Catalogue
from stemd.storage.catalogue.database import RowError

MOST_WAITING = 1000
"""Rows kept for a catalogue that takes none; the folders have what is dropped beyond."""
RETRY_S = 1.0

log = get_logger(__name__)


class Rows:
    """Writes what it is given in order, and tries again until the catalogue takes it.

    `check` raises SinkError while the data folder's disk is not there. `error` is why it does not
    take one now. `lost` is set when rows had to be dropped, or a new catalogue
    was begun: they are then to be made again from the scans' folders.
    """

    def __init__(self, catalogue: Catalogue, check: Callable[[], None]) -> None:
        self.error: SinkError | None = None
        self.lost = False
        self._catalogue, self._check = catalogue, check
        self._waiting: deque[tuple[str, Callable[[Catalogue], None]]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def put(self, name: str, write: Callable[[Catalogue], None]) -> None:
        """Have this written, for the scan or session of this id; returns at once."""
        with self._changed:
            self._waiting.append((name, write))
            if len(self._waiting) > MOST_WAITING:
                self._waiting.popleft()
                self.lost = True
            self._begin()
            self._changed.notify_all()

    def revive(self) -> bool:
        """Begin the thread again where it has died; True if it had."""
        with self._changed:
            died = self._thread is not None and not self._thread.is_alive() and not self._closing
            if died:
                log.error("the catalogue's thread died and is begun again")
                self._begin()
            return died

    def _begin(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, name="catalogue", daemon=True)
            self._thread.start()

    def settled(self, timeout_s: float) -> bool:
        """Wait until all is written; False when it is not by then."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, timeout_s)

    def close(self, timeout_s: float) -> list[str]:
        """Write what waits, for so long; returns the ids of what is not written."""
        self.settled(timeout_s)
        with self._changed:
            self._closing = True
            left = list(dict.fromkeys(name for name, _ in self._waiting))
            self._changed.notify_all()
        return left

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if self._closing:
                    return
                entry = self._waiting[0]
            if not self._write(*entry):
                time.sleep(RETRY_S)
                continue
            with self._changed:
                if self._waiting and self._waiting[0] is entry:
                    self._waiting.popleft()
                self._changed.notify_all()

    def _write(self, name: str, write: Callable[[Catalogue], None]) -> bool:
        """False when it is to be tried again."""
        try:
            self._check()
            write(self._catalogue)
        except RowError as error:
            log.error("a row that the catalogue cannot take", id=name, error=str(error))
        except (SinkError, OSError) as error:
            if self.error is None:
                log.warning(
                    "a row of the catalogue cannot be written yet", id=name, error=str(error)
                )
            self.error = (
                error if isinstance(error, SinkError) else SinkError(str(error), "check the disk")
            )
            return False
        except Exception:
            log.exception("a row could not be written", id=name)
        self.error = None
        return True
