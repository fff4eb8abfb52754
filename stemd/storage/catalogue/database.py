"""The SQLite file behind the catalogue: opened when needed, again when removed, anew if damaged.

Many may read while one writes (WAL). A daemon that writes holds a lock file and puts its name,
`owner`, on the scans that it is acquiring; such a scan was cut off exactly when that lock can be
taken, whatever has become of the daemon's process id meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Self, TypeVar

from stemd.errors import SinkError
from stemd.logs import get_logger
from stemd.storage.catalogue.schema import check_version, prepare
from stemd.storage.files import disk_error
from stemd.storage.locks import STOPPED, lock_path, take_lock, waiting_lock

CATALOGUE_FILE = "catalogue.sqlite"
LONGEST = 504
"""Bytes of a path that SQLite opens: 512 with what it appends for its journal."""
_BUSY_SECONDS = 5.0
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_REMEDIES = {
    "disk is full": "free space on the disk of daemon.data_dir",
    "readonly": "give the user that runs stemd the right to write there",
    "unable to open": "check that the folder exists and may be written",
    "locked": "another program holds the catalogue: close it; scans are kept meanwhile",
    "not a database": "the file is damaged: a daemon moves it aside when it starts or writes, and "
    "makes a new one from the scans' folders, which are complete without it",
    "malformed": "the file is damaged: a daemon moves it aside when it starts or writes, and "
    "makes a new one from the scans' folders, which are complete without it",
}

T = TypeVar("T")
log = get_logger(__name__)


class RowError(SinkError):
    """The catalogue will never take this row: what stands in it is at fault, not the disk."""


class Database:
    """The catalogue's file in one data folder. Safe from any thread; every method may block.

    Nothing is opened before it is needed, so that a disk in trouble keeps nobody from starting.
    Every failure is a SinkError that names the file and says what to do.
    """

    def __init__(self, data_dir: Path, *, writing: bool = True) -> None:
        self.data_dir = data_dir
        self.path = data_dir / CATALOGUE_FILE
        self.owner = ""
        self.fresh = False
        """Set when a new file was begun, or another lies in its place: rows may lack that the
        folders have."""
        self._writing = writing
        self._lock = threading.Lock()
        self._owner_fd = -1
        self._db: sqlite3.Connection | None = None
        self._file: int | None = None

    @classmethod
    def read_only(cls, data_dir: Path) -> Self:
        """Open for looking, also by a user who may not write there. Raises SinkError."""
        self = cls(data_dir, writing=False)
        if not self.path.is_file():
            raise SinkError(
                f"{self.path}: there is no catalogue",
                "name the data folder of a daemon that has run (--data-dir, or --config)",
            )
        uri = self.path.absolute().as_uri()
        try:
            self._db = self._connected(f"{uri}?mode=ro")
        except SinkError:
            # WAL needs a writable -shm; without one the database can still be read as it stands
            self._db = self._connected(f"{uri}?mode=ro&immutable=1")
        return self

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, given the open database. Raises SinkError.

        A file that turns out to be damaged is moved aside and begun anew; `work` is then done
        with the new one.
        """
        with self._lock:
            for last in (False, True):
                try:
                    return work(self._open())
                except sqlite3.Error as error:
                    self._roll_back()
                    if last or not (self._writing and _is_damage(error)):
                        raise self._error(error) from error
                    self._move_aside(error)
        raise AssertionError("unreachable")

    def check(self) -> None:
        """Read the whole file: damage that no query has met yet is found, and mended as above."""

        def look(db: sqlite3.Connection) -> None:
            found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                error = sqlite3.DatabaseError(str(found))
                error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
                raise error

        self.run(look)

    def stopping(self) -> None:
        """Write into the lock file that this daemon was told to stop; it cannot raise."""
        with contextlib.suppress(OSError):
            if self._owner_fd >= 0:
                os.pwrite(self._owner_fd, STOPPED, 0)

    def close(self) -> None:
        """Close the file and give the lock up."""
        with self._lock:
            self._close()
            self._release_lock()

    def _close(self) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def _roll_back(self) -> None:
        if self._db is not None and self._db.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._db.rollback()

    def _open(self) -> sqlite3.Connection:
        if self._db is not None and (not self._writing or self._is_there()):
            return self._db
        if not self._writing:
            raise SinkError(f"{self.path}: is closed", "open the catalogue again")
        away = self._db is not None
        if away:
            text = "the catalogue was removed while it was open: it is made again from the folders"
            log.warning(text, path=str(self.path))
        # where the file was removed while it was open, what is written to it would be lost; an
        # old lock that comes back with its folder stays ours to lose
        self._close()
        self._release_lock()
        self.owner = secrets.token_hex(8)
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            self._owner_fd = take_lock(lock_path(self.data_dir, self.owner))
        except OSError as error:
            raise disk_error(error, "prepare the data folder", self.data_dir) from error
        try:
            new = not self.path.exists()
            db = self._connected(f"{self.path.absolute().as_uri()}?mode=rwc")
            self._db, self._file = db, self.path.stat().st_ino
        except OSError as error:
            self._release_lock()
            raise disk_error(error, "open the catalogue", self.path) from error
        except (SinkError, sqlite3.Error):
            self._release_lock()
            raise
        self.fresh = self.fresh or new or away
        return db

    def _is_there(self) -> bool:
        try:
            return self.path.stat().st_ino == self._file
        except OSError:
            return False

    def _connected(self, uri: str) -> sqlite3.Connection:
        """An open connection. Raises sqlite3.Error when writing, else SinkError."""
        db: sqlite3.Connection | None = None
        try:
            db = sqlite3.connect(
                uri, uri=True, timeout=_BUSY_SECONDS, check_same_thread=False, isolation_level=None
            )
            db.row_factory = sqlite3.Row
            if self._writing:
                prepare(db, self.path)
            else:
                check_version(db, self.path)
        except (sqlite3.Error, SinkError) as error:
            if db is not None:
                db.close()
            if self._writing or isinstance(error, SinkError):
                raise
            raise self._error(error) from error
        return db

    def _move_aside(self, error: sqlite3.Error) -> None:
        """Give the damaged file another name. Raises SinkError."""
        self._close()
        self._release_lock()
        try:
            with waiting_lock(lock_path(self.data_dir, "catalogue")):
                if not self._still_damaged():
                    return  # another daemon of this folder was here first
                moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
                kept = self.path.with_name(f"catalogue.damaged-{moment}.sqlite")
                for ending in ("-wal", "-shm", ""):
                    name = self.path.with_name(self.path.name + ending)
                    if name.exists():
                        name.rename(kept.with_name(kept.name + ending))
        except OSError as failure:
            raise disk_error(failure, "move the damaged catalogue aside", self.path) from failure
        self.fresh = True
        log.error(
            "the catalogue was damaged: it is made again from the scans' folders",
            error=str(error),
            kept=str(kept),
        )

    def _still_damaged(self) -> bool:
        try:
            db = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=rw", uri=True)
            try:
                return bool(db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok")
            finally:
                db.close()
        except sqlite3.Error as error:
            return _is_damage(error)

    def _release_lock(self) -> None:
        if self._owner_fd >= 0:
            with contextlib.suppress(OSError):
                lock_path(self.data_dir, self.owner).unlink()
            with contextlib.suppress(OSError):
                os.close(self._owner_fd)
            self._owner_fd = -1

    def _error(self, error: sqlite3.Error) -> SinkError:
        text = str(error)
        kinds = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError)
        if isinstance(error, (*kinds, sqlite3.DataError)):
            return RowError(f"{self.path}: {text}", "see the scan's own scan.json")
        remedy = next((tip for key, tip in _REMEDIES.items() if key in text), "check the disk")
        long = len(os.fsencode(self.path.absolute()))
        if "unable to open" in text and long > LONGEST:
            remedy = f"its path has {long} bytes, SQLite takes {LONGEST}: choose a shorter data_dir"
        return SinkError(f"{self.path}: {text}", remedy)


def _is_damage(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _DAMAGED
