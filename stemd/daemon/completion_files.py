"""What of a completion goes to disk: images, scan.json, the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stemd.results import Result, Snapshot
from stemd.storage import completions as book
from stemd.storage.archive import Archive, Record
from stemd.storage.files import FileRecord
from stemd.storage.folder import ScanFolder
from stemd.storage.intentions import IMAGES
from stemd.storage.store import Store
from stemd.storage.writers import writers_of

Json = dict[str, Any]


class CompletionFiles:
    """Reads and writes the folders of scans whose images are completed. All methods block."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._archive = Archive(store.data_dir)

    def outstanding(self) -> list[Json]:
        """Catalogue rows of this instrument's scans whose images wait, the oldest first."""
        rows = self._store.catalogue.outstanding(self._store.instrument, book.OUTSTANDING)
        return [row for row in rows if book.is_outstanding(row)]

    def record(self, scan_id: str) -> Record | None:
        """The raw record of a scan, None when it is gone."""
        return self._archive.record(scan_id)

    def done(
        self,
        record: Record,
        results: Sequence[Result],
        seconds: float,
        optics: Mapping[str, Any] | None = None,
    ) -> tuple[Json, Snapshot, list[FileRecord]]:
        """Write the images; returns scan.json, the images and their files. Raises SinkError.

        `optics`: what they were made with in the place of the scan's own.
        """
        self._store.check()
        folder = record.path.parent
        document = book.read(folder)
        completion = book.done(document["completion"], results, seconds, optics)
        snapshot = book.final_of(document, results)
        where = ScanFolder(
            folder, snapshot.acquisition, document["pipeline"], document["instrument"]
        )
        settings = document["settings"]
        self._store.intentions.begin(document["id"], IMAGES)
        files, failures = where.write_results(snapshot, settings, writers_of(settings))
        for failure in failures:
            raise failure
        document = book.write(folder, document, completion, files)
        self._store.enter(document, folder)
        self._store.intentions.done(document["id"])
        return document, snapshot, list(files)

    def not_done(self, scan_id: str, status: str, message: str, remedy: str) -> Json | None:
        """Say in scan.json why not; returns it, None where retention deletes the scan.

        Where somebody has removed the folder the catalogue alone is told, so that no later
        daemon tries it again. Raises SinkError.
        """
        folder = self._archive.folder(scan_id)
        if folder is None:
            self._without_folder(scan_id, status, message, remedy)
            return None
        if not self._store.claim(scan_id):
            return None
        try:
            document = book.read(folder)
            completion = book.not_done(status, document["completion"], message, remedy)
            document = book.write(folder, document, completion)
            self._store.enter(document, folder)
        finally:
            self._store.release(scan_id)
        return document

    def _without_folder(self, scan_id: str, status: str, message: str, remedy: str) -> None:
        row = self._store.catalogue.get(scan_id)
        if row is not None and book.is_outstanding(row):
            completion = book.not_done(status, row["completion"], message, remedy)
            document = {**row, "files": [], "completion": completion}
            self._store.rows.put(scan_id, lambda catalogue: catalogue.end(scan_id, document))
