"""Virtual detectors: discs and annuli around the centre, summed by the reduction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from stemd.acquisition import Acquisition, Optics
from stemd.blocks import Block
from stemd.engines.base import PositionMaps, Positions
from stemd.engines.growing import Growing
from stemd.errors import ConfigError
from stemd.plugins import Plugin
from stemd.results import Result
from stemd.settings import EngineSettings, Settings

Radius = Annotated[float, Field(ge=0.0, le=1e9, allow_inf_nan=False)]
MOST_DETECTORS = 32
"""Each is eight bytes a position, and an image that is published, written and shown."""
DetectorName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")]


class VirtualDetectorSettings(EngineSettings):
    """{name: [inner, outer]} in mrad (`detectors`) or detector pixels (`detectors_px`).

    A pixel counts if inner <= distance from the centre < outer; [0, r] is a disc.
    """

    summed_with: ClassVar[tuple[str, ...]] = ("detectors", "detectors_px")

    detectors: dict[DetectorName, tuple[Radius, Radius]] = Field(default_factory=dict)
    detectors_px: dict[DetectorName, tuple[Radius, Radius]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _sound(self) -> Self:
        for name, (inner, outer) in {**self.detectors, **self.detectors_px}.items():
            if inner >= outer:
                raise ValueError(
                    f"{name}: must be [inner, outer] with inner below outer, not [{inner}, {outer}]"
                )
        count = len(self.detectors) + len(self.detectors_px)
        if count > MOST_DETECTORS:
            raise ValueError(
                f"{count} detectors are more than {MOST_DETECTORS}: sum many rings of a "
                "record with `stemd process`, some at a time"
            )
        both = set(self.detectors) & set(self.detectors_px)
        if both:
            raise ValueError(f"{sorted(both)}: given both in mrad and in pixels")
        return self

    def outputs(self, engine: str) -> tuple[str, ...]:
        """One image a detector."""
        return (*self.detectors, *self.detectors_px)

    def key_of(self, image: str) -> tuple[str, ...]:
        """Where the detector stands."""
        return ("detectors" if image in self.detectors else "detectors_px", image)

    def masks(self, optics: Optics) -> dict[str, tuple[float, float]]:
        """See EngineSettings. Raises ConfigError for radii in mrad without a pixel size."""
        if self.detectors and optics.pixel_size_mrad is None:
            raise ConfigError(
                "virtual detectors are given in mrad but optics.pixel_size_mrad is not set",
                "set optics.pixel_size_mrad, or give the radii in pixels as detectors_px",
            )
        size = optics.pixel_size_mrad or 1.0
        in_px = {name: (pair[0] / size, pair[1] / size) for name, pair in self.detectors.items()}
        return {**in_px, **self.detectors_px}


class VirtualDetectorEngine:
    """One image a detector, in counts, under the detector's own name."""

    def __init__(self, settings: VirtualDetectorSettings) -> None:
        self.name = settings.name or "virtual_detector"
        self._own = settings

    def start(self, acquisition: Acquisition, settings: Settings, maps: PositionMaps) -> None:
        """A scan begins."""
        self._acquisition, self._maps = acquisition, maps
        self._growing = Growing(maps)
        self.update(settings)

    def update(self, settings: Settings) -> None:
        """Radii changed: they hold for the positions that come from now on."""
        own = settings.engines.get(self.name, self._own)
        assert isinstance(own, VirtualDetectorSettings)
        self._own = own

    def consume(self, item: Positions | Block) -> None:
        """Remember what has come; the reduction has summed it."""
        assert isinstance(item, tuple)
        self._growing.came(*item)

    def snapshot(self, *, final: bool) -> Sequence[Result]:
        """The images, float32 (ny, nx), counts."""
        step = self._acquisition.scan.step_size_angstrom
        maps, scale = self._maps, np.float32(self._acquisition.detector.scale)
        sums = maps.detectors
        names = [n for n in (*self._own.detectors, *self._own.detectors_px) if n in sums]
        taken, parts = self._growing.take(names, final=final)
        images = dict(zip(names, taken, strict=True))
        for name, image in images.items():
            for first, stop in parts:
                image[first:stop] = maps.evened(sums[name], first, stop) * scale
        results = []
        extra: dict[str, Any]
        for unit, table in (("mrad", self._own.detectors), ("px", self._own.detectors_px)):
            for name, radii in table.items():
                if name in images:
                    image = images[name].reshape(maps.shape)
                    extra = {"inner": radii[0], "outer": radii[1], "radius_units": unit}
                    if before := maps.mixed.get(name):
                        extra["mixed"] = [dict(ring) for ring in before]
                    results.append(Result(name, image, "counts", "scan", step, extra))
        return results


PLUGIN = Plugin(
    name="virtual_detector",
    summary="bright-field, annular and any other round virtual detectors",
    settings=VirtualDetectorSettings,
    build=VirtualDetectorEngine,
)
