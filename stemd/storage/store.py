"""The data folder of a daemon: locked, checked, its catalogue, and files not written yet."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections import deque
from pathlib import Path

import structlog

from stemd.documents import to_json
from stemd.errors import SinkError
from stemd.events import Json
from stemd.storage.catalogue import Catalogue
from stemd.storage.files import disk_error, write_atomic
from stemd.storage.folder import SCAN_FILE
from stemd.storage.locks import take_instrument
from stemd.storage.recorder import RESERVE_BYTES

MAX_WAITING = 1000
"""Scan documents kept for a disk that takes nothing; more would be memory without bound."""

log = structlog.get_logger(__name__)


class Store:
    """Where the scans of one instrument are kept. Methods block on the disk, from any thread.

    Raises SinkError on construction when the folder cannot be written or another daemon of the
    same instrument has it.
    """

    def __init__(
        self, data_dir: Path, instrument: str, *, reserve_bytes: int = RESERVE_BYTES
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.instrument = instrument
        self.reserve_bytes = reserve_bytes
        self.dropped = 0
        self._waiting: deque[tuple[Path, Json]] = deque()
        self._claimed: set[str] = set()
        self._lock = threading.Lock()
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            self._probe()
            self._device = self.data_dir.stat().st_dev
        except OSError as error:
            raise disk_error(error, "write to daemon.data_dir", self.data_dir) from error
        self._lock_fd = take_instrument(self.data_dir, instrument)
        try:
            self.catalogue = Catalogue(self.data_dir)
        except SinkError:
            os.close(self._lock_fd)
            raise

    def _probe(self) -> None:
        probe = self.data_dir / f".stemd-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()

    @property
    def waiting(self) -> int:
        """Scan documents that wait for a disk that takes them."""
        return len(self._waiting)

    def check(self) -> None:
        """Raises SinkError when another file system lies where the data folder was.

        A disk that was unmounted leaves an empty folder on the system's own disk, which would
        be filled without anybody noticing.
        """
        place = self.data_dir
        while not place.exists():
            place = place.parent
        if place.stat().st_dev != self._device:
            raise SinkError(
                f"{self.data_dir}: the disk of the data folder is gone",
                "mount it again; stemd then writes scans again. Images are still published",
            )

    def free_bytes(self) -> int | None:
        """Free space on the disk, None while it is gone."""
        try:
            self.check()
            return shutil.disk_usage(self.data_dir).free
        except (OSError, SinkError):
            return None

    def writable(self) -> SinkError | None:
        """What keeps the folder from being written now, None when all is well."""
        try:
            self.check()
            self.data_dir.mkdir(parents=True, exist_ok=True)
            self._probe()
        except SinkError as error:
            return error
        except OSError as error:
            return disk_error(error, "write to daemon.data_dir", self.data_dir)
        return None

    def claim(self, scan_id: str) -> bool:
        """Have a past scan's folder for oneself until `release`; False while somebody else has."""
        with self._lock:
            if scan_id in self._claimed:
                return False
            self._claimed.add(scan_id)
            return True

    def release(self, scan_id: str) -> None:
        """Give a claimed scan back."""
        with self._lock:
            self._claimed.discard(scan_id)

    def write_later(self, folder: Path, document: Json) -> None:
        """Keep a scan's document until scan.json and the catalogue can be written."""
        with self._lock:
            self._waiting.append((folder, document))
            if len(self._waiting) > MAX_WAITING:
                self._waiting.popleft()
                self.dropped += 1

    def write_waiting(self) -> int:
        """Write the documents that wait, the oldest first; returns how many the disk has taken."""
        written = 0
        while True:
            with self._lock:
                if not self._waiting:
                    return written
                folder, document = self._waiting[0]
            try:
                self.check()
                folder.mkdir(parents=True, exist_ok=True)
                write_atomic(folder / SCAN_FILE, [(to_json(document, indent=1) + "\n").encode()])
                self.catalogue.end(str(document["id"]), document, folder)
            except (OSError, SinkError) as error:
                log.debug("the disk still cannot be written", error=str(error))
                return written
            with self._lock:
                if self._waiting and self._waiting[0][1] is document:
                    self._waiting.popleft()
            written += 1
            log.info("written after the disk came back", scan=document["id"])

    def close(self) -> None:
        """Try once more to write what waits; then give the locks up."""
        self.write_waiting()
        self.catalogue.close()
        with contextlib.suppress(OSError):
            os.close(self._lock_fd)
