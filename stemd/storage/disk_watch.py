"""Looking after the disk while the daemon runs: is it there, is it full, what may be deleted."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Literal

import structlog

from stemd.config.tables import RetentionTable
from stemd.documents import error_document
from stemd.errors import SinkError
from stemd.events import Json
from stemd.storage.retention import retain
from stemd.storage.store import Store

RETENTION_PERIOD_S = 60.0

log = structlog.get_logger(__name__)

News = Literal["low", "enough", "failed", "well"]


class DiskWatch:
    """`look` now and then, in a worker thread; `document` is for the health document."""

    def __init__(self, store: Store, table: RetentionTable) -> None:
        self.error: SinkError | None = None
        self.low = False
        self.deleted = 0
        self._store, self._table = store, table
        self._free: int | None = None
        self._total: int | None = None
        self._next_retention = 0.0
        self._began_ns, self._began = time.time_ns(), time.monotonic()

    @property
    def folder(self) -> Path:
        """Where scans are kept."""
        return self._store.data_dir

    def look(self) -> list[News]:
        """Look at the disk, write what waits, delete what may go; returns what has changed."""
        before = self.error
        self.error = self._store.writable()
        self._measure()
        if self.error is None:
            self._store.write_waiting()
            self._retain()
        news: list[News] = []
        if self.error is not None and (before is None or before.message != self.error.message):
            news.append("failed")
        if self.error is None and before is not None:
            news.append("well")
        low = self._free is not None and self._free < self._table.warn_free_gb * 1e9
        if low != self.low:
            self.low = low
            news.append("low" if low else "enough")
        return news

    def _measure(self) -> None:
        self._free = self._store.free_bytes()
        try:
            self._total = shutil.disk_usage(self._store.data_dir).total
        except OSError:
            self._total = None

    def _retain(self) -> None:
        if time.monotonic() < self._next_retention and not self._short:
            return
        self._next_retention = time.monotonic() + RETENTION_PERIOD_S
        try:
            self.deleted += len(retain(self._store, self._table, self._trusted_ns()))
        except SinkError as error:
            self.error = error
        self._measure()

    @property
    def _short(self) -> bool:
        """Less is free than is asked for: a fast camera fills a disk within a minute."""
        wanted = self._table.min_free_gb
        return wanted is not None and self._free is not None and self._free < wanted * 1e9

    def _trusted_ns(self) -> int:
        """The time of day, but no more than has passed: a clock stepped ahead ages no scan."""
        passed = int((time.monotonic() - self._began) * 1e9)
        return min(time.time_ns(), self._began_ns + passed)

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
        error = self.error
        return {
            "free_bytes": self._free,
            "total_bytes": self._total,
            "low": self.low,
            "error": error and error_document(error),
            "scans_deleted": self.deleted,
            "documents_owed": self._store.waiting,
            "documents_dropped": self._store.dropped,
        }
