"""The sum image: all counts of each pattern, the dose as the camera saw it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stemd.acquisition import Acquisition
from stemd.blocks import Block
from stemd.engines.base import PositionMaps, Positions
from stemd.engines.growing import Growing
from stemd.plugins import Plugin
from stemd.results import Result
from stemd.settings import EngineSettings, Settings


class SumSettings(EngineSettings):
    """The sum has no settings."""


class SumEngine:
    """`sum`, in counts."""

    def __init__(self, settings: SumSettings) -> None:
        self.name = settings.name or "sum"

    def start(self, acquisition: Acquisition, settings: Settings, maps: PositionMaps) -> None:
        """A scan begins."""
        self._acquisition, self._maps = acquisition, maps
        self._growing = Growing(maps)

    def update(self, settings: Settings) -> None:
        """No setting changes a sum."""

    def consume(self, item: Positions | Block) -> None:
        """Remember what has come; the maps are the accumulators."""
        assert isinstance(item, tuple)
        self._growing.came(*item)

    def snapshot(self, *, final: bool) -> Sequence[Result]:
        """The image, float32 (ny, nx), counts."""
        (image,), parts = self._growing.take((self.name,), final=final)
        scale = np.float32(self._acquisition.detector.scale)
        for first, stop in parts:
            image[first:stop] = self._maps.evened(self._maps.total, first, stop) * scale
        image = image.reshape(self._maps.shape)
        step = self._acquisition.scan.step_size_angstrom
        return [Result(self.name, image, "counts", "scan", step)]


PLUGIN = Plugin(
    name="sum", summary="counts of each whole pattern", settings=SumSettings, build=SumEngine
)
