"""What is to be done with a file, in a form that any process can take up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from stemd import plugins
from stemd.acquisition import Scan
from stemd.adapters.base import AdapterSettings
from stemd.adapters.recordings.address import RecordingPath
from stemd.config.resolved import EngineConfig
from stemd.engines.base import FindingEngine, SlowEngine, SpreadEngine
from stemd.errors import ConfigError
from stemd.scan.engines import EngineChoice
from stemd.scan.given_mask import AUTO, mask_identity
from stemd.settings import EngineSettings, Settings

LATE_OPTICS = {
    *("energy_ev", "convergence_semi_angle_mrad", "pixel_size_mrad"),
    *("rotation_deg", "flip", "center"),
}
"""Optics that matter only when images are made; the centre also to virtual detectors."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to do with a file, in a form that any process can take up.

    `engines` are (type, settings) pairs; `scan`, `camera` and `dataset` as in
    `open_recording`;
    `correct` as in `--correct`: an image, "" for the first, None for no correction. `joined`: files
    that follow `path` in its series of frames. `scan_number`: which scan of the file, from 1; None:
    the first.
    """

    path: RecordingPath
    scan: Scan | None
    camera: AdapterSettings | None
    settings: Settings
    engines: tuple[tuple[str, EngineSettings], ...]
    correct: str | None = None
    dataset: str | None = None
    joined: tuple[RecordingPath, ...] = ()
    scan_number: int | None = None

    @property
    def paths(self) -> tuple[RecordingPath, ...]:
        """All files that it reads."""
        return (self.path, *self.joined)

    @property
    def part(self) -> dict[str, Any]:
        """What of its files it reads, as JSON types; nothing where it is the first scan of one."""
        found: dict[str, Any] = {}
        if self.joined:
            found["joined"] = [str(path) for path in self.joined]
        if self.scan_number is not None:
            found["scan_number"] = self.scan_number
        return found

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
            choice.settings.needs == "images" or isinstance(built(choice), SlowEngine)
            for choice in self.choices()
        )
        return self.correct is None and not slow

    def gatherers(self) -> list[EngineConfig]:
        """The engines that need patterns: those of the others follow from the integer maps.

        Raises ConfigError where one cannot be spread.
        """
        found = [choice for choice in self.choices() if choice.settings.needs == "patterns"]
        for choice in found:
            if not isinstance(built(choice), SpreadEngine):
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
        """Whether the first patterns decide what an engine must know, or which pixels count."""
        return self.settings.optics.mask == AUTO or any(
            isinstance(engine, FindingEngine) and engine.finds(self.settings)
            for engine in map(built, self.gatherers())
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
            "dataset": self.dataset,
            **self.part,
            "detectors": {name: list(pair) for name, pair in radii.items()},
            "mask": mask_identity(self.settings.optics),
            "center": center if center is None or isinstance(center, str) else list(center),
            "engines": {
                choice.name: {
                    "type": choice.plugin.name,
                    **cast(SpreadEngine, built(choice)).gathers_by(self.settings),
                }
                for choice in self.gatherers()
            },
        }


@dataclass(frozen=True, slots=True)
class Goal:
    """One set of images of a file: how they are made and the folder they go to."""

    recipe: Recipe
    folder: Path


def built(choice: EngineChoice) -> Any:
    """A double of an engine, not started."""
    return choice.plugin.build(choice.settings)
