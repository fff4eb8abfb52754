"""The catalogue: one row a scan, true also after the daemon was killed."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

from stemd.acquisition import Acquisition
from stemd.documents import plain_text, to_json
from stemd.errors import SinkError
from stemd.storage.catalogue.database import Database, RowError
from stemd.storage.catalogue.scan_row import COLUMNS, about_text, as_json, ending, read_object
from stemd.storage.catalogue.schema import COMPLETION, DELETED, STATUS
from stemd.storage.locks import holder_is_dead, lock_path, was_stopped

Json = dict[str, Any]
T = TypeVar("T")

_WRONG = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


class Abandoned(NamedTuple):
    """A scan that a daemon was acquiring when it ended; `stopped`: as it was told to."""

    scan_id: str
    folder: Path
    stopped: bool
    owner: str
    instrument: str


class Catalogue:
    """The catalogue of one data folder. Safe from any thread; every method may block on disk.

    Every failure is a SinkError that names the file and says what to do; a row that can never be
    taken is a RowError.
    """

    def __init__(self, data_dir: Path) -> None:
        self.database = Database(data_dir)
        with contextlib.suppress(SinkError):  # tried again by whoever needs it, and told then
            self.database.run(lambda db: None)

    @classmethod
    def read_only(cls, data_dir: Path) -> Self:
        """Open for looking, also by a user who may not write there. Raises SinkError."""
        self = cls.__new__(cls)
        self.database = Database.read_only(data_dir)
        return self

    @property
    def data_dir(self) -> Path:
        """The folder whose scans are listed."""
        return self.database.data_dir

    @property
    def path(self) -> Path:
        """The database's file."""
        return self.database.path

    def begin(self, acquisition: Acquisition, pipeline: str, instrument: str, folder: Path) -> None:
        """A scan has begun: a row `acquiring`. The folder is stored relative to the data folder."""
        ny, nx = acquisition.scan.shape
        place = self._relative(folder)
        self.database.run(
            lambda db: db.execute(
                "INSERT OR REPLACE INTO scans (id, pipeline, instrument, status, started_ns, ny,"
                " nx, positions_total, folder, owner)"
                " VALUES (?, ?, ?, 'acquiring', ?, ?, ?, ?, ?, ?)",
                (
                    *(acquisition.id, pipeline, instrument, acquisition.started_ns),
                    *(ny, nx, ny * nx, place, self.database.owner),
                ),
            )
        )

    def end(self, scan_id: str, document: Mapping[str, Any], folder: Path | None = None) -> None:
        """A scan is over; `document` is what stands in its scan.json.

        A scan whose beginning could not be written is entered now, if its `folder` is given.
        """
        try:
            values = ending(scan_id, document)
            new = () if folder is None else self._beginning(document, folder)
        except _WRONG as error:
            raise RowError(
                f"the document of scan {scan_id} cannot be added to the catalogue: "
                f"{type(error).__name__}: {error}",
                "its scan.json is damaged; its record and images are unchanged",
            ) from error

        def write(db: sqlite3.Connection) -> None:
            changed = db.execute(
                "UPDATE scans SET status = ?, finished_ns = ?, positions_done = ?, results = ?,"
                " bytes = ?, summary = ?, owner = '' WHERE id = ?",
                values,
            ).rowcount
            if not changed and new:
                db.execute(
                    "INSERT INTO scans (status, finished_ns, positions_done, results, bytes,"
                    " summary, id, pipeline, instrument, started_ns, ny, nx, positions_total,"
                    " folder, owner) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '')",
                    (*values, *new),
                )

        self._bound(write)

    def _beginning(self, document: Mapping[str, Any], folder: Path) -> tuple[Any, ...]:
        ny, nx = document["scan"]["shape"]
        keys = ("pipeline", "instrument", "started_ns")
        return (*(document[key] for key in keys), ny, nx, ny * nx, self._relative(folder))

    def _bound(self, write: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return self.database.run(write)
        except _WRONG as error:  # an integer that no column holds, text that no one can encode
            raise RowError(
                f"{self.path}: a value cannot be stored: {plain_text(str(error))}",
                "the scan's folder is complete without it",
            ) from error

    def known(self) -> set[str]:
        """The ids of all scans."""
        rows = self.database.run(lambda db: db.execute("SELECT id FROM scans").fetchall())
        return {row["id"] for row in rows}

    def put_session(self, document: Mapping[str, Any]) -> None:
        """A session has begun, changed or ended; `document` is what stands in its session.json."""
        keys = ("id", "pipeline", "name", "status", "started_ns")
        values = (*(document[key] for key in keys), to_json(document))
        self._bound(
            lambda db: db.execute(
                "INSERT OR REPLACE INTO sessions (id, pipeline, name, status, started_ns, document)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                values,
            )
        )

    def sessions(self) -> Sequence[Json]:
        """Session documents, the newest first."""

        def look(db: sqlite3.Connection) -> list[sqlite3.Row]:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'sessions'").fetchone():
                return []
            return db.execute(
                "SELECT document FROM sessions ORDER BY started_ns DESC, id DESC"
            ).fetchall()

        return [found for row in self.database.run(look) if (found := read_object(row["document"]))]

    def list(
        self,
        since_ns: int | None = None,
        status: str | None = None,
        limit: int | None = None,
        find: str = "",
    ) -> Sequence[Json]:
        """Scans, the newest first: begun at or after `since_ns` (UTC), of this status.

        `find`: words that all stand in what the scan is said to be of, in any case of letters.
        """
        scans = self._rows(
            f"started_ns >= ? AND (? IS NULL OR {STATUS} = ?)"
            " ORDER BY started_ns DESC, id DESC LIMIT ?",
            (since_ns or 0, status, status, -1 if limit is None or find else limit),
        )
        if not find:
            return scans
        words = find.casefold().split()
        found = [scan for scan in scans if all(word in about_text(scan) for word in words)]
        return found if limit is None or limit < 0 else found[:limit]

    def get(self, scan_id: str) -> Json | None:
        """One scan, None if there is no such id."""
        return next(iter(self._rows("id = ?", (scan_id,))), None)

    def begins_with(self, start: str, limit: int) -> Sequence[Json]:
        """Scans whose id begins so."""
        return self._rows("substr(id, 1, ?) = ? LIMIT ?", (len(start), start, limit))

    def outstanding(self, instrument: str, status: str) -> Sequence[Json]:
        """Scans of an instrument whose `completion` has this status, the oldest first."""
        return self._rows(
            f"{COMPLETION} = ? AND instrument = ? ORDER BY started_ns",
            (status, instrument),
        )

    def oldest(
        self, instrument: str, deleted: str, before_ns: int, after: tuple[int, str], limit: int
    ) -> Sequence[Json]:
        """Scans of an instrument that are over and began before a time, the oldest first.

        `deleted`: of which this is gone, "" for nothing yet. `after`: (started_ns, id) of the
        last one that is already known.
        """
        return self._rows(
            f"instrument = ? AND {DELETED} = ?"
            " AND started_ns < ? AND (started_ns, id) > (?, ?) AND status != 'acquiring'"
            " ORDER BY started_ns, id LIMIT ?",
            (instrument, deleted, before_ns, *after, limit),
        )

    def count(self, instrument: str, deleted: str, before_ns: int | None = None) -> int:
        """How many such scans there are."""
        return int(
            self.database.run(
                lambda db: db.execute(
                    "SELECT count(*) FROM scans WHERE instrument = ? AND started_ns < ?"
                    f" AND {DELETED} = ?",
                    (instrument, (1 << 63) - 1 if before_ns is None else before_ns, deleted),
                ).fetchone()[0]
            )
        )

    def _rows(self, where: str, values: tuple[Any, ...]) -> Sequence[Json]:
        query = f"SELECT {COLUMNS} FROM scans WHERE {where}"
        rows = self._bound(lambda db: db.execute(query, values).fetchall())
        return [as_json(row) for row in rows]

    def abandoned(self) -> Sequence[Abandoned]:
        """Scans that a daemon was acquiring when it ended, the oldest first.

        A scan stays on this list until `end` has said what was kept of it.
        """
        rows = self.database.run(
            lambda db: db.execute(
                "SELECT id, folder, owner, instrument FROM scans WHERE owner != ''"
                " ORDER BY started_ns"
            ).fetchall()
        )
        locks = {row["owner"]: lock_path(self.data_dir, row["owner"]) for row in rows}
        dead = {owner: was_stopped(path) for owner, path in locks.items() if holder_is_dead(path)}
        return [
            Abandoned(
                scan_id=row["id"],
                folder=self.data_dir / row["folder"],
                stopped=dead[row["owner"]],
                owner=row["owner"],
                instrument=row["instrument"],
            )
            for row in rows
            if row["owner"] in dead
        ]

    def forget(self, owners: Iterable[str]) -> None:
        """Clear away the locks of dead daemons of which nothing is left to mend."""
        for owner in set(owners) - {each.owner for each in self.abandoned()}:
            with contextlib.suppress(OSError):
                lock_path(self.data_dir, owner).unlink()

    def mark_aborted(self, scan_id: str, finished_ns: int) -> None:
        """Say that the scan was cut off; a row that has ended meanwhile stays as it is."""
        self.database.run(
            lambda db: db.execute(
                "UPDATE scans SET status = 'aborted', finished_ns = ?"
                " WHERE id = ? AND status = 'acquiring'",
                (finished_ns, scan_id),
            )
        )

    def close(self) -> None:
        """Close the database and give the lock up."""
        self.database.close()

    def _relative(self, folder: Path) -> str:
        try:
            return str(folder.relative_to(self.data_dir))
        except ValueError:
            raise SinkError(f"{folder} does not lie in {self.data_dir}", "") from None
