"""Virtual detectors: discs and annuli around the centre, summed by the reduction."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from stemd.acquisition import Acquisition, Optics
from stemd.blocks import Block
from stemd.engines.base import PositionMaps, Positions
from stemd.engines.growing import Growing, in_stretches
from stemd.errors import ConfigError
from stemd.plugins import Plugin
from stemd.results import DrawnResult, Result
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
        self._growing.anew()

    def consume(self, item: Positions | Block) -> None:
        """Remember what has come; the reduction has summed it."""
        assert isinstance(item, tuple)
        self._growing.came(*item)

    def snapshot(self, *, final: bool) -> Sequence[Result]:
        """The images, float32 (ny, nx), counts."""
        step, maps, growing = self._acquisition.scan.step_size_angstrom, self._maps, self._growing
        results: list[Result] = []
        extra: dict[str, Any]
        for unit, table in (("mrad", self._own.detectors), ("px", self._own.detectors_px)):
            for name, radii in table.items():
                if name not in maps.detector_names:
                    continue
                extra = {"inner": radii[0], "outer": radii[1], "radius_units": unit}
                if before := maps.mixed.get(name):
                    extra["mixed"] = [dict(ring) for ring in before]
                counts = partial(self._counts, name)
                if growing.drawn:
                    drawing = growing.drawing(counts, final=final)
                    results.append(DrawnResult(name, drawing, "counts", "scan", step, extra))
                    continue
                image = in_stretches(counts, maps.total.size).reshape(maps.shape)
                results.append(Result(name, image, "counts", "scan", step, extra))
        return results

    def _counts(self, name: str, first: int, stop: int) -> NDArray[np.float32]:
        sums = self._maps.detectors.get(name)
        if sums is None:  # it was taken out while somebody still looks at its last image
            return np.zeros(stop - first, np.float32)
        scale = np.float32(self._acquisition.detector.scale)
        return self._maps.evened(sums, first, stop) * scale


PLUGIN = Plugin(
    name="virtual_detector",
    summary="bright-field, annular and any other round virtual detectors",
    settings=VirtualDetectorSettings,
    build=VirtualDetectorEngine,
)
