"""A part of a recorded scan on its way into the maps and engines of the whole."""

from __future__ import annotations

from typing import cast

from stemd.blocks import FrameBlock
from stemd.engines.base import FindingEngine, PatternEngine, SlowEngine
from stemd.engines.reduction import Reducer
from stemd.scan.run import ScanRun


class ScanPart:
    """Reduces blocks of some positions of a run into the run's maps, in a thread of its own.

    The maps are integers and the positions disjoint, so the result does not depend on the
    split. Engines that need patterns are doubled and merged, in the order of the parts.
    """

    def __init__(self, run: ScanRun) -> None:
        self._run = run
        acquisition, settings = run.acquisition, run.settings
        self._reducer = Reducer(
            acquisition,
            settings.optics,
            run.maps,
            settings.masks(),
            run.reducer.centre,
        )
        self._inline: dict[str, PatternEngine] = {}
        for choice, engine in zip(run.choices, run.engines, strict=True):
            if choice.settings.needs == "patterns" and engine.name not in run.failed:
                double: PatternEngine = choice.plugin.build(choice.settings)
                if isinstance(double, SlowEngine):
                    double.prepare(run.told, beside=False)
                double.start(acquisition, settings, run.maps)
                if isinstance(engine, FindingEngine) and isinstance(double, FindingEngine):
                    double.follow(engine.found() or {})
                self._inline[engine.name] = double
        self._frames = 0
        self._bytes = 0

    def reduce(self, block: FrameBlock) -> None:
        """Take a block in."""
        runs = self._reducer.reduce(block)
        for name, engine in list(self._inline.items()):
            try:
                engine.consume(block)
            except Exception as error:
                del self._inline[name]
                self._run.leave_out(name, error)
        self._frames += block.count
        self._bytes += block.wire.nbytes
        self._run.add_positions(runs)

    def merge(self) -> None:
        """Give what was gathered to the run; parts merge in the order of their positions."""
        self._run.frames += self._frames
        self._run.bytes += self._bytes
        for engine in self._run.engines:
            if engine.name in self._inline and engine.name not in self._run.failed:
                try:
                    cast(PatternEngine, engine).merge(self._inline[engine.name])
                except Exception as error:
                    self._run.leave_out(engine.name, error)
