"""Sessions on the disk: session.json of each, and how scans ended of which a book does not know."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stemd.daemon.sessions.book import STATUSES, SessionBook
from stemd.documents import read_object, to_json
from stemd.errors import FormatError, SinkError, StemdError
from stemd.events import Json
from stemd.logs import get_logger
from stemd.storage.files import disk_error, write_atomic
from stemd.storage.scan_document import read_scan_document
from stemd.storage.store import Store

SESSIONS = "sessions"
SESSION_FILE = "session.json"
_Time = Annotated[int, Field(ge=0, lt=2**63)]
_WRONG = (OSError, StemdError, ValueError, KeyError, TypeError, AttributeError)

log = get_logger(__name__)


class _Kinds(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _ScanEntry(_Kinds):
    id: str
    status: str
    counts_per_position: float | None = None


class _Outage(_Kinds):
    what: str
    from_ns: _Time
    to_ns: _Time | None


class _Document(_Kinds):
    """What stemd relies on in a session.json; what is not there is as it was before it existed."""

    id: str
    name: str
    pipeline: str
    instrument: str = ""
    status: str
    started_ns: _Time
    seen_ns: _Time | None = None
    suspended_ns: _Time | None = None
    scans: list[_ScanEntry]
    current: str | None
    unfinished: list[str] = []
    events: list[dict[str, Any]]
    events_dropped: int
    gone: dict[str, _Time] = {}
    outages: list[_Outage] = []
    outages_dropped: int = 0
    outage_seconds: dict[str, float] = {}


def _book(path: Path) -> SessionBook:
    document = read_object(path)
    try:
        _Document.model_validate(document)
        return SessionBook(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise FormatError(f"{where}: {first['msg']}", "restore the file") from error


@dataclass(frozen=True, slots=True)
class Draft:
    """A book as it is at one moment, to be written by another thread."""

    summary: Json
    shown: Json
    number: int

    @classmethod
    def of(cls, book: SessionBook) -> Draft:
        """To be made on the event loop, where the book is changed."""
        return cls(book.summary(), book.shown(), next(_numbers))


_numbers = itertools.count()


class SessionFiles:
    """The sessions of one instrument in its data folder. Every method blocks on the disk."""

    _writing = threading.Lock()
    _newest: ClassVar[dict[Path, int]] = {}
    """By folder the number of the draft in it: a thread that was late writes nothing older."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def instrument(self) -> str:
        """Whose sessions these are."""
        return self._store.instrument

    def free_bytes(self) -> int | None:
        """Free space on the disk, None while it is gone."""
        return self._store.free_bytes()

    def keep(self, draft: Draft) -> None:
        """Write session.json and the catalogue's entry. Raises SinkError."""
        self._store.check()
        folder = self._store.data_dir / SESSIONS / str(draft.shown["id"])
        with self._writing:
            if self._newest.get(folder, -1) > draft.number:
                return
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise disk_error(error, "make the session's folder", folder) from error
            text = to_json(draft.summary, indent=1) + "\n"
            write_atomic(folder / SESSION_FILE, [text.encode()])
            self._newest[folder] = draft.number
        shown = draft.shown
        self._store.rows.put(str(shown["id"]), lambda catalogue: catalogue.put_session(shown))

    def stored(self, pipeline: str | None = None) -> list[SessionBook]:
        """The sessions of a pipeline, or of all, the newest first.

        Unreadable files are logged and left. Raises SinkError while the disk is gone: what it
        has must not be taken for all there is.
        """
        self._store.check()
        books = []
        for path in (self._store.data_dir / SESSIONS).glob(f"*/{SESSION_FILE}"):
            try:
                book = _book(path)
            except _WRONG as error:
                log.warning("a session's file cannot be read", path=str(path), error=str(error))
                continue
            document = book.document
            ours = document.setdefault("instrument", self.instrument) == self.instrument
            if ours and pipeline in (None, document["pipeline"]):
                books.append(book)
        return sorted(books, key=lambda book: (book.document["started_ns"], book.id), reverse=True)

    def scans_since(self, session: str, scan_id: str) -> list[Json]:
        """The documents of scans of a session that are newer than this one, the oldest first."""
        today = f"{scan_id[:4]}-{scan_id[4:6]}-{scan_id[6:8]}"
        days = [day for day in self._store.data_dir.glob("????-??-??") if day.name >= today]
        folders = [f for day in sorted(days) for f in sorted(day.iterdir()) if f.name > scan_id]
        documents = (_scan(folder) for folder in folders)
        return [each for each in documents if each is not None and each.get("session") == session]

    def scan_that_ended(self, scan_id: str) -> Json | None:
        """The document of a scan that is over, None while the disk does not say so."""
        for folder in self._store.data_dir.glob(f"????-??-??/{scan_id}"):
            document = _scan(folder)
            if document is not None and document["status"] in STATUSES:
                return document
        return None


def _scan(folder: Path) -> Json | None:
    """The scan.json of a folder, None where it cannot be read."""
    try:
        document = read_scan_document(folder)
    except (OSError, SinkError, StemdError) as error:
        log.debug("a scan.json cannot be read", folder=str(folder), error=str(error))
        return None
    return document if document.get("id") == folder.name else None
