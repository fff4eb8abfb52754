"""The replay's process: a record through the pipeline's engines at a chosen pace.

The main thread reads and reduces, a thread serves the engines as in a live scan, one writes and
one listens. Settings are live: what is asked for while the scan grows holds from the next block
on, and what is asked for afterwards makes the finished images anew.
"""

from __future__ import annotations

import threading
import time
from typing import IO

from stemd.acquisition import Scan
from stemd.adapters.base import Recording
from stemd.adapters.files import open_recording
from stemd.errors import StemdError
from stemd.logs import get_logger
from stemd.offline.replay.listener import Listener
from stemd.offline.replay.pace import FASTEST_BYTES_PER_S
from stemd.offline.replay.sender import Sender
from stemd.offline.replay.state import State
from stemd.offline.replay.stretches import steps_of, stretches
from stemd.offline.replay.wire import ReplayJob
from stemd.offline.replay.wishes import Wishes
from stemd.results import Snapshot
from stemd.scan.run import ScanRun
from stemd.storage.camera import camera_of

STRETCHES_PER_S = 20.0
"""How often a stretch of the record is read."""
IDLE_S = 900.0
"""A finished replay of which nothing is asked for so long ends: its maps are memory."""

log = get_logger(__name__)


class Worker:
    """Plays one job; `run` returns when the requests end, or when none has come for long."""

    def __init__(self, job: ReplayJob, out: IO[bytes]) -> None:
        self._job = job
        self._wishes = Wishes(job)
        self._pace = self._wishes.pace
        self._sender = Sender(out, job.scan_id)
        self._state = State(self._sender, job.scan_id, self._pace)
        self._listener = Listener(self._wishes, self._state, self._sender, lambda: self._run)
        self._run: ScanRun | None = None
        self._applied = self._wishes.live

    def run(self, requests: IO[bytes]) -> None:
        """Play, then obey until idle. A failure is told and ends the process."""
        threading.Thread(target=self._listener.listen, args=(requests,), daemon=True).start()
        writer = threading.Thread(target=self._write, daemon=True)
        writer.start()
        self._state.tell("preparing")
        try:
            self._obey()
        except StemdError as error:
            self._state.tell("failed", message=error.message, remedy=error.remedy)
        except MemoryError:
            remedy = "the finished images can still be replayed; a larger machine can do more"
            self._state.tell("failed", message="the record needs too much memory", remedy=remedy)
        except Exception as error:
            log.exception("a replay failed")
            message = f"{type(error).__name__}: {error}"
            self._state.tell("failed", message=message, remedy="see the daemon's log")
        self._sender.close()
        # whoever has closed the requests reads no more answers: they are not waited for
        writer.join(0.0 if self._wishes.gone else None)

    def _write(self) -> None:
        try:
            self._sender.drain()
        except OSError:
            pass  # the daemon has closed the pipe: nobody waits for anything
        finally:
            self._wishes.leave()

    def _obey(self) -> None:
        job, wishes = self._job, self._wishes
        scan = Scan.model_validate(job.scan) if job.scan else None
        recording = open_recording(job.record, scan, camera_of(job.camera) or job.config.adapter)
        try:
            self._pace.measure(steps_of(recording), job.record.stat().st_size)
            self._state.tell_settings(wishes.live)
            self._play(recording)
            while wishes.wait_for_any(self._applied, IDLE_S) and not wishes.gone:
                if wishes.again:
                    self._play(recording)
                else:
                    self._renew(recording)
            if not wishes.gone:
                message = "nothing was asked of this replay for a long time"
                self._state.tell("ended", message=message)
        finally:
            recording.close()

    def _begin(self, recording: Recording) -> ScanRun:
        live = self._wishes.live
        engines, report = self._job.config.engines, self._state.tell_failure
        run = ScanRun(recording.acquisition, live.engines, engines, report=report)
        run.count(recording.notices)
        self._applied = live
        self._run = run
        self._state.begin(recording.acquisition.scan.positions)
        return run

    def _play(self, recording: Recording) -> None:
        """The scan grows."""
        wishes = self._wishes
        wishes.begun()
        run = self._begin(recording)
        self._state.tell("playing")
        engines = threading.Thread(target=self._serve, args=(run,), daemon=True)
        engines.start()
        self._pace.begin()
        try:
            for stretch in stretches(recording, lambda: self._pace.per_s / STRETCHES_PER_S):
                for block in stretch.blocks:
                    self._apply(run)
                    run.reduce(block)
                    block.release()
                    if wishes.broken_off:
                        break
                self._rest(run, stretch.steps)
                if wishes.broken_off:
                    break
        finally:
            run.end("stopped" if wishes.broken_off else "complete")
            engines.join()

    def _apply(self, run: ScanRun) -> None:
        live = self._wishes.live
        if live is not self._applied:
            run.change(live.engines)
            self._applied = live

    def _rest(self, run: ScanRun, steps: int) -> None:
        self._pace.rest(steps)
        paused = self._pace.paused and not self._wishes.broken_off
        while paused:
            # settings are obeyed while the scan stands still, too
            self._apply(run)
            paused = self._wishes.wait_while_paused(self._applied)

    def _serve(self, run: ScanRun) -> None:
        final = run.serve(
            lambda snapshot: self._show(run, snapshot),
            lambda: self._wishes.live.publish.rate_hz,
            lambda snapshot: self._show(run, snapshot),
        )
        if run.end_reason == "complete":
            self._show(run, final)
            self._state.tell("finished")

    def _show(self, run: ScanRun, snapshot: Snapshot) -> None:
        if run is self._run and not self._wishes.broken_off:
            self._state.show(run, snapshot)

    def _renew(self, recording: Recording) -> None:
        """The finished images with other settings: from the maps where these still hold."""
        run, live, before = self._run, self._wishes.live, self._applied
        assert run is not None
        old, new = before.engines, live.engines
        detectors = new.masks()
        moved = old.optics.center != new.optics.center and bool(detectors)
        gated = old.optics.acceptance_time_ns != new.optics.acceptance_time_ns
        whole = run.end_reason is not None
        masked = run.sums.mask.asked != new.optics.mask
        if whole and detectors == old.masks() and not (moved or gated or masked):
            self._applied = live
            self._show(run, run.recompute(new))
            return
        self._state.tell("computing")
        run = self._begin(recording)
        for block in recording.blocks(0, recording.frames):
            run.reduce(block)
            pause_s = block.wire.nbytes / FASTEST_BYTES_PER_S
            block.release()
            if self._wishes.broken_off or self._wishes.live is not self._applied:
                return  # something newer is wanted
            time.sleep(pause_s)
        run.end("complete")
        run.feed()
        self._show(run, run.snapshot(final=True))
        self._state.tell("finished")
