"""One pipeline on the event loop: its reader, its scans, its state and settings."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import structlog

from stemd.acquisition import Acquisition, iso_utc
from stemd.blocks import Link, Notice
from stemd.daemon.catalogue import Catalogue
from stemd.daemon.config import PipelineConfig
from stemd.daemon.hub import Hub, Json
from stemd.daemon.keeper import ScanKeeper
from stemd.daemon.live_settings import LiveSettings, RefusedError
from stemd.daemon.reader import Reader
from stemd.daemon.scan_run import ScanRun
from stemd.errors import StemdError
from stemd.results import Snapshot
from stemd.settings import Settings

State = Literal["stopped", "waiting", "acquiring", "finishing", "fault"]

MAX_FINISHING = 3
"""Scans that may be written at the same time; beyond that the camera waits."""
STATE_PERIOD_S = 0.5

log = structlog.get_logger(__name__)


class Pipeline:
    """Adapter, engines and sinks of one camera.

    Public methods are called on the event loop. The reader's thread calls `begin`, `finish`,
    `noticed`, `linked`, `failed`, `settings_now`; each scan's engines run in a thread of their
    own that ends with the scan.
    """

    def __init__(
        self,
        config: PipelineConfig,
        hub: Hub,
        data_dir: Path,
        instrument: str,
        catalogue: Catalogue | None,
    ) -> None:
        self.config = config
        self.name = config.name
        self.live = LiveSettings.of(config)
        self.reader = Reader(
            config.name, partial(config.adapter_plugin.build, config.adapter), self
        )
        self.state: State = "stopped"
        self.ready = asyncio.Event()
        self.scans_finished = 0
        self.positions = 0
        self.snapshots_replaced = 0
        self._hub = hub
        self._data_dir = data_dir
        self._instrument = instrument
        self._catalogue = catalogue
        self._loop = asyncio.get_running_loop()
        self._current: ScanRun | None = None
        self._last_run: ScanRun | None = None
        self._last_received_ns = 0
        self._keeper: ScanKeeper | None = None
        self._finishing = threading.Semaphore(MAX_FINISHING)
        self._in_finish: set[asyncio.Task[None]] = set()
        self._linked = False
        self._fault = False
        self._last_error: Json | None = None
        self._newest: Snapshot | None = None
        self._newest_lock = threading.Lock()
        self._rate = (time.monotonic(), 0, 0.0)
        self._ticker: asyncio.Task[None] | None = None

    # The event loop's side

    def start(self) -> None:
        """Begin to read the camera."""
        self._set_state("waiting")
        self._hub.settings(self.name, self.live.as_json())
        self.reader.start()
        self._ticker = asyncio.create_task(self._tick(), name=f"state-{self.name}")

    async def stop(self) -> None:
        """End the running scan, write what there is, end the threads."""
        self.reader.close()
        await asyncio.to_thread(self.reader.join, 5.0)
        deadline = time.monotonic() + 30.0
        while self._in_finish and time.monotonic() < deadline:
            await asyncio.wait(set(self._in_finish), timeout=0.5)
        if self._ticker is not None:
            self._ticker.cancel()
        self._set_state("stopped")

    def change(self, request: Mapping[str, Any]) -> LiveSettings:
        """Change live settings as a whole. Raises RefusedError."""
        live = self.live.changed(request)
        if live.engines.scan is not None and live.engines.scan != self.live.engines.scan:
            self.reader.adapter.set_scan(live.engines.scan)
        self._put_in_force(live, request)
        return live

    def _put_in_force(self, live: LiveSettings, request: Mapping[str, Any]) -> None:
        run = self._current
        if run is not None:
            now = time.time_ns()
            run.history.append(
                {
                    "revision": live.revision,
                    "time": iso_utc(now),
                    "time_ns": now,
                    "positions_done": run.positions_done,
                    "changes": {k: v for k, v in request.items() if k != "id"},
                }
            )
        self.live = live
        self._hub.settings(self.name, live.as_json())

    async def command(self, name: str, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """Carry a command out. Raises StemdError."""
        if name == "record":
            raw = args.get("raw", args.get("on", True))
            self._put_in_force(self.live.with_record(raw=bool(raw)), {"record": {"raw": raw}})
            return {"revision": self.live.revision}
        if name in ("start", "stop", "abort"):
            return await asyncio.to_thread(self.reader.adapter.command, name, args)
        raise StemdError(f"unknown command {name!r}", "one of: start, stop, abort, record")

    def document(self) -> Json:
        """The state document of A3."""
        run = self._current or self._last_run
        scan: Json = {"scan": None, "positions_done": 0, "positions_total": 0, "missing": 0}
        if run is not None:
            total = run.acquisition.scan.positions
            done = run.positions_done
            newest = int(run.maps.done.nonzero()[0][-1]) + 1 if done and run is self._current else 0
            missing = total - done if run is not self._current else max(0, newest - done)
            scan = {
                "scan": run.acquisition.id,
                "shape": list(run.acquisition.scan.shape),
                "positions_done": done,
                "positions_total": total,
                "missing": missing,
                "frames": run.frames,
                "bytes": run.bytes,
                "counters": dict(run.counters),
            }
        now = time.time_ns()
        return {
            "state": self.state,
            **scan,
            "positions_per_second": round(self._positions_per_second(), 1),
            "recording": bool(self._current and self.live.record.raw),
            "camera_connected": self._linked,
            "scans_finished": self.scans_finished,
            "last_error": self._last_error,
            "time": iso_utc(now),
            "time_ns": now,
        }

    def health(self) -> Json:
        """This pipeline's part of the health document."""
        run = self._current
        keeper = self._keeper
        recorder = keeper.recorder if keeper is not None else None
        newest = run.received_ns if run is not None else self._last_received_ns
        return {
            "state": self.state,
            "positions_per_second": round(self._positions_per_second(), 1),
            "positions": self.positions + (run.positions_done if run is not None else 0),
            "scans_finished": self.scans_finished,
            "pool_free": self.reader.pool.free,
            "pool_blocks": self.reader.pool.buffers,
            "record_queue": recorder.queue_depth if recorder is not None else 0,
            "snapshots_replaced": self.snapshots_replaced,
            "last_frame_age_s": round((time.time_ns() - newest) / 1e9, 3) if newest else None,
            "counts": dict(self.reader.counts),
        }

    def _positions_per_second(self) -> float:
        run = self._current
        if run is None:
            return 0.0
        seconds = (time.time_ns() - run.acquisition.started_ns) / 1e9
        return run.positions_done / max(seconds, 0.05)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(STATE_PERIOD_S)
            if self.state == "acquiring":
                self._hub.state(self.name, self.document())

    def _set_state(self, state: State) -> None:
        self.state = state
        self._hub.state(self.name, self.document())

    def _settle(self) -> None:
        """The state that follows from what is going on."""
        if self._current is not None:
            self._set_state("acquiring")
        elif self._in_finish:
            self._set_state("finishing")
        elif self._fault:
            self._set_state("fault")
        else:
            self._set_state("waiting")

    def _deliver(self) -> None:
        with self._newest_lock:
            snapshot, self._newest = self._newest, None
        if snapshot is not None:
            self._hub.snapshot(self.name, self._chosen(snapshot))

    def _chosen(self, snapshot: Snapshot) -> Snapshot:
        wanted = self.live.publish.images
        if wanted is None:
            return snapshot
        results = [result for result in snapshot.results if result.name in wanted]
        return Snapshot(
            snapshot.acquisition,
            results,
            snapshot.positions_done,
            snapshot.positions_total,
            snapshot.final,
            snapshot.sequence,
            snapshot.time_ns,
            snapshot.settings_revision,
        )

    def _began(self, run: ScanRun, keeper: ScanKeeper) -> None:
        self._current = self._last_run = run
        self._keeper = keeper
        self._fault = False
        self.ready.set()
        acquisition = run.acquisition
        self._hub.document(
            self.name,
            {
                "event": "started",
                "id": acquisition.id,
                "pipeline": self.name,
                "started": iso_utc(acquisition.started_ns),
                "started_ns": acquisition.started_ns,
                "shape": list(acquisition.scan.shape),
                "scan": acquisition.scan.model_dump(mode="json"),
                "detector": {
                    "name": acquisition.detector.name,
                    "shape": list(acquisition.detector.shape),
                    "bit_depth": acquisition.detector.bit_depth,
                },
                "settings": self.live.as_json(),
            },
        )
        self._settle()

    def _ended(self, run: ScanRun) -> None:
        self._last_received_ns = run.received_ns
        if self._current is run:
            self._current = self._keeper = None

    async def _finish(self, run: ScanRun, keeper: ScanKeeper, final: Snapshot) -> None:
        try:
            self._hub.snapshot(self.name, self._chosen(final))
            document = await asyncio.to_thread(
                keeper.close,
                run,
                final,
                self.live.as_json(),
                tiff="tiff" in self.live.record.results,
            )
            self.scans_finished += 1
            self.positions += run.positions_done
            event = "aborted" if document["status"] == "aborted" else "finished"
            document = {key: value for key, value in document.items() if key != "detector"}
            self._hub.document(self.name, {"event": event, **document})
            log.info(
                "scan " + event,
                pipeline=self.name,
                scan=run.acquisition.id,
                status=document["status"],
                positions=document["positions_done"],
                missing=document["missing"],
                seconds=round((run.finished_ns - run.acquisition.started_ns) / 1e9, 2),
            )
        finally:
            self._finishing.release()
            task = asyncio.current_task()
            if task is not None:
                self._in_finish.discard(task)
            self._settle()

    def _tell(self, level: str, text: str, remedy: str, kind: str) -> None:
        now = time.time_ns()
        entry = {
            "level": level,
            "kind": kind,
            "message": text,
            "remedy": remedy,
            "time": iso_utc(now),
            "time_ns": now,
        }
        if level == "error":
            self._last_error = {"message": text, "remedy": remedy, "time": entry["time"]}
        if level != "info":
            self._hub.log(self.name, entry)
        getattr(log, level)(text, pipeline=self.name, **({"remedy": remedy} if remedy else {}))

    def _error(self, error: StemdError) -> None:
        self._tell("error", error.message, error.remedy, "error")
        self._settle()

    # The threads' side

    def begin(self, acquisition: Acquisition) -> tuple[ScanRun, ScanKeeper]:
        """A scan begins (reader's thread)."""
        while not self._finishing.acquire(timeout=0.2):
            if self.reader.stop.is_set():
                break
        live = self.live
        run = ScanRun(acquisition, live.engines, self.config.engines)
        keeper = ScanKeeper(
            acquisition,
            self._data_dir,
            self.name,
            self._instrument,
            self._catalogue,
            lambda error: self._post(self._error, error),
        )
        keeper.open(record_raw=live.record.raw)
        self._post(self._began, run, keeper)
        threading.Thread(
            target=self._serve, args=(run, keeper), name=f"engines-{self.name}", daemon=True
        ).start()
        return run, keeper

    def _serve(self, run: ScanRun, keeper: ScanKeeper) -> None:
        final = run.serve(self._publish, lambda: self.live.publish.rate_hz)

        def finish() -> None:
            task = asyncio.ensure_future(self._finish(run, keeper, final))
            self._in_finish.add(task)
            self._settle()

        self._post(finish)

    def _publish(self, snapshot: Snapshot) -> None:
        with self._newest_lock:
            waiting = self._newest is not None
            self._newest = snapshot
        if waiting:
            self.snapshots_replaced += 1
        else:
            self._post(self._deliver)

    def _post(self, call: Any, *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            log.debug("the event loop has ended", pipeline=self.name)

    def finish(self, run: ScanRun, keeper: ScanKeeper) -> None:
        """The scan has ended (reader's thread); its engines' thread makes the final images."""
        self._post(self._ended, run)

    def noticed(self, notice: Notice) -> None:
        """Count and tell (reader's thread)."""
        self._post(self._tell, notice.level, notice.text, notice.remedy, notice.kind)

    def linked(self, link: Link) -> None:
        """The camera came or went (reader's thread)."""
        self._post(self._link, link)

    def _link(self, link: Link) -> None:
        self._linked = link.connected
        if link.connected:
            self._last_error, self._fault = None, False
            log.info("camera connected", pipeline=self.name, camera=link.text)
        else:
            self._tell("error", link.text, link.remedy, "camera")
        self.ready.set()
        self._settle()

    def failed(self, error: Exception, pause_s: float) -> None:
        """The adapter failed (reader's thread)."""
        if not isinstance(error, StemdError):
            error = StemdError(f"{type(error).__name__}: {error}", "see the log; it is tried again")
        self._post(self._failed, error, pause_s)

    def _failed(self, error: StemdError, pause_s: float) -> None:
        self._linked, self._fault = False, True
        self.ready.set()
        self._error(error)

    def settings_now(self) -> Settings:
        """The live settings in force (reader's thread)."""
        return self.live.engines


__all__ = ["Pipeline", "RefusedError"]
