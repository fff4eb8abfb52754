"""Looking after the disk while the daemon runs: is it there, is it full, what may be deleted."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Literal

from stemd.acquisition import iso_utc
from stemd.config.tables import RetentionTable
from stemd.documents import error_document
from stemd.errors import SinkError
from stemd.events import Json
from stemd.logs import get_logger
from stemd.storage.clock import SureClock
from stemd.storage.recovery import enter_missing, enter_sessions, recover
from stemd.storage.retention import retain, surplus_of
from stemd.storage.store import Store
from stemd.storage.trial import trial
from stemd.storage.unended import end_unended

RETENTION_PERIOD_S = 60.0

log = get_logger(__name__)

News = Literal["low", "enough", "failed", "well", "retention", "retention well"]


class DiskWatch:
    """`look` now and then, in a worker thread; `document` is for the health document."""

    def __init__(self, store: Store, table: RetentionTable) -> None:
        self.low = False
        self.deleted = 0
        self.to_be_tried = False
        """Whether a look writes a trial file, too: some record was refused, nobody knows more."""
        self.well_since: str | None = None
        """Since when the disk has taken all that it was given; None while it does not."""
        self.retention_error: SinkError | None = None
        self._store, self._table = store, table
        self._error: SinkError | None = None
        self._free: int | None = None
        self._total: int | None = None
        self._next_retention = 0.0
        self._began_ns = time.time_ns()
        self._clock = SureClock(store.data_dir, store.instrument)
        self._stopping = threading.Event()

    @property
    def error(self) -> SinkError | None:
        """What keeps scans from being kept now."""
        return self._error or self._store.rows.error

    def failed(self) -> None:
        """Somebody has met a fault of the disk: it is not well until a look says so."""
        self.well_since = None

    def stop(self) -> None:
        """A look that deletes ends after the scan it is at."""
        self._stopping.set()

    @property
    def folder(self) -> Path:
        """Where scans are kept."""
        return self._store.data_dir

    def look(self) -> list[News]:
        """Look at the disk, write what waits, delete what may go; returns what has changed."""
        before, refused = self._error, self.retention_error
        rows = self._store.rows.error
        self._store.rows.revive()
        error = self._store.writable()
        self._measure()
        self._error = error
        if error is None:
            self._store.write_waiting()
            self._rebuild()
            self._retain()
            self._error = self._error or self._too_full()
        news: list[News] = []
        now = self._error or rows
        if now is not None and (before is None or before.message != now.message):
            news.append("failed")
        if now is None and before is not None:
            news.append("well")
        self._error = now
        if now is not None or (self.to_be_tried and trial(self._store) is not None):
            self.well_since = None
        elif self.well_since is None:
            self.well_since = iso_utc(time.time_ns())
        if self.retention_error is not None and (
            refused is None or refused.message != self.retention_error.message
        ):
            news.append("retention")
        if self.retention_error is None and refused is not None:
            news.append("retention well")
        return [*news, *self._space()]

    def _too_full(self) -> SinkError | None:
        """What is known before the next scan: there is no room for its record."""
        reserve = self._store.reserve_bytes
        if self._free is None or self._free >= reserve:
            return None
        return SinkError(
            f"{self._store.data_dir}: less than {reserve // 2**20} MiB are free: nothing is "
            "recorded",
            f"free space; {reserve // 2**20} MiB are kept for images",
        )

    def _rebuild(self) -> None:
        """Enter again what a catalogue that was begun anew, or took no rows, does not know.

        So, too, after the data folder was away: what came back does not know what ended meanwhile.
        """
        database, rows = self._store.catalogue.database, self._store.rows
        if not (database.fresh or rows.lost):
            return
        database.fresh = rows.lost = False
        try:
            end_unended(self._store)
            recover(self._store, self._store.unwritten())
            enter_missing(self._store.catalogue, self._store.instrument, self._began_ns)
            enter_sessions(self._store.catalogue)
        except SinkError as error:
            rows.lost = True
            log.warning("the catalogue cannot be made again yet", error=str(error))

    def _space(self) -> list[News]:
        low = self._free is not None and self._free < self._table.warn_free_gb * 1e9
        if low == self.low:
            return []
        self.low = low
        return ["low" if low else "enough"]

    def _measure(self) -> None:
        self._free = self._store.free_bytes()
        try:
            self._total = shutil.disk_usage(self._store.data_dir).total
        except OSError:
            self._total = None

    def _retain(self) -> None:
        clock = self._clock
        try:
            due = time.monotonic() >= self._next_retention or self._short
            if not due and not surplus_of(self._store, self._table):
                return
            self._next_retention = time.monotonic() + RETENTION_PERIOD_S
            done = retain(
                self._store, self._table, clock.now_ns(), clock.sure_ns(), self._stopping.is_set
            )
        except SinkError as error:
            self._error = error
            return
        self.deleted += len(done.deleted)
        if done.more:
            self._next_retention = 0.0
        self.retention_error = done.refused
        if done.refused is None:
            clock.believe()
        clock.keep()
        if done.problems:
            first, why = next(iter(done.problems.items()))
            text = f"retention cannot delete {len(done.problems)} scans, among them {first}: {why}"
            remedy = "give the user that runs stemd the right to delete there, or delete them"
            self.retention_error = done.refused or SinkError(text, remedy)
        self._measure()

    @property
    def _short(self) -> bool:
        """Less is free than is asked for: a fast camera fills a disk within a minute."""
        wanted = self._table.min_free_gb
        return wanted is not None and self._free is not None and self._free < wanted * 1e9

    @property
    def warning(self) -> tuple[str, str]:
        """The low-space warning and its remedy."""
        free = (self._free or 0) / 1e9
        return (
            f"{self._store.data_dir}: only {free:.2f} GB are free",
            "free space, or let [daemon.retention] do it; records stop before images do",
        )

    def document(self) -> Json:
        """The `disk` part of the health document."""
        error, retention = self.error, self.retention_error
        return {
            "free_bytes": self._free,
            "total_bytes": self._total,
            "low": self.low,
            "error": error and error_document(error),
            "well_since": self.well_since,
            "retention_error": retention and error_document(retention),
            "scans_deleted": self.deleted,
            "documents_owed": self._store.waiting,
            "documents_dropped": self._store.dropped,
        }
