"""The data folder of a daemon: locked, checked, its catalogue, and files not written yet."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from stemd import plugins
from stemd.documents import to_json
from stemd.errors import SinkError
from stemd.events import Json
from stemd.logs import get_logger
from stemd.storage.catalogue.catalogue import Catalogue
from stemd.storage.catalogue.rows import Rows
from stemd.storage.files import PART, disk_error, write_atomic
from stemd.storage.folder import SCAN_FILE, versions
from stemd.storage.intentions import Intentions
from stemd.storage.locks import TakenError, take_instrument
from stemd.storage.recorder import RESERVE_BYTES

MAX_WAITING = 1000
"""Scan documents kept for a disk that takes nothing; more would be memory without bound."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    folder: Path
    document: Json


class Store:
    """Where the scans of one instrument are kept. Methods block on the disk, from any thread.

    A disk that is full, read-only or gone at the start is no reason not to start: `check` says
    what is wrong, and tries again each time. Raises TakenError on construction when another
    daemon of the same instrument has the folder.
    """

    def __init__(
        self, data_dir: Path, instrument: str, *, reserve_bytes: int = RESERVE_BYTES
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.instrument = instrument
        self.reserve_bytes = reserve_bytes
        self.dropped = 0
        self.catalogue = Catalogue(self.data_dir)
        self.rows = Rows(self.catalogue, self.check)
        self.intentions = Intentions(self.data_dir, instrument)
        self._waiting: deque[_Waiting] = deque()
        self._claimed: set[str] = set()
        self._open: set[str] = set()
        self._lock = threading.Lock()
        self._preparing = threading.Lock()
        self._writing = threading.Lock()
        self._device: int | None = None
        self._lock_fd = -1
        # now, while there are descriptors to read files with
        plugins.load("sinks", "record")
        versions()
        try:
            self._prepare()
        except TakenError:
            raise
        except SinkError as error:
            log.error("the data folder cannot be used yet", error=str(error))

    def _prepare(self) -> None:
        """Have the folder for oneself. Raises SinkError."""
        with self._preparing:
            if self._lock_fd >= 0:
                return
            try:
                self.data_dir.mkdir(parents=True, exist_ok=True)
                self._probe()
                device = self.data_dir.stat().st_dev
            except OSError as error:
                raise disk_error(error, "write to daemon.data_dir", self.data_dir) from error
            self._lock_fd = take_instrument(self.data_dir, self.instrument)
            self._device = device

    def _probe(self) -> None:
        probe = self.data_dir / f".stemd-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()

    @property
    def waiting(self) -> int:
        """Scan documents that wait for a disk that takes them."""
        return len(self._waiting)

    def check(self) -> None:
        """Raises SinkError when the folder is not ours yet, or another disk lies in its place.

        A disk that was unmounted leaves an empty folder on the system's own disk, which would
        be filled without anybody noticing.
        """
        if self._lock_fd < 0:
            self._prepare()
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

    def begun(self, scan_id: str) -> None:
        """A scan begins to be kept."""
        with self._lock:
            self._open.add(scan_id)

    def ended(self, scan_id: str) -> None:
        """Of a scan everything is written, or waits for the disk."""
        with self._lock:
            self._open.discard(scan_id)

    def enter(self, document: Json, folder: Path) -> None:
        """Have the catalogue's row of a scan that is over written, soon; returns at once."""
        scan_id = str(document["id"])
        self.rows.put(scan_id, lambda catalogue: catalogue.end(scan_id, document, folder))

    def write_later(self, folder: Path, document: Json) -> None:
        """Keep a scan's document until scan.json can be written."""
        with self._lock:
            self._waiting.append(_Waiting(folder, document))
            if len(self._waiting) > MAX_WAITING:
                self._waiting.popleft()
                self.dropped += 1

    def write_waiting(self) -> int:
        """Write the documents that wait, the oldest first; returns how many the disk has taken.

        One that cannot be written holds up no other.
        """
        with self._writing:
            with self._lock:
                waiting = list(self._waiting)
            return sum(self._write(one) for one in waiting)

    def _write(self, one: _Waiting) -> bool:
        try:
            self.check()
            one.folder.mkdir(parents=True, exist_ok=True)
            _name_records(one.folder, one.document)
            text = to_json(one.document, indent=1) + "\n"
            write_atomic(one.folder / SCAN_FILE, [text.encode()])
        except (OSError, SinkError) as error:
            log.debug("the disk still cannot be written to", error=str(error))
            return False
        self.enter(one.document, one.folder)
        with self._lock, contextlib.suppress(ValueError):  # dropped meanwhile
            self._waiting.remove(one)
        log.info("written after the disk came back", scan=one.document["id"])
        return True

    def unwritten(self) -> list[str]:
        """The ids of scans of which the disk does not have everything yet."""
        with self._lock:
            waiting = [str(one.document["id"]) for one in self._waiting]
            return list(dict.fromkeys([*waiting, *sorted(self._open)]))

    def stopping(self) -> None:
        """The daemon was told to stop: what it does not finish is not taken for a death."""
        self.catalogue.database.stopping()

    def close(self, timeout_s: float = 5.0) -> list[str]:
        """Try once more to write what waits; then give the locks up.

        Returns the ids of scans whose documents are lost with this process.
        """
        self.write_waiting()
        late = self.rows.close(timeout_s)
        if late:
            log.warning(
                "rows of the catalogue are not written; the next start writes them", scans=late
            )
        self.catalogue.close()
        if self._lock_fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._lock_fd)
            self._lock_fd = -1
        return self.unwritten()


def _name_records(folder: Path, document: Json) -> None:
    """Give records their names that a disk in trouble did not give them. Raises OSError."""
    for file in document.get("files", ()):
        name = str(file["name"])
        if name.endswith(PART) and (folder / name).exists():
            (folder / name).rename(folder / name.removesuffix(PART))
            file["name"] = name.removesuffix(PART)
