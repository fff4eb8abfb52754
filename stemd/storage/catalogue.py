"""The catalogue: one SQLite row a scan, true also after the daemon was killed.

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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from stemd.acquisition import Acquisition, iso_utc
from stemd.documents import from_json, object_from_json, plain_text, to_json
from stemd.errors import FormatError, SinkError
from stemd.storage.files import disk_error
from stemd.storage.locks import holder_is_dead, lock_path, take_lock
from stemd.storage.scan_document import checked

CATALOGUE_FILE = "catalogue.sqlite"
SCHEMA_VERSION = 1
_BUSY_SECONDS = 5.0
_COLUMNS = (
    "id, pipeline, instrument, status, started_ns, finished_ns, ny, nx, positions_done,"
    " positions_total, folder, results, bytes, summary, owner"
)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS scans (
    id TEXT PRIMARY KEY,
    pipeline TEXT NOT NULL,
    instrument TEXT NOT NULL,
    status TEXT NOT NULL
        CHECK (status IN ('acquiring', 'complete', 'incomplete', 'aborted')),
    started_ns INTEGER NOT NULL,
    finished_ns INTEGER,
    ny INTEGER NOT NULL,
    nx INTEGER NOT NULL,
    positions_done INTEGER NOT NULL DEFAULT 0,
    positions_total INTEGER NOT NULL,
    folder TEXT NOT NULL,
    results TEXT NOT NULL DEFAULT '[]',
    bytes INTEGER NOT NULL DEFAULT 0,
    summary TEXT NOT NULL DEFAULT '{}',
    owner TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS scans_by_time ON scans (started_ns);
CREATE INDEX IF NOT EXISTS scans_by_status ON scans (status);
"""
_SESSIONS = """
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY,
    pipeline TEXT NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    started_ns INTEGER NOT NULL,
    document TEXT NOT NULL
) STRICT;
"""
_SUMMARY = (
    *("missing", "optics", "counters", "source", "notes", "versions"),
    *("session", "recomputed", "completion", "deleted"),
)


class Catalogue:
    """The catalogue of one data folder. Safe from any thread; every method may block on disk.

    Open it for writing with the constructor, for looking only with `read_only`. Every failure
    is a SinkError that names the file and says what to do.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.path = data_dir / CATALOGUE_FILE
        self._lock = threading.Lock()
        self._owner = secrets.token_hex(8)
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            self._owner_fd = take_lock(lock_path(data_dir, self._owner))
        except OSError as error:
            raise disk_error(error, "prepare the data folder", data_dir) from error
        try:
            self._connect()
        except SinkError:
            self._release_lock()
            raise

    def _connect(self) -> None:
        self._db = self._open(f"{self.path.absolute().as_uri()}?mode=rwc")
        try:
            self._prepare(self._db)
            self._file: int | None = self.path.stat().st_ino
        except sqlite3.Error as error:
            raise self._error(error) from error
        except OSError as error:
            raise disk_error(error, "open the catalogue", self.path) from error

    @classmethod
    def read_only(cls, data_dir: Path) -> Self:
        """Open for looking, also by a user who may not write there. Raises SinkError."""
        self = cls.__new__(cls)
        self.data_dir, self.path = data_dir, data_dir / CATALOGUE_FILE
        self._lock, self._owner, self._owner_fd = threading.Lock(), "", -1
        self._file = None
        if not self.path.is_file():
            raise SinkError(
                f"{self.path}: there is no catalogue",
                "name the data folder of a daemon that has run (--data-dir, or --config)",
            )
        uri = self.path.absolute().as_uri()
        self._db = self._open(f"{uri}?mode=ro")
        try:
            with self._using() as db:
                _check_version(db, self.path)
        except SinkError:
            # WAL needs a writable -shm; without one the database can still be read as it stands
            self._db.close()
            self._db = self._open(f"{uri}?mode=ro&immutable=1")
            with self._using() as db:
                _check_version(db, self.path)
        return self

    def _open(self, uri: str) -> sqlite3.Connection:
        try:
            db = sqlite3.connect(
                uri, uri=True, timeout=_BUSY_SECONDS, check_same_thread=False, isolation_level=None
            )
        except sqlite3.Error as error:
            raise self._error(error) from error
        db.row_factory = sqlite3.Row
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        if db.execute("PRAGMA user_version").fetchone()[0] == 0:
            db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        _check_version(db, self.path)
        db.execute(_SESSIONS)  # an addition: who does not know it is not disturbed

    @contextlib.contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._file is not None and not self._is_there():
                self._open_again()
            try:
                yield self._db
            except sqlite3.Error as error:
                if self._db.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        self._db.rollback()
                raise self._error(error) from error
            except (OverflowError, UnicodeEncodeError) as error:
                raise SinkError(
                    f"{self.path}: a value cannot be stored: {plain_text(str(error))}",
                    "the scan's folder is complete without it",
                ) from error

    def _is_there(self) -> bool:
        try:
            return self.path.stat().st_ino == self._file
        except OSError:
            return False

    def _open_again(self) -> None:
        """The file was removed while it was open: what is written to it would be lost."""
        self._db.close()
        self._release_lock()
        self._owner = secrets.token_hex(8)  # an old lock that comes back stays ours to lose
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            self._owner_fd = take_lock(lock_path(self.data_dir, self._owner))
        except OSError as error:
            raise disk_error(error, "prepare the data folder", self.data_dir) from error
        self._connect()

    def _error(self, error: sqlite3.Error) -> SinkError:
        text = str(error)
        remedies = {
            "disk is full": "free space on the disk of daemon.data_dir",
            "readonly": "give the user that runs stemd the right to write there",
            "unable to open": "check that the folder exists and may be written",
            "locked": "another program holds the catalogue: close it",
            "not a database": "the file is damaged: move it away, stemd starts a new one; the "
            "scans' folders are complete without it",
            "malformed": "the file is damaged: move it away, stemd starts a new one; the scans' "
            "folders are complete without it",
        }
        remedy = next((tip for key, tip in remedies.items() if key in text), "check the disk")
        return SinkError(f"{self.path}: {text}", remedy)

    def begin(self, acquisition: Acquisition, pipeline: str, instrument: str, folder: Path) -> None:
        """A scan has begun: a row `acquiring`. The folder is stored relative to the data folder."""
        ny, nx = acquisition.scan.shape
        with self._using() as db:
            db.execute(
                "INSERT OR REPLACE INTO scans (id, pipeline, instrument, status, started_ns, ny,"
                " nx, positions_total, folder, owner)"
                " VALUES (?, ?, ?, 'acquiring', ?, ?, ?, ?, ?, ?)",
                (
                    acquisition.id,
                    pipeline,
                    instrument,
                    acquisition.started_ns,
                    ny,
                    nx,
                    ny * nx,
                    _relative(folder, self.data_dir),
                    self._owner,
                ),
            )

    def end(self, scan_id: str, document: Mapping[str, Any], folder: Path | None = None) -> None:
        """A scan is over; `document` is what stands in its scan.json.

        A scan whose beginning could not be written is entered now, if its `folder` is given.
        """
        files: Sequence[Mapping[str, Any]] = document.get("files", ())
        names = [str(file["name"]) for file in files]
        results = [name.removesuffix(".tif") for name in names if name.endswith(".tif")]
        values = (
            document["status"],
            document["finished_ns"],
            document["positions_done"],
            to_json(results),
            sum(int(file["bytes"]) for file in files),
            to_json({key: document.get(key) for key in _SUMMARY}),
            scan_id,
        )
        with self._using() as db:
            changed = db.execute(
                "UPDATE scans SET status = ?, finished_ns = ?, positions_done = ?, results = ?,"
                " bytes = ?, summary = ?, owner = '' WHERE id = ?",
                values,
            ).rowcount
            if not changed and folder is not None:
                ny, nx = document["scan"]["shape"]
                db.execute(
                    "INSERT INTO scans (status, finished_ns, positions_done, results, bytes,"
                    " summary, id, pipeline, instrument, started_ns, ny, nx, positions_total,"
                    " folder, owner) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '')",
                    (
                        *values,
                        document["pipeline"],
                        document["instrument"],
                        document["started_ns"],
                        ny,
                        nx,
                        ny * nx,
                        _relative(folder, self.data_dir),
                    ),
                )

    def known(self) -> set[str]:
        """The ids of all scans."""
        with self._using() as db:
            return {row["id"] for row in db.execute("SELECT id FROM scans")}

    def put_session(self, document: Mapping[str, Any]) -> None:
        """A session has begun, changed or ended; `document` is what stands in its session.json."""
        keys = ("id", "pipeline", "name", "status", "started_ns")
        with self._using() as db:
            db.execute(
                "INSERT OR REPLACE INTO sessions (id, pipeline, name, status, started_ns, document)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (*(document[key] for key in keys), to_json(document)),
            )

    def sessions(self) -> Sequence[dict[str, Any]]:
        """Session documents, the newest first."""
        with self._using() as db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'sessions'").fetchone():
                return []
            rows = db.execute(
                "SELECT document FROM sessions ORDER BY started_ns DESC, id DESC"
            ).fetchall()
        return [found for row in rows if (found := _object(row["document"]))]

    def list(
        self,
        since_ns: int | None = None,
        status: str | None = None,
        limit: int | None = None,
    ) -> Sequence[dict[str, Any]]:
        """Scans, the newest first: begun at or after `since_ns` (UTC), of this status."""
        with self._using() as db:
            rows = db.execute(
                f"SELECT {_COLUMNS} FROM scans WHERE started_ns >= ? AND (? IS NULL OR status = ?)"
                " ORDER BY started_ns DESC, id DESC LIMIT ?",
                (since_ns or 0, status, status, -1 if limit is None else limit),
            ).fetchall()
        return [_as_json(row) for row in rows]

    def get(self, scan_id: str) -> dict[str, Any] | None:
        """One scan, None if there is no such id."""
        with self._using() as db:
            row = db.execute(f"SELECT {_COLUMNS} FROM scans WHERE id = ?", (scan_id,)).fetchone()
        return None if row is None else _as_json(row)

    def abandoned(self) -> Sequence[tuple[str, Path]]:
        """(id, folder) of scans that a daemon was acquiring when it died.

        A scan stays on this list until `end` has said what was kept of it.
        """
        with self._using() as db:
            rows = db.execute(
                "SELECT id, folder, owner FROM scans WHERE owner != '' ORDER BY started_ns"
            ).fetchall()
        dead = {
            owner: holder_is_dead(lock_path(self.data_dir, owner))
            for owner in {row["owner"] for row in rows}
        }
        return [(row["id"], self.data_dir / row["folder"]) for row in rows if dead[row["owner"]]]

    def mark_aborted(self, scan_id: str, finished_ns: int) -> None:
        """Say that the scan was cut off; a row that has ended meanwhile stays as it is."""
        with self._using() as db:
            db.execute(
                "UPDATE scans SET status = 'aborted', finished_ns = ?"
                " WHERE id = ? AND status = 'acquiring'",
                (finished_ns, scan_id),
            )

    def close(self) -> None:
        """Close the database and give the lock up."""
        with self._lock:
            self._db.close()
        self._release_lock()

    def _release_lock(self) -> None:
        if self._owner_fd >= 0:
            with contextlib.suppress(OSError):
                lock_path(self.data_dir, self._owner).unlink()
            os.close(self._owner_fd)
            self._owner_fd = -1


def _check_version(db: sqlite3.Connection, path: Path) -> None:
    found = db.execute("PRAGMA user_version").fetchone()[0]
    if found != SCHEMA_VERSION:
        raise SinkError(
            f"{path}: the catalogue has schema {found}, this stemd knows {SCHEMA_VERSION}",
            "use the newer stemd that wrote it" if found > SCHEMA_VERSION else "move it away",
        )


def _relative(folder: Path, data_dir: Path) -> str:
    try:
        return str(folder.relative_to(data_dir))
    except ValueError:
        raise SinkError(f"{folder} does not lie in {data_dir}", "") from None


def _as_json(row: sqlite3.Row) -> dict[str, Any]:
    finished = row["finished_ns"]
    return {
        "id": row["id"],
        "pipeline": row["pipeline"],
        "instrument": row["instrument"],
        "status": row["status"],
        "started": iso_utc(row["started_ns"]),
        "started_ns": row["started_ns"],
        "finished": None if finished is None else iso_utc(finished),
        "finished_ns": finished,
        "shape": [row["ny"], row["nx"]],
        "positions_done": row["positions_done"],
        "positions_total": row["positions_total"],
        "folder": row["folder"],
        "results": _names(row["results"]),
        "bytes": row["bytes"],
        **_object(row["summary"]),
    }


def _object(text: str) -> dict[str, Any]:
    """What a row says beside its columns; {} for a row that was damaged."""
    try:
        return checked(object_from_json(text))
    except FormatError:
        return {}


def _names(text: str) -> Sequence[str]:
    try:
        found = from_json(text)
    except FormatError:
        return []
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []
