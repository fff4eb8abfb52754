"""Everything of one scan that goes to disk: folder, catalogue row, raw record, results."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from stemd.acquisition import Acquisition
from stemd.daemon.catalogue import Catalogue
from stemd.daemon.scan_run import ScanRun
from stemd.daemon.sinks.disk import ScanFolder, ScanSummary, scan_document
from stemd.daemon.sinks.recorder import RawRecorder
from stemd.errors import SinkError, StemdError
from stemd.results import Snapshot

log = structlog.get_logger(__name__)


class ScanKeeper:
    """Keeps one scan. Methods block on the disk; no failure of the disk leaves them.

    A failure is given to `on_error`, and what can still be written is written.
    """

    def __init__(
        self,
        acquisition: Acquisition,
        data_dir: Path,
        pipeline: str,
        instrument: str,
        catalogue: Catalogue | None,
        on_error: Callable[[StemdError], None],
    ) -> None:
        self.folder = ScanFolder.of_scan(data_dir, acquisition, pipeline, instrument)
        self.recorder: RawRecorder | None = None
        self.notes: list[str] = []
        self._catalogue = catalogue
        self._on_error = on_error
        self._usable = False

    def open(self, *, record_raw: bool) -> None:
        """Make the folder, enter the catalogue, start the record."""
        try:
            self.folder.create()
            self._usable = True
        except SinkError as error:
            self._report(error)
            return
        acquisition, folder = self.folder.acquisition, self.folder
        try:
            if self._catalogue is not None:
                self._catalogue.begin(acquisition, folder.pipeline, folder.instrument, folder.path)
        except SinkError as error:
            self._report(error)
        if record_raw:
            recorder = RawRecorder(self._report)
            if recorder.start(acquisition, folder.path):
                self.recorder = recorder

    def close(
        self, run: ScanRun, final: Snapshot, settings: Mapping[str, Any], *, tiff: bool
    ) -> dict[str, Any]:
        """Finish the record, write results, scan.json and the catalogue row.

        Returns the scan document, complete in memory even where the disk failed.
        """
        counters: dict[str, Any] = {"frames": run.frames}
        if self.recorder is not None:
            try:
                for record in self.recorder.finish():
                    self.folder.add(record)
            except StemdError as error:
                self._report(error)
            counters["record_waits"] = self.recorder.waits
            counters["record_blocks_refused"] = self.recorder.blocks_refused
        if tiff and self._usable:
            for failure in self.folder.write_results(final, settings)[1]:
                self._report(failure)
        self.notes += [f"engine {name} failed: {why}" for name, why in run.failed.items()]
        summary = ScanSummary(
            status=run.status,
            done=run.maps.done,
            optics=run.settings.optics,
            settings=settings,
            settings_history=run.history,
            counters=counters | run.counters,
            notes=self.notes,
            finished_ns=run.finished_ns or time.time_ns(),
        )
        folder = self.folder
        document = scan_document(
            folder.acquisition, folder.pipeline, folder.instrument, summary, folder.files.values()
        )
        try:
            if self._usable:
                document = self.folder.write_summary(summary)
                if self._catalogue is not None:
                    self._catalogue.end(self.folder.acquisition.id, document)
        except SinkError as error:
            self._report(error)
        return document

    def _report(self, error: StemdError) -> None:
        self.notes.append(str(error))
        self._on_error(error)
