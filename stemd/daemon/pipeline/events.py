"""What happens to a pipeline, and what follows from it: documents, troubles, the state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from stemd.blocks import Link, Notice
from stemd.daemon.pipeline.disk_side import DiskSide
from stemd.daemon.pipeline.report import started_document
from stemd.daemon.pipeline.settings import SettingsInForce
from stemd.daemon.pipeline.status import Status
from stemd.daemon.pipeline.troubles import Troubles
from stemd.daemon.sessions.sessions import Sessions
from stemd.errors import StemdError
from stemd.events import Hub, Json
from stemd.logs import get_logger
from stemd.scan.measured_optics import nothing_measured
from stemd.scan.run import ScanRun
from stemd.storage.scan_files import ScanFiles

FAULT_AFTER = 4
"""An adapter that has failed so often in a row is out of order: `fault`, until it works again."""

log = get_logger(__name__)


class Completions(Protocol):
    """Who completes images of past scans."""

    def offer(self, document: Mapping[str, object]) -> None:
        """A scan document that may ask for completion; returns at once."""
        ...

    def document(self, pipeline: str) -> Json:
        """What a pipeline's state says of it."""
        ...


class Events:
    """Told by the parts of a pipeline what has happened. All methods on the event loop.

    `use_measured` takes a scan's id and the optics that were measured in it.
    """

    def __init__(
        self,
        pipeline: str,
        hub: Hub,
        settings: SettingsInForce,
        troubles: Troubles,
        status: Status,
        sessions: Sessions,
        completions: Completions,
        disk: DiskSide,
        use_measured: Callable[[str, Json], None],
    ) -> None:
        self._disk, self._use_measured = disk, use_measured
        self._pipeline, self._hub, self._settings = pipeline, hub, settings
        self._troubles, self._status = troubles, status
        self._sessions, self._completions = sessions, completions
        self._noticed: set[str] = set()
        """Kinds of errors that the adapter has told of."""
        self._spoiled: str | None = None
        """The scan with which something unforeseen went wrong."""

    @property
    def session(self) -> str | None:
        """The running session; by any thread."""
        return self._sessions.current

    def changed(self) -> None:
        """What the state follows from has changed."""
        self._status.update()

    # The camera

    def linked(self, link: Link) -> None:
        """The camera came or went."""
        self._status.linked = link.connected
        self._sessions.there("camera", there=link.connected)
        if link.connected:
            self._camera_is_well()
            log.info("camera connected", pipeline=self._pipeline, camera=link.text)
        else:
            self._troubles.tell("error", link.text, link.remedy, "camera")
        self._status.ready.set()
        self.changed()

    def noticed(self, notice: Notice) -> None:
        """The adapter or an engine has something to say."""
        if notice.level == "error":
            self._noticed.add(notice.kind)
        told = self._troubles.notice(notice.level, notice.text, notice.remedy, notice.kind)
        if told and notice.level == "error":
            self.changed()

    def failed(self, error: StemdError, failures: int, pause_s: float) -> None:
        """The adapter has failed so often in a row, and is started again after a pause."""
        self._status.linked = False
        self._sessions.there("camera", there=False)
        remedy = f"{error.remedy}; " if error.remedy else ""
        remedy += f"it is tried again in {pause_s:.0f} s" if pause_s >= 1 else "it is tried again"
        fault = failures >= FAULT_AFTER
        if fault:
            remedy += f" (it failed {failures} times in a row; the command reset tries it at once)"
        self._status.ready.set()
        self._troubles.error(StemdError(error.message, remedy), "adapter", fault=fault)
        self.changed()

    def exhausted(self) -> None:
        """The source has ended for good."""
        self._status.exhausted = True
        self._status.ready.set()
        self.changed()

    def _camera_is_well(self) -> None:
        self._troubles.over("camera", "adapter", *self._noticed)
        self._noticed.clear()

    # Scans

    def scan_began(self, run: ScanRun, files: ScanFiles) -> None:
        """A scan has begun: the adapter works."""
        self._troubles.over("adapter")
        self._status.ready.set()
        acquisition, live = run.acquisition, self._settings.live
        document = started_document(self._pipeline, acquisition, live.as_json())
        self._hub.document(self._pipeline, document)
        self._sessions.scan_began(files.session, acquisition.id)
        self.changed()

    def scan_finished(
        self, run: ScanRun, files: ScanFiles, document: Json, lacking: Mapping[str, int]
    ) -> None:
        """The scan's files are written, as far as the disk took them."""
        if document["status"] == "not recorded":
            self._disk.not_recorded(run.acquisition.id)
        if not files.failed:
            self._disk.well(document["started"])
        if run.acquisition.id != self._spoiled:
            self._troubles.over("error")
        self._tell_finished(run, document)
        self._tell_measured(run)
        self._completions.offer(document)
        if lacking and document["completion"] is None:
            text = f"scan {run.acquisition.id}: images stay incomplete, its record is not whole"
            self._troubles.tell("warning", text, "see the disk's error before", "completion")
        for name in self._settings.live.engines.engines:
            if name not in run.failed:
                self._troubles.over("engine", of=name)
        if document["status"] == "complete":
            self._camera_is_well()

    def _tell_finished(self, run: ScanRun, document: Json) -> None:
        event = "aborted" if run.status == "aborted" else "finished"
        told = {key: value for key, value in document.items() if key != "detector"}
        self._hub.document(self._pipeline, {"event": event, **told})
        self._sessions.scan_finished(document)
        log.info(
            "scan " + event,
            pipeline=self._pipeline,
            scan=run.acquisition.id,
            status=document["status"],
            positions=document["positions_done"],
            missing=document["missing"],
            seconds=round((run.finished_ns - run.acquisition.started_ns) / 1e9, 2),
        )

    def _tell_measured(self, run: ScanRun) -> None:
        """What the data say of the optics, and use it where that is wanted."""
        measured = run.measured or nothing_measured(run)
        newest = self._hub.view(self._pipeline).optics.get("started_ns", 0)
        # of each scan, so that nobody takes an older one's for it; what a later scan has, stays
        if measured["engine"] is not None or newest <= measured["started_ns"]:
            self._hub.optics(self._pipeline, measured)
        if measured["usable"] and run.settings.optics.measured == "use":
            self._use_measured(run.acquisition.id, measured["usable"])
        elif measured["usable"] and (names := _through_lens_told(run)):
            self._troubles.tell(
                "warning",
                f"{', '.join(names)}: made through the lens that was told, which the data "
                "contradict; do not trust what they show",
                'press "Use measured" on the page, or set optics.measured = "use"',
                "optics",
            )

    def measured_so_far(self, run: ScanRun, optics: Json) -> None:
        """What the data of a scan that goes on say of its optics; nothing is done with it yet."""
        self._hub.optics(self._pipeline, optics)

    def scan_not_finished(self, run: ScanRun, error: StemdError) -> None:
        """Something unforeseen went wrong with the images or files of a scan."""
        self._spoiled = run.acquisition.id
        self._troubles.error(error)
        self.changed()

    def engine_failed(self, engine: str, error: StemdError) -> None:
        """An engine was left out of a scan: told once, not again for every scan."""
        text = f"engine {engine}: {error.message}"
        if self._troubles.message("engine", engine) != text:
            self._troubles.error(StemdError(text, error.remedy), "engine", of=engine)
            self.changed()

    # The disk, and images that are completed

    def disk_failed(self, error: StemdError) -> None:
        """The disk does not take what it is given."""
        self._disk.failed(error)

    def completed(self) -> None:
        """Images of a past scan have been completed."""
        if self._troubles.over("completion"):
            self.changed()


def _through_lens_told(run: ScanRun) -> list[str]:
    """Images of a scan that believe the optics."""
    engines = run.settings.engines
    return [
        image
        for name, own in engines.items()
        if own.through_lens_told() and name not in run.failed
        for image in own.outputs(name)
    ]
