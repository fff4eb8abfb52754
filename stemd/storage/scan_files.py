"""Everything of one scan that goes to disk: folder, catalogue row, raw record, results."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from stemd import plugins
from stemd.acquisition import Acquisition, Optics
from stemd.config.tables import DEFAULT_RESULTS
from stemd.errors import SinkError, StemdError
from stemd.results import Snapshot
from stemd.scan.run import ScanRun
from stemd.storage.completions import OUTSTANDING, outstanding
from stemd.storage.failures import Failures
from stemd.storage.files import FileRecord, disk_error
from stemd.storage.folder import ScanFolder, ScanSummary, scan_document
from stemd.storage.intentions import IMAGES
from stemd.storage.opening import Opening
from stemd.storage.recorder import RawRecorder
from stemd.storage.store import Store
from stemd.storage.writers import writers_of

ROW_S = 1.0
"""How long the end of a scan waits for its row in the catalogue."""


class ScanFiles:
    """Keeps one scan. Methods block on the disk; no failure of the disk leaves them.

    A failure is given to `on_error`, and what can still be written is written. `camera` and
    `engines` as in `ScanSummary`.
    """

    def __init__(
        self,
        acquisition: Acquisition,
        store: Store,
        pipeline: str,
        on_error: Callable[[StemdError], None],
        session: str | None = None,
        camera: Mapping[str, Any] | None = None,
        engines: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = ScanFolder.of_scan(store.data_dir, acquisition, pipeline, store.instrument)
        self.recorder: RawRecorder | None = None
        self.not_written: list[str] = []
        self.record_is_whole = False
        """Once the scan is over: whether all of it can be had from its record."""
        self.summary: ScanSummary | None = None
        self.session = session
        self._camera, self._engines = camera, engines or {}
        self._store = store
        self._failures = Failures(on_error)
        self._opening = Opening(self.folder, store, self._failures)
        self._asked = False

    @property
    def id(self) -> str:
        """The scan's."""
        return self.folder.acquisition.id

    @property
    def recording(self) -> bool:
        """Whether the scan is being recorded. By any thread."""
        return self.recorder is not None and self.recorder.recording

    @property
    def failed(self) -> bool:
        """Whether the disk has not done something."""
        return self._failures.failed

    def open(self, live: Mapping[str, Any], optics: Optics | None = None) -> None:
        """Make the folder, enter the catalogue, start the record: all beside; returns at once.

        `live` are the live settings, as scan.json is to show them.
        """
        self._store.begun(self.id)
        nothing = np.zeros(self.folder.acquisition.scan.positions, np.bool_)
        summary = ScanSummary(
            "acquiring",
            nothing,
            optics=optics or Optics(),
            settings=live,
            session=self.session,
            camera=self._camera,
            engines=self._engines,
        )
        self._opening.start(summary)
        self._asked = bool(live.get("record", {}).get("raw", True))
        if self._asked:
            try:
                recorder: RawRecorder = plugins.load("sinks", "record").build(
                    self._failures.report, reserve_bytes=self._store.reserve_bytes
                )
            except (StemdError, OSError) as error:  # no descriptor is left to read the module
                text = f"{self.folder.path}: the record cannot be begun: {error}"
                self._failures.report(SinkError(text, "see the daemon's log"))
                return
            recorder.start(self.folder.acquisition, self.folder.path, self._opening.is_made)
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
        written when the disk takes it. Its status is `not recorded` where the disk has not all
        of what was to be kept, and `not_written` says what.
        """
        counters: dict[str, Any] = {"frames": run.frames}
        done = run.sums.maps.done
        if done.any():
            counters["counts_per_position"] = round(float(run.sums.maps.totals_done.mean()), 3)
        self._opening.is_open()
        whole = self.record_is_whole = self._finish_record()
        written = self._write_final(final, settings)
        kept = whole if self._asked else written
        if self.recorder is not None:
            counters["record_waits"] = self.recorder.waits
            counters["record_blocks_refused"] = self.recorder.blocks_refused
        notes = self._failures.notes
        notes += [f"engine {name} failed: {why}" for name, why in run.failed.items()]
        self.summary = ScanSummary(
            status=run.status if kept else "not recorded",
            done=done,
            optics=run.settings.optics,
            settings=settings,
            settings_history=run.history,
            counters=counters | run.counters,
            notes=notes,
            finished_ns=run.finished_ns or time.time_ns(),
            session=self.session,
            completion=outstanding(lacking, final.sequence) if lacking and whole else None,
            not_written=self.not_written,
            mask=run.sums.mask.document(),
            measured=run.measured,
            notices=run.notices,
            camera=self._camera,
            engines=self._engines,
        )
        document = self._write_down()
        self._store.ended(self.id)
        return document

    def _finish_record(self) -> bool:
        """Whether the whole record is on the disk."""
        recorder, name = self.recorder, self.folder.acquisition.raw_name
        if recorder is None:
            self.not_written += [f"{name}: the record was not begun"] if self._asked else []
            return False
        records = recorder.finish()
        for record in records:
            self.folder.add(record)
        if records and all(record.complete for record in records) and recorder.error is None:
            return True
        if recorder.error is not None:
            why = recorder.error.message
        else:
            why = f"{recorder.blocks_refused} blocks of frames came too late for the disk"
        self.not_written.append(f"{name}: {why}")
        return False

    def _write_final(self, final: Snapshot, settings: Mapping[str, Any]) -> bool:
        """Whether all finished images are on the disk."""
        writers = writers_of(settings)
        if self._opening.usable:
            failures = self.folder.write_results(final, settings, writers).errors
            for failure in failures:
                self._failures.report(failure)
                self.not_written.append(failure.message)
            return not failures
        if writers:
            self.not_written += [f"image {result.name}" for result in final.results]
        return False

    def write_images(
        self, snapshot: Snapshot, settings: Mapping[str, Any], ending: str = ""
    ) -> list[str]:
        """Write images under `<name><ending>`; returns the files' names. Raises SinkError.

        By the writers of `record.results`, and where these are none as TIFF.
        """
        if not self._opening.is_open():
            raise SinkError(
                f"{self.folder.path}: the folder of this scan could not be made",
                "see the pipeline's last error; the next scan tries again",
            )
        named = dataclasses.replace(
            snapshot,
            results=[result.changed(name=result.name + ending) for result in snapshot.results],
        )
        writers = writers_of(settings) or DEFAULT_RESULTS
        if self.summary is not None:  # until `amend` has told scan.json of them
            self._store.intentions.begin(self.id, IMAGES)
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

    def complete_again(
        self, lacking: Mapping[str, int], sequence: int, optics: Mapping[str, Any]
    ) -> None:
        """Images of these engines are to be made from the record with these optics.

        `amend` writes it down.
        """
        assert self.summary is not None
        before = self.summary.completion or {}
        if before.get("status") == OUTSTANDING:
            lacking = {**before["lacking"], **lacking}
        self.summary.completion = outstanding(lacking, sequence, optics)

    def describe(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Lay this over what the finished scan is said to be of; returns its document."""
        assert self.summary is not None
        settings = self.summary.settings
        told = {**(settings.get("about") or {}), **about}
        self.summary.settings = {**settings, "about": told}
        return self.amend()

    def amend(self, recomputed: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Write scan.json and the catalogue row of a finished scan again.

        With what was recomputed if so, and with the files that have been added since.
        """
        assert self.summary is not None
        if recomputed is not None:
            self.summary.recomputed = [*self.summary.recomputed, recomputed]
        document = self._write_down()
        if not self._store.waiting:
            self._store.intentions.done(self.id)
        return document

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
            if not self._opening.usable:
                folder.path.mkdir(parents=True, exist_ok=True)
            document = folder.write_summary(self.summary)
        except OSError as error:
            return self._wait_for_disk(document, disk_error(error, "make the folder", folder.path))
        except SinkError as error:
            if self._opening.usable:
                self._failures.report(error)
            return self._wait_for_disk(document, error)
        self._store.enter(document, folder.path)
        # who hears of the end finds it in the catalogue, unless somebody holds that
        self._store.rows.settled(ROW_S)
        return document

    def _wait_for_disk(self, document: dict[str, Any], error: SinkError) -> dict[str, Any]:
        """The document for people: scan.json is written when the disk takes it."""
        self._store.write_later(self.folder.path, document)
        told = [*document["not_written"], f"scan.json: {error.message}"]
        document = {**document, "status": "not recorded", "not_written": told}
        self._store.enter(document, self.folder.path)
        return document
