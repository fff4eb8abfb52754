"""The scans of a pipeline while they are made, from their first block to their last image."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Literal, Protocol

from stemd.acquisition import Acquisition
from stemd.blocks import Notice
from stemd.config.resolved import PipelineConfig, camera_table
from stemd.daemon.pipeline.finishing import LOOK_S, Finishing
from stemd.daemon.pipeline.images import PublishedImages
from stemd.daemon.pipeline.posting import Post
from stemd.daemon.pipeline.settings import SettingsInForce
from stemd.errors import StemdError
from stemd.events import Json
from stemd.logs import get_logger
from stemd.results import Snapshot
from stemd.scan.drift import Seen
from stemd.scan.measured_optics import lines_measured, measured_optics, said_by_data
from stemd.scan.run import ScanRun
from stemd.storage.scan_files import ScanFiles
from stemd.storage.store import Store

log = get_logger(__name__)


class ScanListener(Protocol):
    """Who is told, on the event loop, what becomes of scans."""

    @property
    def session(self) -> str | None:
        """The session to which a scan that begins now belongs."""
        ...

    def scan_began(self, run: ScanRun, files: ScanFiles) -> None:
        """A scan has begun."""
        ...

    def noticed(self, notice: Notice) -> None:
        """An engine has something to say."""
        ...

    def engine_failed(self, engine: str, error: StemdError) -> None:
        """An engine was left out of a scan."""
        ...

    def scan_not_finished(self, run: ScanRun, error: StemdError) -> None:
        """Something unforeseen went wrong with the images of a scan."""
        ...

    def measured_so_far(self, run: ScanRun, optics: Json) -> None:
        """What the data of a scan that goes on say of its optics."""
        ...

    def disk_failed(self, error: StemdError) -> None:
        """The disk does not take what it is given."""
        ...

    def changed(self) -> None:
        """What the pipeline's state follows from has changed."""
        ...


class Scans:
    """Makes scans: one thread a scan runs its engines and ends with it.

    The reader's thread calls `begin` and `finish`; what they change is changed by a message to
    the event loop, on which everything else is called.
    """

    def __init__(
        self,
        config: PipelineConfig,
        store: Store,
        settings: SettingsInForce,
        images: PublishedImages,
        finishing: Finishing,
        listener: ScanListener,
        post: Post,
        left_out: Mapping[str, StemdError] = MappingProxyType({}),
    ) -> None:
        self.current: ScanRun | None = None
        self.files: ScanFiles | None = None
        """Of the running scan."""
        self.newest: ScanRun | None = None
        """The running scan, or the last one."""
        self.unfinished: set[ScanRun] = set()
        """Those of which engines still make images."""
        self.positions = 0
        """Of scans that have ended."""
        self.last_received_ns = 0
        self._config, self._store, self._settings = config, store, settings
        self._images, self._finishing, self._listener = images, finishing, listener
        self._post, self._left_out = post, left_out
        self._closing = threading.Event()
        self._served_by: dict[ScanRun, tuple[ScanFiles, threading.Thread]] = {}
        self._silent: set[ScanRun] = set()
        self._before: Seen | None = None
        """What is kept of the scan before, to measure drift."""

    @property
    def detector_shape(self) -> tuple[int, int] | None:
        """Height and width of the newest scan's patterns; None before the first scan."""
        return None if self.newest is None else self.newest.acquisition.detector.shape

    # The reader's thread

    def begin(self, acquisition: Acquisition) -> tuple[ScanRun, ScanFiles]:
        """A scan begins; waits while too many are unfinished."""
        self._post(self._abandon_older)
        self._finishing.take_place(self._closing)
        try:
            return self._begin(acquisition)
        except BaseException:
            self._finishing.give_place()
            raise

    def _begin(self, acquisition: Acquisition) -> tuple[ScanRun, ScanFiles]:
        live, post, listener = self._settings.live, self._post, self._listener
        left_out = dict(self._left_out)
        files = ScanFiles(
            acquisition,
            self._store,
            self._config.name,
            partial(post, listener.disk_failed),
            listener.session,
            camera_table(self._config.adapter_plugin.name, self._config.adapter),
            {engine.name: engine.plugin.name for engine in self._config.engines},
        )
        run = ScanRun(
            acquisition,
            live.engines,
            [each for each in self._config.engines if each.name not in left_out],
            report=partial(post, listener.engine_failed),
            live=True,
            notice=partial(post, listener.noticed),
            recorded=lambda: files.recording,
            read=self._settings.masks.kept,
        )
        for engine, error in left_out.items():
            run.engines.leave_out(engine, error)
        files.open(live.as_json(), live.engines.optics)
        post(self._began, run, files)
        self._served_by[run] = files, self._new_thread(self._serve, run, files)
        return run, files

    def _new_thread(
        self, work: Callable[[ScanRun, ScanFiles], None], run: ScanRun, files: ScanFiles
    ) -> threading.Thread:
        name = f"engines-{self._config.name}"
        thread = threading.Thread(target=work, args=(run, files), name=name, daemon=True)
        thread.start()
        return thread

    def finish(self, run: ScanRun) -> None:
        """The scan has ended; its engines' thread makes the final images."""
        self._post(self._ended, run)

    # A scan's own thread

    def _serve(self, run: ScanRun, files: ScanFiles) -> None:
        try:
            final = run.serve(
                _MeasuredSoFar(run, self._images.offer, self._post, self._listener),
                lambda: self._settings.live.publish.rate_hz,
                partial(self._post, self._images.publish_final),
            )
        except BaseException as error:  # whatever it is: nobody else would hear of it
            log.exception("the engines' thread failed", pipeline=self._config.name)
            self._post(self._listener.scan_not_finished, run, _unforeseen(run, error))
            self._serve_without_engines(run, files)
        else:
            self._measure(run)
            self._post(self._served, run, files, final)

    def _measure(self, run: ScanRun) -> None:
        """What the data say of the optics; a scan is finished without it too."""
        try:
            run.measured = measured_optics(run, self._before)
            for said in said_by_data(run.measured, run.settings.optics):
                run.tell(said)
        except Exception:
            log.exception("the optics of a scan could not be measured", scan=run.acquisition.id)
        self._before = Seen.of(run)

    def _serve_without_engines(self, run: ScanRun, files: ScanFiles) -> None:
        while not run.ended.wait(LOOK_S):
            run.images.beat()
        self._post(self._served, run, files, self._images_left(run))

    @staticmethod
    def _images_left(run: ScanRun) -> Snapshot:
        """What can still be had of the images; the record and scan.json are written anyway."""
        try:
            return run.snapshot(final=True)
        except Exception:
            log.exception("a scan ends without images", scan=run.acquisition.id)
            return run.images.nothing(run.settings)

    # The event loop

    @property
    def activity(self) -> Literal["acquiring", "finishing"] | None:
        """What is going on."""
        if self.current is not None:
            return "acquiring"
        return "finishing" if self.unfinished or self._finishing.being_written else None

    @property
    def not_kept(self) -> bool:
        """Whether the disk has refused something of the running scan."""
        return self.files is not None and self.files.failed

    def note_change(self, entry: Json) -> None:
        """Settings have changed: note it in the running scan's history."""
        if self.current is not None:
            done = self.current.positions_done
            self.current.history.append(entry | {"positions_done": done})

    def revive(self) -> list[ScanRun]:
        """Scans whose engines' thread has died: another one waits for their end."""
        dead = {
            run
            for run, (_, thread) in list(self._served_by.items())
            if run in self.unfinished and not thread.is_alive()
        }
        # a thread that has just ended as it should: its last message is on its way
        gone, self._silent = dead & self._silent, dead - self._silent
        for run in gone:
            files, _ = self._served_by[run]
            thread = self._new_thread(self._serve_without_engines, run, files)
            self._served_by[run] = files, thread
        return list(gone)

    def close(self) -> None:
        """The reader is to end: it must not wait for a place any more."""
        self._closing.set()

    def abandon_all(self, why: str) -> None:
        """Slow engines leave unfinished work undone."""
        for run in self.unfinished:
            run.engines.abandon(why)

    def _abandon_older(self) -> None:
        """Of scans that were made before the last one: a camera waits to begin the next."""
        for run in sorted(self.unfinished, key=lambda run: run.acquisition.started_ns)[:-1]:
            run.engines.abandon("later scans were waiting")

    def _began(self, run: ScanRun, files: ScanFiles) -> None:
        self.current = self.newest = run
        self.unfinished.add(run)
        self.files = files
        self._images.scan_began()
        self._listener.scan_began(run, files)

    def _ended(self, run: ScanRun) -> None:
        self.last_received_ns = run.intake.received_ns
        # here, not when its files are written: the count must not fall back meanwhile
        self.positions += run.positions_done
        if self.current is run:
            self.current = self.files = None
            self._images.scan_ended()

    def _served(self, run: ScanRun, files: ScanFiles, final: Snapshot) -> None:
        self.unfinished.discard(run)
        self._served_by.pop(run, None)
        self._finishing.begin(run, files, final)
        self._listener.changed()


class _MeasuredSoFar:
    """Passes a scan's images on, and with them what is measured of it before it is over."""

    def __init__(
        self,
        run: ScanRun,
        publish: Callable[[Snapshot], None],
        post: Post,
        listener: ScanListener,
    ) -> None:
        self._run, self._publish, self._post, self._listener = run, publish, post, listener
        self._lines = 0

    def __call__(self, snapshot: Snapshot) -> None:
        self._publish(snapshot)
        lines = lines_measured(self._run)
        if lines > self._lines:
            self._lines = lines
            try:
                optics = measured_optics(self._run)
            except Exception:
                log.exception("the optics could not be measured", scan=self._run.acquisition.id)
                return
            if optics is not None:
                self._post(self._listener.measured_so_far, self._run, optics)


def _unforeseen(run: ScanRun, error: BaseException) -> StemdError:
    text = f"scan {run.acquisition.id}: {type(error).__name__}: {error}"
    return StemdError(text, "see the daemon's log")
