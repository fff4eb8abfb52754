"""The sum image: all counts of each pattern, the dose as the camera saw it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition
from stemd.blocks import Block
from stemd.engines.base import PositionMaps, Positions
from stemd.engines.growing import Growing, in_stretches
from stemd.plugins import Plugin
from stemd.results import DrawnResult, Result
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
        maps, step = self._maps, self._acquisition.scan.step_size_angstrom
        scale = np.float32(self._acquisition.detector.scale)

        def counts(first: int, stop: int) -> NDArray[np.float32]:
            return maps.evened(maps.total, first, stop) * scale

        if self._growing.drawn:
            drawing = self._growing.drawing(counts, final=final)
            return [DrawnResult(self.name, drawing, "counts", "scan", step)]
        image = in_stretches(counts, maps.total.size).reshape(maps.shape)
        return [Result(self.name, image, "counts", "scan", step)]


PLUGIN = Plugin(
    name="sum", summary="counts of each whole pattern", settings=SumSettings, build=SumEngine
)
