"""Everything of one scan that goes to disk: folder, catalogue row, raw record, results."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from stemd import plugins
from stemd.acquisition import Acquisition
from stemd.config.tables import DEFAULT_RESULTS
from stemd.errors import SinkError, StemdError
from stemd.results import Snapshot
from stemd.scan.run import ScanRun
from stemd.storage.completions import outstanding
from stemd.storage.files import FileRecord
from stemd.storage.folder import ScanFolder, ScanSummary, scan_document
from stemd.storage.recorder import RawRecorder
from stemd.storage.store import Store
from stemd.storage.writers import writers_of


class ScanFiles:
    """Keeps one scan. Methods block on the disk; no failure of the disk leaves them.

    A failure is given to `on_error`, and what can still be written is written.
    """

    def __init__(
        self,
        acquisition: Acquisition,
        store: Store,
        pipeline: str,
        on_error: Callable[[StemdError], None],
        session: str | None = None,
    ) -> None:
        self.folder = ScanFolder.of_scan(store.data_dir, acquisition, pipeline, store.instrument)
        self.recorder: RawRecorder | None = None
        self.notes: list[str] = []
        self.summary: ScanSummary | None = None
        self.failed = False
        self.session = session
        self._store = store
        self._on_error = on_error
        self._usable = False

    def open(self, *, record_raw: bool) -> None:
        """Make the folder, enter the catalogue, start the record."""
        try:
            self._store.check()
            self.folder.create()
            self._usable = True
        except SinkError as error:
            self._report(error)
            return
        acquisition, folder = self.folder.acquisition, self.folder
        try:
            self._store.catalogue.begin(
                acquisition, folder.pipeline, folder.instrument, folder.path
            )
        except SinkError as error:
            self._report(error)
        if record_raw:
            recorder: RawRecorder = plugins.load("sinks", "record").build(
                self._report, reserve_bytes=self._store.reserve_bytes
            )
            if recorder.start(acquisition, folder.path):
                self.recorder = recorder

    def close(
        self,
        run: ScanRun,
        final: Snapshot,
        settings: Mapping[str, Any],
        *,
        lacking: Mapping[str, int] | None = None,
    ) -> dict[str, Any]:
        """Finish the record, write results, scan.json and the catalogue row.

        `settings` are the live settings; the writers of their `record.results` write the images.
        `lacking`: positions by engine that its images are to get from the record, which is
        noted as outstanding if the record is whole.

        Returns the scan document, complete in memory even where the disk failed; it is then
        written when the disk takes it.
        """
        whole = False
        counters: dict[str, Any] = {"frames": run.frames}
        done = run.maps.done
        if done.any():
            counters["counts_per_position"] = round(float(run.maps.total[done].mean()), 3)
        if self.recorder is not None:
            try:
                records = self.recorder.finish()
                for record in records:
                    self.folder.add(record)
                whole = bool(records) and all(record.complete for record in records)
            except StemdError as error:
                self._report(error)
            counters["record_waits"] = self.recorder.waits
            counters["record_blocks_refused"] = self.recorder.blocks_refused
        if self._usable:
            for failure in self.folder.write_results(final, settings, writers_of(settings)).errors:
                self._report(failure)
        self.notes += [f"engine {name} failed: {why}" for name, why in run.failed.items()]
        self.summary = ScanSummary(
            status=run.status,
            done=done,
            optics=run.settings.optics,
            settings=settings,
            settings_history=run.history,
            counters=counters | run.counters,
            notes=self.notes,
            finished_ns=run.finished_ns or time.time_ns(),
            session=self.session,
            completion=outstanding(lacking, final.sequence) if lacking and whole else None,
        )
        return self._write_down()

    def write_images(
        self, snapshot: Snapshot, settings: Mapping[str, Any], ending: str = ""
    ) -> list[str]:
        """Write images under `<name><ending>`; returns the files' names. Raises SinkError.

        By the writers of `record.results`, and where these are none as TIFF.
        """
        if not self._usable:
            raise SinkError(
                f"{self.folder.path}: the folder of this scan could not be made",
                "see the pipeline's last error; the next scan tries again",
            )
        named = dataclasses.replace(
            snapshot,
            results=[dataclasses.replace(r, name=r.name + ending) for r in snapshot.results],
        )
        writers = writers_of(settings) or DEFAULT_RESULTS
        written = self.folder.write_results(named, settings, writers)
        for failure in written.errors:
            raise failure
        return [record.name for record in written.files]

    def completed(self, files: Iterable[FileRecord], completion: Mapping[str, Any]) -> None:
        """Somebody has written these files and this into the folder after the scan."""
        assert self.summary is not None
        for record in files:
            self.folder.add(record)
        self.summary.completion = completion

    def amend(self, recomputed: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Write scan.json and the catalogue row of a finished scan again.

        With what was recomputed if so, and with the files that have been added since.
        """
        assert self.summary is not None
        if recomputed is not None:
            self.summary.recomputed = [*self.summary.recomputed, recomputed]
        return self._write_down()

    def _write_down(self) -> dict[str, Any]:
        assert self.summary is not None
        folder = self.folder
        document = scan_document(
            folder.acquisition,
            folder.pipeline,
            folder.instrument,
            self.summary,
            folder.files.values(),
        )
        try:
            self._store.check()
            if not self._usable:
                folder.path.mkdir(parents=True, exist_ok=True)
            document = folder.write_summary(self.summary)
            self._store.catalogue.end(folder.acquisition.id, document, folder.path)
        except OSError:
            self._store.write_later(folder.path, document)
        except SinkError as error:
            if self._usable:
                self._report(error)
            self._store.write_later(folder.path, document)
        return document

    def _report(self, error: StemdError) -> None:
        self.failed = True
        self.notes.append(str(error))
        self._on_error(error)
