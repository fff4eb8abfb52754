"""A part of a scan, reduced: what travels between machines and lies in the parts folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from stemd import plugins
from stemd.acquisition import Scan
from stemd.adapters.base import AdapterSettings, Checkpoint
from stemd.adapters.recordings.remote import RecordingPath
from stemd.config.resolved import EngineConfig
from stemd.engines.base import FindingEngine, Gathered, SlowEngine, SpreadEngine
from stemd.errors import ConfigError
from stemd.scan.engines import EngineChoice
from stemd.scan.run import ScanRun
from stemd.settings import EngineSettings, Settings

Centre = tuple[float, float] | None
LATE_OPTICS = {
    *("energy_ev", "convergence_semi_angle_mrad", "pixel_size_mrad"),
    *("rotation_deg", "flip", "center"),
}
"""Optics that matter only when images are made; the centre also to virtual detectors."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to do with a file, in a form that any process can take up.

    `engines` are (type, settings) pairs; `scan` and `camera` as in `open_recording`;
    `correct` as in `--correct`: an image, "" for the first, None for no correction.
    """

    path: RecordingPath
    scan: Scan | None
    camera: AdapterSettings | None
    settings: Settings
    engines: tuple[tuple[str, EngineSettings], ...]
    correct: str | None = None

    def choices(self) -> list[EngineConfig]:
        """The engines with their plugins. Raises ConfigError where one is not installed."""
        return [
            EngineConfig(plugins.load("engines", kind), settings) for kind, settings in self.engines
        ]

    @property
    def is_quick(self) -> bool:
        """Whether its images take less time to make than the sums to send.

        Those of networks, and of what is worked out from whole patterns, do not.
        """
        slow = any(
            choice.settings.needs == "images" or isinstance(_built(choice), SlowEngine)
            for choice in self.choices()
        )
        return self.correct is None and not slow

    def gatherers(self) -> list[EngineConfig]:
        """The engines that need patterns: those of the others follow from the integer maps.

        Raises ConfigError where one cannot be spread.
        """
        found = [choice for choice in self.choices() if choice.settings.needs == "patterns"]
        for choice in found:
            if not isinstance(_built(choice), SpreadEngine):
                raise ConfigError(
                    f"the engine {choice.name} cannot be spread over a cluster",
                    "leave --cluster out, or this engine",
                )
        return found

    @property
    def needs_whole_positions(self) -> bool:
        """Whether an engine must have all hits of a position, so that no stream can be cut."""
        return any(choice.settings.whole_positions for choice in self.gatherers())

    @property
    def needs_centre(self) -> bool:
        """Whether the first patterns decide where the virtual detectors are."""
        return self.settings.optics.center == "auto" and bool(self.settings.masks())

    @property
    def has_finders(self) -> bool:
        """Whether the first patterns decide what an engine must know."""
        return any(
            isinstance(engine, FindingEngine) and engine.finds(self.settings)
            for engine in map(_built, self.gatherers())
        )

    @property
    def needs_lead(self) -> bool:
        """Whether the first patterns decide anything."""
        return self.needs_centre or self.has_finders

    def reduction(self) -> dict[str, Any]:
        """All settings that the reduction depends on, as JSON types.

        Runs whose reductions are equal share it, whatever the rest of their settings.
        """
        radii = self.settings.masks()
        center = self.settings.optics.center if radii else None
        optics = self.settings.optics.model_dump(mode="json", exclude=LATE_OPTICS)
        return {
            "optics": optics,
            "scan": self.scan.model_dump(mode="json") if self.scan else None,
            "camera": self.camera.model_dump(mode="json") if self.camera else None,
            "detectors": {name: list(pair) for name, pair in radii.items()},
            "center": center if center is None or isinstance(center, str) else list(center),
            "engines": {
                choice.name: {
                    "type": choice.plugin.name,
                    **cast(SpreadEngine, _built(choice)).gathers_by(self.settings),
                }
                for choice in self.gatherers()
            },
        }


@dataclass(frozen=True, slots=True)
class Goal:
    """One set of images of a file: how they are made and the folder they go to."""

    recipe: Recipe
    folder: Path


def _built(choice: EngineChoice) -> Any:
    return choice.plugin.build(choice.settings)


@dataclass(frozen=True, slots=True)
class Part:
    """Positions low..low+n-1 of the integer maps as one span of a file has filled them.

    `first`, `stop`: frames of the file, or bytes of an event stream. `total`, `moment_y`,
    `moment_x` (n,) and `detectors` (k, n) are of the smallest unsigned type that holds them,
    `done` bool (n,). `gathered`: what each pattern engine has, `failed`: why one has nothing.
    `centre` is that of the virtual detectors, `fixed` if it does not move any more; `found` is
    what engines have found out from the scan's first patterns.
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
    checkpoint: Checkpoint | None = None

    @classmethod
    def of(cls, run: ScanRun, first: int, stop: int) -> Part:
        """What a run has summed in a span of its file."""
        maps = run.maps
        gathered = {}
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
            centre=run.reducer.centre,
            fixed=run.reducer.centre_fixed,
            gathered=gathered,
            failed=dict(run.failed),
            found=run.engines.found(),
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
        maps = run.maps
        maps.total[here] += self.total
        maps.moment_y[here] += self.moment_y
        maps.moment_x[here] += self.moment_x
        maps.detector_sums[:, here] += self.detectors
        maps.done[here] |= self.done
        run.intake.add_part(frames=self.frames, positions=self.positions)
        for name, why in self.failed.items():
            run.engines.note_failure(name, why)
        for choice, engine in zip(run.engines.choices, run.engines.every, strict=True):
            if engine.name in self.gathered and engine.name not in run.failed:
                try:
                    double = _built(choice)
                    double.start(run.acquisition, run.settings, run.maps)
                    double.restore(self.gathered[engine.name])
                    cast(SpreadEngine, engine).merge(double)
                except Exception as error:
                    run.engines.leave_out(engine.name, error)


def _compact(values: NDArray[np.int64]) -> NDArray[Any]:
    """A copy of the smallest unsigned type: counts are never negative."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))
