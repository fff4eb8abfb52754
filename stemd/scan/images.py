"""The images of one scan as they are now, from all engines, and the finished ones in stages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from stemd.acquisition import Acquisition
from stemd.engines.base import Engine, ImageEngine, SlowEngine
from stemd.results import Result, Snapshot, checked_results
from stemd.scan.engines import ScanEngines
from stemd.scan.intake import Intake
from stemd.settings import Settings

if TYPE_CHECKING:
    from stemd.scan.repeats import Repeats

WAIT_S = 0.5
"""Between two signs of life while an engine still works on finished images."""

Publish = Callable[[Snapshot], None]


class ScanImages:
    """Makes the snapshots of a scan. All methods are called by the engines' thread.

    The engines give their images in three stages: the prompt ones at once, then those that work
    on these images, then the slow ones that work beside the scan.
    """

    def __init__(
        self,
        acquisition: Acquisition,
        engines: ScanEngines,
        intake: Intake,
        repeats: Repeats | None = None,
    ) -> None:
        self.early: frozenset[str] = frozenset()
        """Finished images that `finals` has published before it has returned."""
        self.of_slow: dict[str, tuple[str, ...]] = {}
        """Names of the images of each slow engine, once there are any."""
        self.heartbeat = time.monotonic()
        """When the engines' thread last showed that it works."""
        self._acquisition, self._engines, self._intake = acquisition, engines, intake
        self._repeats = repeats
        self._of_repeats: Mapping[str, Any] | None = None
        """What is known of all frames now."""
        self._sequence = 0

    def beat(self) -> None:
        """The engines' thread works."""
        self.heartbeat = time.monotonic()

    def snapshot(self, settings: Settings, *, final: bool) -> Snapshot:
        """All images now; exact, from the integer maps, when `final`."""
        return self._with_slow(self._with_images(self._prompt(settings, final=final)))

    def finals(self, settings: Settings, publish: Publish) -> Snapshot:
        """The finished images.

        `publish` gets those that must not wait for the engines which take longer, nor for what is
        measured of the scan when all are made; `early` has their names.
        """
        engines = self._engines
        first = self._prompt(settings, final=True)
        publish(first)
        self.early = _names(first.results)
        if not engines.imaging and not engines.slow:
            return first
        with_images = self._with_images(first)
        if engines.imaging and engines.slow:
            late = [r for r in with_images.results if r.name not in self.early]
            publish(replace(with_images, results=late))
            self.early = _names(with_images.results)
        return self._with_slow(with_images)

    def finals_by_engine(self, settings: Settings, publish: Publish) -> Snapshot:
        """The finished images, given to `publish` an engine at a time and then forgotten.

        So they need not be in memory together. Returns a snapshot without images. Where engines
        work on the images of others, all are given at once.
        """
        if self._engines.imaging or self._engines.slow:
            publish(self.snapshot(settings, final=True))
        else:
            for snapshot in self._by_engine(settings):
                publish(snapshot)
        return self.nothing(settings)

    def _by_engine(self, settings: Settings) -> Iterator[Snapshot]:
        done = self._intake.positions_done
        self._of_repeats = None if self._repeats is None else self._repeats.about()
        known = self._intake.images()
        whole = self._of(known, done, settings, final=True)
        if known:
            yield whole
        for engine in self._engines.prompt:
            results = self._made_by(engine, known, final=True)
            # their names alone: no other engine may give them again
            nothing = np.zeros((1, 1), np.float32)
            known = [*known, *(replace(each, image=nothing) for each in results)]
            if results:
                yield replace(whole, results=results)
                results.clear()

    def nothing(self, settings: Settings) -> Snapshot:
        """A final snapshot without images, for a scan whose images could not be made."""
        return self._of([], self._intake.positions_done, settings, final=True)

    def _prompt(self, settings: Settings, *, final: bool) -> Snapshot:
        intake = self._intake
        done = intake.positions_done
        results = intake.images()
        self._of_repeats = None if self._repeats is None else self._repeats.about()
        # a sum of frames changes as a whole: images of it are made anew from the maps
        anew: list[Engine] = []
        if self._repeats is not None and self._repeats.added:
            anew = self._engines.positional
        for engine in self._engines.prompt:
            results += self._made_by(engine, results, final=final or engine in anew)
        return self._of(results, done, settings, final=final)

    def _made_by(self, engine: Engine, before: list[Result], *, final: bool) -> list[Result]:
        """The images of a prompt engine; none if it fails, which is told."""
        if self._engines.works(engine):
            self.beat()  # each for itself: on a busy computer all of them together take long
            try:
                made = engine.snapshot(final=final)
                return self._marked(engine, checked_results(engine.name, made, before))
            except (Exception, SystemExit) as error:
                self._engines.leave_out(engine.name, error)
        return []

    def _of(self, results: list[Result], done: int, settings: Settings, *, final: bool) -> Snapshot:
        self._sequence += 1
        return Snapshot(
            acquisition=self._acquisition,
            results=results,
            positions_done=done,
            positions_total=self._acquisition.scan.positions,
            final=final,
            sequence=self._sequence,
            time_ns=self._intake.received_ns,
            settings_revision=settings.revision,
        )

    def _with_images(self, snapshot: Snapshot) -> Snapshot:
        """With what the engines that work on images have made, if final from just these."""
        results = list(snapshot.results)
        for engine in self._engines.imaging:
            if self._engines.works(engine):
                try:
                    engine.offer(results, final=snapshot.final)
                    results += self._made(engine, results, final=snapshot.final)
                except (Exception, SystemExit) as error:
                    self._engines.leave_out(engine.name, error)
        return replace(snapshot, results=results)

    def _with_slow(self, snapshot: Snapshot) -> Snapshot:
        """With the images of slow engines, if final when they are done."""
        results = list(snapshot.results)
        for engine in self._engines.slow:
            if self._engines.works(engine):
                try:
                    made = self._made(engine, results, final=snapshot.final)
                    self.of_slow[engine.name] = tuple(result.name for result in made)
                    results += made
                except (Exception, SystemExit) as error:
                    self._engines.leave_out(engine.name, error)
        return replace(snapshot, results=results)

    def _made(
        self, engine: ImageEngine | SlowEngine, before: list[Result], *, final: bool
    ) -> list[Result]:
        while final and not engine.wait(WAIT_S):
            self.beat()
        self.beat()
        made = checked_results(engine.name, engine.snapshot(final=final), before)
        return self._marked(engine, made)

    def _marked(self, engine: Engine, results: list[Result]) -> list[Result]:
        """Images of a place that was scanned several times tell which of its frames they show."""
        if self._repeats is None:
            return results
        shown = self._repeats.first_only if engine in self._engines.of_first else self._of_repeats
        return [each.changed(extra={**each.extra, "repeats": shown}) for each in results]


def _names(results: Iterable[Result]) -> frozenset[str]:
    return frozenset(result.name for result in results)
