"""A part of a recorded scan on its way into the maps and engines of the whole."""

from __future__ import annotations

from typing import cast

from stemd.blocks import FrameBlock
from stemd.engines.base import FindingEngine, PatternEngine, SlowEngine
from stemd.scan.run import ScanRun


class ScanPart:
    """Reduces blocks of some positions of a run into the run's maps, in a thread of its own.

    The maps are integers and the positions disjoint, so the result does not depend on the
    split. Engines that need patterns are doubled and merged, in the order of the parts.
    """

    def __init__(self, run: ScanRun) -> None:
        self._run = run
        settings = run.settings
        self._reducer = run.sums.another_reducer(settings)
        self._inline: dict[str, PatternEngine] = {}
        for choice, engine in zip(run.engines.choices, run.engines.every, strict=True):
            later = engine in run.engines.placed
            needs = choice.settings.needs == "patterns" and not later
            if needs and engine.name not in run.failed:
                double: PatternEngine = choice.plugin.build(choice.settings)
                if isinstance(double, SlowEngine):
                    double.prepare(run.tell, beside=False)
                maps = run.engines.maps_for(choice, run.maps)
                double.start(run.engines.acquisition, settings, maps)
                if isinstance(engine, FindingEngine) and isinstance(double, FindingEngine):
                    double.follow(engine.found() or {})
                self._inline[engine.name] = double
        self._frames = 0
        self._bytes = 0

    def reduce(self, block: FrameBlock) -> None:
        """Take a block in."""
        complete = self._reducer.reduce(block)
        self._run.sums.look(block)
        given = self._run.engines.given(block) if self._inline else {}
        for name, engine in list(self._inline.items()):
            part = given[name]
            if part is None:
                continue
            try:
                engine.consume(part)
            except (Exception, SystemExit) as error:
                del self._inline[name]
                self._run.engines.leave_out(name, error)
        self._frames += block.count
        self._bytes += block.wire.nbytes
        self._run.intake.add_positions(complete)

    def merge(self) -> None:
        """Give what was gathered to the run; parts merge in the order of their positions."""
        self._run.intake.add_part(frames=self._frames, size=self._bytes)
        for engine in self._run.engines.every:
            if engine.name in self._inline and engine.name not in self._run.failed:
                try:
                    cast(PatternEngine, engine).merge(self._inline[engine.name])
                except (Exception, SystemExit) as error:
                    self._run.engines.leave_out(engine.name, error)
