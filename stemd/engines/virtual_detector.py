"""Virtual detectors: discs and annuli around the centre, summed by the reduction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from stemd.acquisition import Acquisition
from stemd.blocks import Block
from stemd.engines.base import PositionMaps, Positions
from stemd.plugins import Plugin
from stemd.results import Result
from stemd.settings import EngineSettings, Settings

Radius = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
DetectorName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
RESERVED = frozenset(
    (
        *("com_y", "com_x", "field_magnitude", "field_direction"),
        *("ricom", "icom", "sum", "pacbed", "pattern", "ssb_phase"),
    )
)


class VirtualDetectorSettings(EngineSettings):
    """{name: [inner, outer]} in mrad (`detectors`) or detector pixels (`detectors_px`).

    A pixel counts if inner <= distance from the centre < outer; [0, r] is a disc.
    """

    detectors: dict[DetectorName, tuple[Radius, Radius]] = Field(default_factory=dict)
    detectors_px: dict[DetectorName, tuple[Radius, Radius]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _sound(self) -> Self:
        for name, (inner, outer) in {**self.detectors, **self.detectors_px}.items():
            if inner >= outer:
                raise ValueError(
                    f"{name}: must be [inner, outer] with inner below outer, not [{inner}, {outer}]"
                )
            if name in RESERVED:
                raise ValueError(f"{name}: is the name of another image, choose another")
        both = set(self.detectors) & set(self.detectors_px)
        if both:
            raise ValueError(f"{sorted(both)}: given both in mrad and in pixels")
        return self


class VirtualDetectorEngine:
    """One image a detector, in counts, under the detector's own name."""

    needs: ClassVar[Literal["positions", "patterns"]] = "positions"

    def __init__(self, settings: VirtualDetectorSettings) -> None:
        self.name = settings.name or "virtual_detector"
        self._own = settings

    def start(self, acquisition: Acquisition, settings: Settings, maps: PositionMaps) -> None:
        """A scan begins."""
        self._acquisition, self._maps = acquisition, maps
        self.update(settings)

    def update(self, settings: Settings) -> None:
        """Radii changed: they hold for the positions that come from now on."""
        own = settings.engines.get(self.name, self._own)
        assert isinstance(own, VirtualDetectorSettings)
        self._own = own

    def consume(self, item: Positions | Block) -> None:
        """Nothing to do: the reduction has summed them."""

    def snapshot(self, *, final: bool) -> Sequence[Result]:
        """The images, float32 (ny, nx), counts."""
        step = self._acquisition.scan.step_size_angstrom
        shape = self._maps.shape
        sums = self._maps.detectors
        results = []
        for unit, table in (("mrad", self._own.detectors), ("px", self._own.detectors_px)):
            for name, radii in table.items():
                if name in sums:
                    image = sums[name].reshape(shape).astype(np.float32)
                    extra = {"inner": radii[0], "outer": radii[1], "radius_units": unit}
                    results.append(Result(name, image, "counts", "scan", step, extra))
        return results


PLUGIN = Plugin(
    name="virtual_detector",
    summary="bright-field, annular and any other round virtual detectors",
    settings=VirtualDetectorSettings,
    build=VirtualDetectorEngine,
)
