"""One scan on its way from blocks to final images: maps, engines, snapshots."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol, cast

import structlog

from stemd.acquisition import Acquisition
from stemd.blocks import Block, EndReason, EventBlock, FrameBlock, ImageBlock, Message, Notice
from stemd.engines.base import (
    Engine,
    FindingEngine,
    Gathered,
    ImageEngine,
    PositionMaps,
    Positions,
    SlowEngine,
)
from stemd.engines.reduction import Reducer
from stemd.errors import StemdError
from stemd.plugins import Plugin
from stemd.results import Result, Snapshot
from stemd.settings import EngineSettings, Settings, SlowEngineSettings

log = structlog.get_logger(__name__)

POLL_S = 0.01
"""How often the engines look for new positions: often enough for the eye, rare enough to leave
the interpreter to the reader, which never has to wake anybody."""
CUT_OFF = ("stopped", "replaced", "disconnected", "restarted")
"""Ends that were not the camera's own."""
SNAPSHOT_SHARE = 0.25
"""At most this part of the engines' time goes into snapshots; large images come less often."""
WAIT_S = 0.5
"""Between two signs of life while an engine still works on finished images."""

Report = Callable[[str, StemdError], None]
"""(engine, error): an engine has failed for a reason that the user can do something about."""


class EngineChoice(Protocol):
    """A configured engine: its plugin and validated settings."""

    @property
    def plugin(self) -> Plugin:
        """Where the engine comes from."""
        ...

    @property
    def settings(self) -> EngineSettings:
        """Its settings in the config."""
        ...

    @property
    def name(self) -> str:
        """Its name: given, or its type."""
        ...


class ScanRun:
    """The data path of one acquisition.

    `reduce` is called by the reader's thread and touches only integer maps; `serve` runs in a
    thread of its own, feeds the engines and makes snapshots until the scan has ended. A failing
    engine is reported once and left out, the others go on. Engines that work on images get what
    the others have made, in their order. With `live` a camera waits: slow engines work beside
    the scan, and their finished images come after all others; `notice` is told what they have
    to say, by any thread.
    """

    def __init__(
        self,
        acquisition: Acquisition,
        settings: Settings,
        engines: Sequence[EngineChoice],
        centre: tuple[float, float] | None = None,
        report: Report | None = None,
        *,
        live: bool = False,
        notice: Callable[[Notice], None] = lambda notice: None,
    ) -> None:
        self.acquisition = acquisition
        self._report = report
        self._notice = notice
        self.settings = settings
        detectors = settings.masks()
        self.maps = PositionMaps(acquisition, tuple(detectors))
        self.reducer = Reducer(acquisition, settings.optics, self.maps, detectors, centre)
        self.engines: list[Engine] = []
        self._slow: list[SlowEngine] = []
        self.failed: dict[str, str] = {}
        self.counters: dict[str, int] = {}
        self._counting = threading.Lock()
        self.choices: list[EngineChoice] = []
        for choice in engines:
            name = choice.name
            try:
                engine: Engine = choice.plugin.build(choice.settings)
                if isinstance(engine, SlowEngine):
                    engine.prepare(self.told, beside=live)
                engine.start(acquisition, settings, self.maps)
            except Exception as error:
                self.leave_out(name, error)
            else:
                self.engines.append(engine)
                self.choices.append(choice)
        self._slow = [engine for engine in self.engines if live and isinstance(engine, SlowEngine)]
        self._inline = self._that_need("patterns")
        self._positional = self._that_need("positions")
        self._imaging = cast(list[ImageEngine], self._that_need("images"))
        self.early: frozenset[str] = frozenset()
        """Finished images that `serve` has published before it has returned."""
        self.slow_images: dict[str, tuple[str, ...]] = {}
        """Names of the images of each slow engine, once there are any."""
        self._given: list[Result] = []
        self.history: list[dict[str, Any]] = []
        self.positions_done = 0
        self.frames = 0
        self.hits = 0
        self.bytes = 0
        self.received_ns = acquisition.started_ns
        self.end_reason: EndReason | None = None
        self.finished_ns = 0
        self._runs: list[Positions] = []
        self._lock = threading.Lock()
        self.ended = threading.Event()
        self._sequence = 0
        self._applied = settings
        self.heartbeat = time.monotonic()
        """When the engines' thread last got on."""

    def _that_need(self, what: str) -> list[Engine]:
        pairs = zip(self.choices, self.engines, strict=True)
        return [engine for choice, engine in pairs if choice.settings.needs == what]

    # The reader's side

    def reduce(self, block: Block) -> None:
        """Take a block in: moments, virtual detectors, inline engines."""
        runs = self.reducer.reduce(block)
        for engine in self._inline:
            self._guard(engine, engine.consume, block)
        self.frames += block.count if isinstance(block, FrameBlock) else 0
        self.hits += block.count if isinstance(block, EventBlock) else 0
        self.bytes += block.wire.nbytes
        if runs:
            self.received_ns = block.received_ns
            self.add_positions(runs)

    def take(self, block: ImageBlock) -> None:
        """Take a finished image in: all positions are done."""
        size = self.acquisition.scan.step_size_angstrom
        self._given.append(Result(block.name, block.image, "counts", "scan", size))
        self.maps.done[:] = True
        self.bytes += block.wire.nbytes
        self.received_ns = block.received_ns
        self.positions_done = self.acquisition.scan.positions

    def add_positions(self, runs: Sequence[Positions]) -> None:
        """Announce complete positions to the engines."""
        with self._lock:
            for first, stop in runs:
                self.positions_done += stop - first
                if self._runs and self._runs[-1][1] == first:
                    self._runs[-1] = (self._runs[-1][0], stop)
                else:
                    self._runs.append((first, stop))

    def change(self, settings: Settings) -> None:
        """New settings from the next block on; called by the reader's thread."""
        self.reducer.update(settings.optics, settings.masks())
        self.settings = settings

    def end(self, reason: EndReason) -> None:
        """No more blocks will come."""
        self.end_reason = reason
        self.finished_ns = time.time_ns()
        for engine in self._slow:
            engine.finish()
        self.ended.set()

    def hurry(self, why: str) -> None:
        """Leave undone what slow engines have not done yet."""
        for engine in self._slow:
            engine.abandon(why)

    def lacking(self) -> dict[str, int]:
        """After `serve`: positions that the images of slow engines lack and are to get later.

        By engine; only those that are to be completed by their settings.
        """
        found: dict[str, int] = {}
        for engine in self._slow:
            own = self.settings.engines.get(engine.name)
            wanted = isinstance(own, SlowEngineSettings) and own.complete
            if wanted and engine.name not in self.failed and (count := engine.lacking()):
                found[engine.name] = count
        return found

    def count(self, notices: Sequence[Message]) -> None:
        """Count what was noticed outside of the blocks."""
        for notice in notices:
            if isinstance(notice, Notice) and notice.count:
                with self._counting:
                    self.counters[notice.kind] = self.counters.get(notice.kind, 0) + notice.count

    def told(self, notice: Notice) -> None:
        """Count what an engine has to say, and pass it on."""
        self.count([notice])
        self._notice(notice)

    @property
    def first_found(self) -> bool:
        """Whether all is known that the first patterns decide, so that parts may be made."""
        return self.reducer.centre_fixed and all(
            engine.found() is not None or not engine.finds(self.settings)
            for engine in self.engines
            if isinstance(engine, FindingEngine) and engine.name not in self.failed
        )

    def found(self) -> dict[str, Gathered]:
        """What engines have found out from the first patterns."""
        return {
            engine.name: engine.found() or {}
            for engine in self.engines
            if isinstance(engine, FindingEngine) and engine.name not in self.failed
        }

    def follow(self, found: Mapping[str, Gathered]) -> None:
        """Be a later part of a scan whose first part has found this out."""
        for engine in self.engines:
            if isinstance(engine, FindingEngine):
                self._guard(engine, engine.follow, found.get(engine.name, {}))

    def recompute(self, settings: Settings) -> Snapshot:
        """The final images anew from the maps, with other settings; only after `serve` is over.

        What the reduction summed with the old settings (virtual detectors) keeps them.
        """
        self.settings = settings.for_maps_of(self.settings)
        for engine in self.engines:
            self._guard(engine, engine.update, self.settings)
        return self.snapshot(final=True)

    def finals_of(self, maps: PositionMaps) -> list[Result]:
        """What the engines that need no more than maps make of others of the same scan."""
        results: list[Result] = []
        for choice, engine in zip(self.choices, self.engines, strict=True):
            if choice.settings.needs == "positions" and engine.name not in self.failed:
                double: Engine = choice.plugin.build(choice.settings)
                double.start(self.acquisition, self.settings, maps)
                results += double.snapshot(final=True)
        return results

    # The engines' side

    def serve(
        self,
        publish: Callable[[Snapshot], None],
        rate_hz: Callable[[], float],
        publish_final: Callable[[Snapshot], None] = lambda snapshot: None,
    ) -> Snapshot:
        """Feed the engines until the scan has ended; returns the final snapshot.

        `publish` gets the snapshots in between, at most `rate_hz()` a second and only when
        there is something new. Changed settings are shown at once: who turns a knob watches.
        `publish_final` gets the finished images that must not wait for engines which work on
        images; `early` has their names.
        """
        shown = 0
        next_time = rested = time.monotonic()
        while True:
            ended = self.ended.wait(POLL_S)
            self.heartbeat = time.monotonic()
            settings = self.settings
            if settings is not self._applied:
                self._applied = settings
                for engine in self.engines:
                    self._guard(engine, engine.update, settings)
                shown, next_time = -1, rested
            self.feed()
            if ended:
                break
            now = time.monotonic()
            if now >= next_time and self.positions_done != shown:
                shown = self.positions_done
                publish(self.snapshot(final=False))
                rested = now + (time.monotonic() - now) / SNAPSHOT_SHARE
                next_time = max(now + 1.0 / rate_hz(), rested)
        first = self._snapshot(final=True)
        if not self._imaging and not self._slow:
            return first
        publish_final(first)
        self.early = frozenset(result.name for result in first.results)
        with_images = self._with_images(first)
        if self._imaging and self._slow:
            late = [r for r in with_images.results if r.name not in self.early]
            publish_final(replace(with_images, results=late))
            self.early = frozenset(result.name for result in with_images.results)
        return self._with_slow(with_images)

    def feed(self) -> None:
        """Give the engines the positions that have become complete."""
        with self._lock:
            runs, self._runs = self._runs, []
        for engine in self._positional:
            for run in runs:
                self._guard(engine, engine.consume, run)

    def snapshot(self, *, final: bool) -> Snapshot:
        """All images now; exact, from the integer maps, when `final`."""
        return self._with_slow(self._with_images(self._snapshot(final=final)))

    def _with_slow(self, snapshot: Snapshot) -> Snapshot:
        """With the images of slow engines, if final when they are done."""
        results = list(snapshot.results)
        for engine in self._slow:
            if engine.name not in self.failed:
                try:
                    while snapshot.final and not engine.wait(WAIT_S):
                        self.heartbeat = time.monotonic()
                    made = engine.snapshot(final=snapshot.final)
                    self.slow_images[engine.name] = tuple(result.name for result in made)
                    results += made
                except Exception as error:
                    self.leave_out(engine.name, error)
        return replace(snapshot, results=results)

    def _with_images(self, snapshot: Snapshot) -> Snapshot:
        """With what the engines that work on images have made, if final from just these."""
        results = list(snapshot.results)
        for engine in self._imaging:
            if engine.name not in self.failed:
                try:
                    engine.offer(results, final=snapshot.final)
                    while snapshot.final and not engine.wait(WAIT_S):
                        self.heartbeat = time.monotonic()
                    results += engine.snapshot(final=snapshot.final)
                except Exception as error:
                    self.leave_out(engine.name, error)
        return replace(snapshot, results=results)

    def _snapshot(self, *, final: bool) -> Snapshot:
        results = list(self._given)
        done = self.positions_done
        for engine in self.engines:
            if engine in self._slow or engine in self._imaging:
                continue
            if engine.name not in self.failed:
                try:
                    results += engine.snapshot(final=final)
                except Exception as error:
                    self.leave_out(engine.name, error)
        self._sequence += 1
        return Snapshot(
            acquisition=self.acquisition,
            results=results,
            positions_done=done,
            positions_total=self.acquisition.scan.positions,
            final=final,
            sequence=self._sequence,
            time_ns=self.received_ns,
            settings_revision=self.settings.revision,
        )

    def _guard(self, engine: Engine, call: Callable[[Any], None], argument: Any) -> None:
        if engine.name not in self.failed:
            try:
                call(argument)
            except Exception as error:
                self.leave_out(engine.name, error)

    def leave_out(self, engine: str, error: Exception) -> None:
        """An engine has failed: it is reported once and gets nothing more. By any thread."""
        with self._counting:
            if engine in self.failed:
                return
            self.failed[engine] = str(error)
        for each in self._slow:
            if each.name == engine:
                each.abandon()
        if isinstance(error, StemdError):
            if self._report is not None:
                self._report(engine, error)
            return
        self.failed[engine] = f"{type(error).__name__}: {error}"
        log.exception("an engine failed and is left out for the rest of the scan", engine=engine)

    @property
    def status(self) -> Literal["complete", "incomplete", "aborted"]:
        """`complete` if every position is there, `aborted` if cut off, else `incomplete`."""
        if self.positions_done >= self.acquisition.scan.positions:
            return "complete"
        return "aborted" if self.end_reason in CUT_OFF else "incomplete"
