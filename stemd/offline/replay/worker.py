"""The replay's process: a record through the pipeline's engines at a chosen pace.

The main thread reads and reduces, a thread serves the engines as in a live scan, one writes and
one listens. Settings are live: what is asked for while the scan grows holds from the next block
on, and what is asked for afterwards makes the finished images anew.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from typing import IO, Any

import structlog

from stemd.acquisition import Scan
from stemd.adapters.base import Recording
from stemd.adapters.files import open_recording
from stemd.config.live import LiveSettings, RefusedError
from stemd.documents import refused
from stemd.errors import StemdError
from stemd.offline.replay.outbox import Outbox
from stemd.offline.replay.pace import FASTEST_BYTES_PER_S, Pace
from stemd.offline.replay.parts import parts, steps_of
from stemd.offline.replay.wire import Order
from stemd.results import Snapshot
from stemd.scan.rotation import rotation_of
from stemd.scan.run import ScanRun

Json = dict[str, Any]

PARTS_PER_S = 20.0
"""How often a part of the record is read."""
IDLE_S = 900.0
"""A finished replay of which nothing is asked for so long ends: its maps are memory."""
NOT_HERE = ("publish", "record", "scan")
"""Sections of the live settings that mean nothing to what is recorded already."""

log = structlog.get_logger(__name__)


def settings_of(order: Order) -> LiveSettings:
    """Those of the scan, as far as the pipeline of today still has them."""
    return LiveSettings.of_scan(order.config, order.settings, without=NOT_HERE).renumbered(1)


class Worker:
    """Plays one order; `run` returns when the requests end, or when none has come for long."""

    def __init__(self, order: Order, out: IO[bytes]) -> None:
        self._order = order
        self._live = settings_of(order)
        self._outbox = Outbox(out, order.scan_id)
        self._pace = Pace(order.seconds)
        self._run: ScanRun | None = None
        self._applied = self._live
        self._again = False
        self._gone = False
        self._state = "preparing"
        self._done = self._total = 0

    def run(self, requests: IO[bytes]) -> None:
        """Play, then obey until idle. A failure is told and ends the process."""
        threading.Thread(target=self._listen, args=(requests,), daemon=True).start()
        writer = threading.Thread(target=self._write, daemon=True)
        writer.start()
        self._tell("preparing")
        try:
            self._obey()
        except StemdError as error:
            self._tell("failed", message=error.message, remedy=error.remedy)
        except MemoryError:
            remedy = "the finished images can still be replayed; a larger machine can do more"
            self._tell("failed", message="the record needs too much memory", remedy=remedy)
        except Exception as error:
            log.exception("a replay failed")
            message = f"{type(error).__name__}: {error}"
            self._tell("failed", message=message, remedy="see the daemon's log")
        self._outbox.close()
        # whoever has closed the requests reads no more answers: they are not waited for
        writer.join(0.0 if self._gone else None)

    def _obey(self) -> None:
        order = self._order
        scan = Scan.model_validate(order.scan) if order.scan else None
        recording = open_recording(order.record, scan, order.config.adapter)
        try:
            self._pace.measure(steps_of(recording), order.record.stat().st_size)
            self._tell_settings()
            self._play(recording)
            while self._wait() and not self._gone:
                if self._again:
                    self._play(recording)
                else:
                    self._renew(recording)
            if not self._gone:
                self._tell("ended", message="nothing was asked of this replay for a long time")
        finally:
            recording.close()

    def _wait(self) -> bool:
        """Until something is asked for; whether it was before too long."""
        end = time.monotonic() + IDLE_S
        changed = self._pace.changed
        with changed:
            while not (self._gone or self._again) and self._applied is self._live:
                left = end - time.monotonic()
                if left <= 0:
                    return False
                changed.wait(left)
        return True

    # Playing

    def _begin(self, recording: Recording) -> ScanRun:
        live = self._live
        run = ScanRun(
            recording.acquisition, live.engines, self._order.config.engines, report=self._failed
        )
        run.count(recording.notices)
        self._applied = live
        self._run = run
        self._total = recording.acquisition.scan.positions
        return run

    def _play(self, recording: Recording) -> None:
        """The scan grows."""
        self._again = False
        run = self._begin(recording)
        self._tell("playing")
        engines = threading.Thread(target=self._serve, args=(run,), daemon=True)
        engines.start()
        self._pace.begin()
        try:
            for part in parts(recording, lambda: self._pace.per_s / PARTS_PER_S):
                for block in part.blocks:
                    self._apply(run)
                    run.reduce(block)
                    block.release()
                    if self._broken_off:
                        break
                self._rest(run, part.steps)
                if self._broken_off:
                    break
        finally:
            run.end("stopped" if self._broken_off else "complete")
            engines.join()

    @property
    def _broken_off(self) -> bool:
        """Whether this pass is of no use any more."""
        return self._again or self._gone

    def _apply(self, run: ScanRun) -> None:
        live = self._live
        if live is not self._applied:
            run.change(live.engines)
            self._applied = live

    def _rest(self, run: ScanRun, steps: int) -> None:
        self._pace.rest(steps)
        while self._pace.paused and not self._broken_off:
            # settings are obeyed while the scan stands still, too
            self._apply(run)
            with self._pace.changed:
                if self._pace.paused and not self._broken_off and self._applied is self._live:
                    self._pace.changed.wait()

    def _serve(self, run: ScanRun) -> None:
        final = run.serve(
            lambda snapshot: self._show(run, snapshot),
            lambda: self._live.publish.rate_hz,
            lambda snapshot: self._show(run, snapshot),
        )
        if run.end_reason == "complete":
            self._show(run, final)
            self._tell("finished")

    def _renew(self, recording: Recording) -> None:
        """The finished images with other settings: from the maps where these still hold."""
        run, live, before = self._run, self._live, self._applied
        assert run is not None
        old, new = before.engines, live.engines
        detectors = new.masks()
        moved = old.optics.center != new.optics.center and bool(detectors)
        gated = old.optics.acceptance_time_ns != new.optics.acceptance_time_ns
        whole = run.end_reason is not None
        if whole and detectors == old.masks() and not (moved or gated):
            self._applied = live
            self._show(run, run.recompute(new))
            return
        self._tell("computing")
        run = self._begin(recording)
        for block in recording.blocks(0, recording.frames):
            run.reduce(block)
            pause_s = block.wire.nbytes / FASTEST_BYTES_PER_S
            block.release()
            if self._broken_off or self._live is not self._applied:
                return  # something newer is wanted
            time.sleep(pause_s)
        run.end("complete")
        run.feed()
        self._show(run, run.snapshot(final=True))
        self._tell("finished")

    # Telling

    def _show(self, run: ScanRun, snapshot: Snapshot) -> None:
        if run is not self._run or self._broken_off:
            return
        self._done = snapshot.positions_done
        done = run.maps.done
        behind = int(done[::-1].argmax()) if done.any() else done.size
        self._outbox.show(snapshot, done.size - behind)
        if not snapshot.final:
            self._tell("paused" if self._pace.paused else "playing")

    def _tell(self, state: str, message: str = "", remedy: str = "") -> None:
        self._state = state
        document = {
            "state": state,
            "scan": self._order.scan_id,
            "positions_done": self._done,
            "positions_total": self._total,
            "late": self._pace.late,
            "message": message,
            "remedy": remedy,
        }
        self._outbox.text("replay", document)

    def _tell_settings(self) -> None:
        document = self._live.as_json()
        self._outbox.text(
            "settings", {key: value for key, value in document.items() if key not in NOT_HERE}
        )

    def _failed(self, engine: str, error: StemdError) -> None:
        self._tell(self._state, f"engine {engine} is left out: {error.message}", error.remedy)

    def _write(self) -> None:
        try:
            self._outbox.drain()
        except OSError:
            self._leave()  # the daemon has closed the pipe: nobody waits for anything

    # Listening

    def _listen(self, requests: IO[bytes]) -> None:
        for line in requests:
            message = json.loads(line)
            match message["do"]:
                case "watch":
                    self._outbox.watch(message["images"])
                case "pace":
                    self._set_pace(message)
                case "settings" | "command" as kind:
                    self._outbox.text("reply", self._answer(kind, message["request"]))
        self._leave()  # the daemon has gone, or has no more use for this

    def _leave(self) -> None:
        with self._pace.changed:
            self._gone = True
            self._pace.changed.notify_all()

    def _set_pace(self, message: Mapping[str, Any]) -> None:
        with self._pace.changed:
            self._again = self._again or bool(message["again"])
            self._pace.set(message["seconds"], paused=bool(message["paused"]))
        if self._state in ("playing", "paused"):
            self._tell("paused" if self._pace.paused else "playing")

    def _answer(self, kind: str, request: Json) -> Json:
        known = {"id": request.get("id")}
        try:
            if kind == "command":
                return {**known, "ok": True, **self._command(request)}
            self._change(request)
        except RefusedError as error:
            return {**known, "ok": False, "error": error.as_json()}
        except StemdError as error:
            return refused(request.get("id"), None, error.message, error.remedy or None)
        return {**known, "ok": True, "revision": self._live.revision}

    def _change(self, request: Json) -> None:
        for key in request:
            if key.partition(".")[0] in NOT_HERE:
                raise StemdError(f"{key} has no meaning for a recorded scan", "go back to live")
        live = self._live.changed(request)
        with self._pace.changed:
            self._live = live
            self._pace.changed.notify_all()
        self._tell_settings()

    def _command(self, request: Json) -> Json:
        if request.get("command") != "estimate_rotation":
            raise StemdError("a replay knows only estimate_rotation", "go back to live")
        if self._run is None:
            raise StemdError("the record is still being opened", "ask again in a moment")
        found = rotation_of(self._run)
        return {
            "scan": self._order.scan_id,
            "rotation_deg": round(found.rotation_deg, 1),
            "flip": found.flip,
            "confidence": round(found.confidence, 2),
        }
