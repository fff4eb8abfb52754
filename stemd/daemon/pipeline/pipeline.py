"""One pipeline on the event loop: its reader, its scans, its state and settings."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import structlog

from stemd.acquisition import Acquisition, iso_utc
from stemd.blocks import Link, Notice
from stemd.config.live import LiveSettings, RefusedError
from stemd.config.resolved import PipelineConfig
from stemd.config.session_plan import SessionPlan
from stemd.daemon.completer import Completer
from stemd.daemon.heartbeats import stalled
from stemd.daemon.pipeline.commands import Commands
from stemd.daemon.pipeline.finished import FinishedScan, marked, to_complete
from stemd.daemon.pipeline.reader import Reader
from stemd.daemon.pipeline.report import ages_s, health_document, started_document, state_document
from stemd.daemon.pipeline.troubles import Troubles
from stemd.daemon.sessions.sessions import Sessions
from stemd.errors import StemdError
from stemd.events import Hub, Json
from stemd.results import Snapshot
from stemd.scan.run import ScanRun
from stemd.settings import Settings
from stemd.storage.files import FileRecord
from stemd.storage.scan_files import ScanFiles
from stemd.storage.store import Store

State = Literal["stopped", "waiting", "acquiring", "finishing", "fault"]

MAX_FINISHING = 3
"""Scans that may be written at the same time; beyond that the camera waits."""
STATE_PERIOD_S = 0.5
FAULT_AFTER = 4
"""An adapter that has failed so often in a row is out of order: `fault`, until it works again."""
JOIN_S, WRITE_S = 1.0, 30.0

log = structlog.get_logger(__name__)


class Pipeline:
    """Adapter, engines and sinks of one camera.

    Public methods are called on the event loop. The reader's thread calls `begin`, `finish`,
    `noticed`, `linked`, `failed`, `exhausted`, `settings_now`; each scan's engines run in a
    thread of their own that ends with the scan.
    """

    def __init__(
        self, config: PipelineConfig, hub: Hub, store: Store, completer: Completer
    ) -> None:
        self.config = config
        self.name = config.name
        self.live = LiveSettings.of(config)
        self.reader = Reader(
            config.name, partial(config.adapter_plugin.build, config.adapter), self
        )
        self.troubles = Troubles(config.name, hub)
        self.sessions = Sessions(config.name, self, store, partial(hub.document, config.name))
        self.state: State = "stopped"
        self.ready = asyncio.Event()
        self.current: ScanRun | None = None
        self.last_run: ScanRun | None = None
        self.files: ScanFiles | None = None
        self.serving: set[ScanRun] = set()
        self.last: FinishedScan | None = None
        self.newest: Snapshot | None = None
        self.linked_now = False
        self.scans_finished = 0
        self.scans_not_complete = 0
        self.positions = 0
        self.snapshots_replaced = 0
        self.last_received_ns = 0
        self.commanding = asyncio.Lock()
        """Held by whoever changes what is kept of finished scans."""
        self.completer = completer
        self._hub = hub
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._commands = Commands(self)
        self._finishing = threading.Semaphore(MAX_FINISHING)
        self._in_finish: set[asyncio.Task[None]] = set()
        self._quiet = asyncio.Event()
        self._exhausted = False
        self._waiting: Snapshot | None = None
        self._waiting_lock = threading.Lock()
        self._stalled: set[str] = set()
        self._awaited: dict[str, asyncio.Future[Snapshot]] = {}
        self._engine_errors: dict[str, str] = {}
        self._tasks: list[asyncio.Task[None]] = []

    # The event loop's side

    def start(self, plans: Sequence[SessionPlan] = ()) -> None:
        """Begin to read the camera, and go on with sessions."""
        self._set_state("waiting")
        self._hub.settings(self.name, self.live.as_json())
        self.reader.start()
        self._tasks = [
            asyncio.create_task(self._tick(), name=f"state-{self.name}"),
            asyncio.create_task(self.sessions.resume(plans), name=f"sessions-{self.name}"),
        ]

    async def stop(self) -> None:
        """End the running scan, write what there is, end the threads."""
        await self.sessions.suspend()
        self.reader.close()
        if not await asyncio.to_thread(self.reader.join, JOIN_S):
            log.error("the reader does not end and is left behind", pipeline=self.name)
        await asyncio.sleep(0)  # what the reader's thread posted last
        for run in list(self.serving):
            run.abandon("stemd was stopped")
        self.settle()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._quiet.wait(), WRITE_S)
        for task in self._tasks:
            task.cancel()
        self._set_state("stopped")

    def change(self, request: Mapping[str, Any]) -> LiveSettings:
        """Change live settings as a whole. Raises RefusedError."""
        live = self.live.changed(request)
        changes = {key: value for key, value in request.items() if key != "id"}
        self._put_in_force(live, changes)
        return live

    def reset(self) -> None:
        """The config's settings, no error, and another try for an adapter that has failed."""
        live = LiveSettings.of(self.config).renumbered(self.live.revision + 1)
        self._put_in_force(live, {"reset": True})
        self.troubles.over()
        self.troubles.fault = False
        self.reader.retry()
        self.settle()

    def _put_in_force(self, live: LiveSettings, changes: Mapping[str, Any]) -> None:
        scan = live.engines.scan
        if scan is not None and scan != self.live.engines.scan:
            self.reader.adapter.set_scan(scan)
        run = self.current
        if run is not None:
            now = time.time_ns()
            run.history.append(
                {
                    "revision": live.revision,
                    "time": iso_utc(now),
                    "time_ns": now,
                    "positions_done": run.positions_done,
                    "changes": dict(changes),
                }
            )
        self.live = live
        self._hub.settings(self.name, live.as_json())

    async def command(self, name: str, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """Carry a command out. Raises StemdError."""
        async with self.commanding:
            result = await self._commands.carry_out(name, args)
        self.settle()
        return result

    def over(self, scan_id: str) -> asyncio.Future[Snapshot]:
        """The finished images of a scan that will begin, when they are there."""
        future: asyncio.Future[Snapshot] = self._loop.create_future()
        self._awaited[scan_id] = future
        future.add_done_callback(lambda _: self._awaited.pop(scan_id, None))
        return future

    async def camera(self, name: str, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """A camera command through the adapter. Raises StemdError."""
        return await asyncio.to_thread(self.reader.adapter.command, name, args)

    def disk_is_well(self) -> None:
        """What was wrong with the disk is over."""
        if self.troubles.over("disk"):
            self.settle()

    def document(self) -> Json:
        """The state document of A3."""
        return state_document(self)

    def health(self) -> Json:
        """This pipeline's part of the health document."""
        return health_document(self)

    @property
    def scans_being_written(self) -> int:
        """Scans whose files are not all written yet."""
        return len(self._in_finish)

    @property
    def stalled(self) -> list[str]:
        """Threads that do not get on."""
        return stalled(ages_s(self))

    @property
    def dead(self) -> bool:
        """Whether the reader's thread has gone though the camera has not."""
        return not self.reader.alive and not self._exhausted and self.state != "stopped"

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(STATE_PERIOD_S)
            if self.state == "acquiring":
                self._hub.state(self.name, self.document())
            now = set(self.stalled)
            if self._stalled and not now and self.troubles.over("stalled"):
                self.settle()
            for thread in sorted(now - self._stalled):
                self.troubles.tell(
                    "error",
                    f"the {thread} thread of {self.name} does not get on",
                    "a disk or network drive may hang; under systemd the watchdog restarts stemd",
                    "stalled",
                )
                self.settle()
            self._stalled = now

    def _set_state(self, state: State) -> None:
        self.state = state
        self._hub.state(self.name, self.document())

    def settle(self) -> None:
        """Publish the state that follows from what is going on."""
        if self.serving or self._in_finish:
            self._quiet.clear()
        else:
            self._quiet.set()
        if self.state == "stopped":
            return
        if self.current is not None:
            self._set_state("acquiring")
        elif self.serving or self._in_finish:
            self._set_state("finishing")
        elif self.troubles.fault:
            self._set_state("fault")
        elif self._exhausted:
            self._set_state("stopped")
        else:
            self._set_state("waiting")

    def _deliver(self) -> None:
        with self._waiting_lock:
            snapshot, self._waiting = self._waiting, None
        if snapshot is not None:
            self.newest = snapshot
            self._hub.snapshot(self.name, self._chosen(snapshot))

    def publish_final(self, snapshot: Snapshot) -> None:
        """Publish finished images."""
        if self.current is None:
            self.newest = snapshot
        self._hub.snapshot(self.name, self._chosen(snapshot))

    def _chosen(self, snapshot: Snapshot) -> Snapshot:
        wanted = self.live.publish.images
        if wanted is None:
            return snapshot
        return replace(snapshot, results=[r for r in snapshot.results if r.name in wanted])

    def _began(self, run: ScanRun, files: ScanFiles) -> None:
        self.current = self.last_run = run
        self.serving.add(run)
        self.files, self.newest = files, None
        self.troubles.fault = False
        self.ready.set()
        acquisition = run.acquisition
        self._hub.document(self.name, started_document(self.name, acquisition, self.live.as_json()))
        self.sessions.scan_began(files.session, acquisition.id)
        self.settle()

    def _ended(self, run: ScanRun) -> None:
        self.last_received_ns = run.intake.received_ns
        # here, not when its files are written: the count must not fall back meanwhile
        self.positions += run.positions_done
        if self.current is run:
            self.current = self.files = None

    def _served(self, run: ScanRun, files: ScanFiles, final: Snapshot) -> None:
        self.serving.discard(run)
        self._in_finish.add(asyncio.create_task(self._finish(run, files, final)))
        self.settle()

    async def _finish(self, run: ScanRun, files: ScanFiles, final: Snapshot) -> None:
        try:
            lacking, names = to_complete(run, files)
            final = marked(final, names)
            late = [result for result in final.results if result.name not in run.images.early]
            if late or not run.images.early:
                self.publish_final(replace(final, results=late))
            if self.current is None:
                self.newest = final
            awaited = self._awaited.get(run.acquisition.id)
            if awaited is not None and not awaited.done():
                awaited.set_result(final)
            settings = self.live.as_json()
            document = await asyncio.to_thread(files.close, run, final, settings, lacking=lacking)
            self.last = FinishedScan(
                run, files, final, names if document["completion"] else frozenset()
            )
            if not files.failed:
                self.troubles.over("disk")
            self._tell_finished(run, document)
            self.completer.offer(document)
            if lacking and document["completion"] is None:
                text = f"scan {run.acquisition.id}: images stay incomplete, its record is not whole"
                self.troubles.tell("warning", text, "see the disk's error before", "completion")
            self._engines_well(run)
        except Exception as error:
            log.exception("a scan could not be finished", scan=run.acquisition.id)
            text = f"scan {run.acquisition.id}: {type(error).__name__}: {error}"
            self.troubles.error(StemdError(text, "see the daemon's log"))
        finally:
            self._finishing.release()
            task = asyncio.current_task()
            if task is not None:
                self._in_finish.discard(task)
            self.settle()

    def completed(self, snapshot: Snapshot, files: Sequence[FileRecord], completion: Json) -> None:
        """Images of a past scan have been made again from its record, and written."""
        if self.last is not None and self.last.id == snapshot.acquisition.id:
            self.last.completed(snapshot, files, completion)
        self._hub.completed(self.name, self._chosen(snapshot))
        if self.troubles.over("completion"):
            self.settle()

    def not_completed(self, scan_id: str, completion: Json) -> None:
        """Images of a past scan stay as they were when it ended."""
        if self.last is not None and self.last.id == scan_id:
            self.last.not_completed(completion)

    def _tell_finished(self, run: ScanRun, document: Json) -> None:
        self.scans_finished += 1
        self.scans_not_complete += document["status"] != "complete"
        event = "aborted" if document["status"] == "aborted" else "finished"
        told = {key: value for key, value in document.items() if key != "detector"}
        self._hub.document(self.name, {"event": event, **told})
        self.sessions.scan_finished(document)
        log.info(
            "scan " + event,
            pipeline=self.name,
            scan=run.acquisition.id,
            status=document["status"],
            positions=document["positions_done"],
            missing=document["missing"],
            seconds=round((run.finished_ns - run.acquisition.started_ns) / 1e9, 2),
        )

    def engine_failed(self, engine: str, error: StemdError) -> None:
        """An engine was left out of a scan: told once, not again for every scan."""
        if self._engine_errors.get(engine) != error.message:
            self._engine_errors[engine] = error.message
            self.troubles.error(
                StemdError(f"engine {engine}: {error.message}", error.remedy), "engine"
            )
            self.settle()

    def _engines_well(self, run: ScanRun) -> None:
        """What was wrong with engines that have worked in this scan is over."""
        for engine in set(self._engine_errors) - set(run.failed):
            del self._engine_errors[engine]
            if not self._engine_errors:
                self.troubles.over("engine")

    def disk_failed(self, error: StemdError) -> None:
        """The disk does not take what it is given."""
        self.troubles.error(error, "disk")
        self.settle()

    # The threads' side

    def begin(self, acquisition: Acquisition) -> tuple[ScanRun, ScanFiles]:
        """A scan begins (reader's thread)."""
        # what is waited for in the end must not be what the camera waits for in the beginning
        for run in sorted(self.serving, key=lambda run: run.acquisition.started_ns)[:-1]:
            run.abandon("later scans were waiting")
        while not self._finishing.acquire(timeout=0.2):
            if self.reader.stop.is_set():
                break
        try:
            return self._begin(acquisition)
        except BaseException:
            self._finishing.release()
            raise

    def _begin(self, acquisition: Acquisition) -> tuple[ScanRun, ScanFiles]:
        live = self.live
        run = ScanRun(
            acquisition,
            live.engines,
            self.config.engines,
            report=partial(self._post, self.engine_failed),
            live=True,
            notice=self.noticed,
        )
        files = ScanFiles(
            acquisition,
            self._store,
            self.name,
            partial(self._post, self.disk_failed),
            self.sessions.current,
        )
        files.open(record_raw=live.record.raw)
        self._post(self._began, run, files)
        threading.Thread(
            target=self._serve, args=(run, files), name=f"engines-{self.name}", daemon=True
        ).start()
        return run, files

    def _serve(self, run: ScanRun, files: ScanFiles) -> None:
        try:
            final = run.serve(
                self._publish,
                lambda: self.live.publish.rate_hz,
                partial(self._post, self.publish_final),
            )
        except Exception:
            log.exception("the engines' thread failed", pipeline=self.name)
            run.ended.wait()
            final = run.snapshot(final=True)
        self._post(self._served, run, files, final)

    def _publish(self, snapshot: Snapshot) -> None:
        with self._waiting_lock:
            waiting = self._waiting is not None
            self._waiting = snapshot
        if waiting:
            self.snapshots_replaced += 1
        else:
            self._post(self._deliver)

    def _post(self, call: Any, *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            log.debug("the event loop has ended", pipeline=self.name)

    def finish(self, run: ScanRun, files: ScanFiles) -> None:
        """The scan has ended (reader's thread); its engines' thread makes the final images."""
        self._post(self._ended, run)

    def noticed(self, notice: Notice) -> None:
        """Count and tell (reader's thread)."""
        self._post(self.troubles.tell, notice.level, notice.text, notice.remedy, notice.kind)

    def linked(self, link: Link) -> None:
        """The camera came or went (reader's thread)."""
        self._post(self._link, link)

    def _link(self, link: Link) -> None:
        self.linked_now = link.connected
        if link.connected:
            self.troubles.over("camera", "adapter")
            self.troubles.fault = False
            log.info("camera connected", pipeline=self.name, camera=link.text)
        else:
            self.troubles.tell("error", link.text, link.remedy, "camera")
        self.ready.set()
        self.settle()

    def exhausted(self) -> None:
        """The source has ended for good (reader's thread)."""
        self._post(self._exhaust)

    def _exhaust(self) -> None:
        self._exhausted = True
        self.ready.set()
        self.settle()

    def failed(self, error: Exception, pause_s: float) -> None:
        """The adapter failed (reader's thread)."""
        if not isinstance(error, StemdError):
            error = StemdError(f"{type(error).__name__}: {error}", "see the log")
        self._post(self._failed, error, self.reader.failures, pause_s)

    def _failed(self, error: StemdError, failures: int, pause_s: float) -> None:
        self.linked_now = False
        remedy = f"{error.remedy}; " if error.remedy else ""
        remedy += f"it is tried again in {pause_s:.0f} s" if pause_s >= 1 else "it is tried again"
        if failures >= FAULT_AFTER:
            self.troubles.fault = True
            remedy += f" (it failed {failures} times in a row; the command reset tries it at once)"
        self.ready.set()
        self.troubles.error(StemdError(error.message, remedy), "adapter")
        self.settle()

    def settings_now(self) -> Settings:
        """The live settings in force (reader's thread)."""
        return self.live.engines


__all__ = ["Pipeline", "RefusedError"]
