"""A part of a scan, reduced: what travels between machines and lies in the parts folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.base import Checkpoint
from stemd.blocks import Notice
from stemd.engines.base import Gathered, SpreadEngine
from stemd.offline.cluster.recipe import built
from stemd.scan.run import ScanRun
from stemd.scan.sampled import SAMPLED

Centre = tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Part:
    """Positions low..low+n-1 of the integer maps as one span of a file has filled them.

    `first`, `stop`: frames of the file, or bytes of an event stream. `total`, `moment_y`,
    `moment_x` (n,) and `detectors` (k, n) are of the smallest unsigned type that holds them,
    `done` bool (n,). `gathered`: what each pattern engine has, `failed`: why one has nothing.
    `centre` is that of the virtual detectors, `fixed` if it does not move any more; `found` is
    what engines have found out from the scan's first patterns.
    `notices`: what was noticed of an event stream on the way.
    `checkpoint` is for the span that follows in an event stream; without one it is `over`.
    """

    first: int
    stop: int
    low: int
    total: NDArray[Any]
    moment_y: NDArray[Any]
    moment_x: NDArray[Any]
    detectors: NDArray[Any]
    done: NDArray[np.bool_]
    frames: int
    centre: Centre
    fixed: bool
    over: bool = False
    gathered: Mapping[str, Gathered] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    found: Mapping[str, Gathered] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()
    checkpoint: Checkpoint | None = None

    @classmethod
    def of(cls, run: ScanRun, first: int, stop: int) -> Part:
        """What a run has summed in a span of its file."""
        run.settle()
        maps = run.sums.maps
        gathered: dict[str, Gathered] = {SAMPLED: run.sums.sampled.gathered()}
        for choice, engine in zip(run.engines.choices, run.engines.every, strict=True):
            if choice.settings.needs == "patterns" and engine.name not in run.failed:
                try:
                    gathered[engine.name] = cast(SpreadEngine, engine).gathered()
                except Exception as error:
                    run.engines.leave_out(engine.name, error)
        touched = np.flatnonzero(maps.done | (maps.total != 0))
        low, high = (int(touched[0]), int(touched[-1]) + 1) if touched.size else (0, 0)
        return cls(
            first,
            stop,
            low,
            total=_compact(maps.total[low:high]),
            moment_y=_compact(maps.moment_y[low:high]),
            moment_x=_compact(maps.moment_x[low:high]),
            detectors=_compact(maps.detector_sums[:, low:high]),
            done=maps.done[low:high].copy(),
            frames=run.frames,
            centre=run.sums.reducer.centre,
            fixed=run.sums.reducer.centre_fixed,
            gathered=gathered,
            failed=dict(run.failed),
            found=run.found(),
        )

    @property
    def positions(self) -> int:
        """Positions done."""
        return int(np.count_nonzero(self.done))

    def add_to(self, run: ScanRun) -> None:
        """Add the part to a run of the same reduction. Parts are added in the order of the file.

        Sums of integers do not depend on the cut; of what pattern engines sum, float sums may
        in their last digits.
        """
        here = slice(self.low, self.low + self.done.size)
        maps = run.sums.maps
        maps.wide()
        maps.total[here] += self.total
        maps.moment_y[here] += self.moment_y
        maps.moment_x[here] += self.moment_x
        maps.detector_sums[:, here] += self.detectors
        maps.done[here] |= self.done
        run.intake.add_part(frames=self.frames, positions=self.positions)
        run.count(self.notices)
        run.sums.sampled.merge(self.gathered.get(SAMPLED, {}))
        for name, why in self.failed.items():
            run.engines.note_failure(name, why)
        for choice, engine in zip(run.engines.choices, run.engines.every, strict=True):
            if engine.name in self.gathered and engine.name not in run.failed:
                try:
                    double = built(choice)
                    double.start(run.acquisition, run.settings, run.maps)
                    double.restore(self.gathered[engine.name])
                    cast(SpreadEngine, engine).merge(double)
                except Exception as error:
                    run.engines.leave_out(engine.name, error)


def _compact(values: NDArray[np.int64]) -> NDArray[Any]:
    """A copy of the smallest unsigned type: counts are never negative."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))
