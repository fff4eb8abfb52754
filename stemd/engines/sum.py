"""The sum image: all counts of each pattern, the dose as the camera saw it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stemd.acquisition import Acquisition
from stemd.blocks import Block
from stemd.engines.base import PositionMaps, Positions
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

    def update(self, settings: Settings) -> None:
        """No setting changes a sum."""

    def consume(self, item: Positions | Block) -> None:
        """Nothing to do: the maps are the accumulators."""

    def snapshot(self, *, final: bool) -> Sequence[Result]:
        """The image, float32 (ny, nx), counts."""
        image = self._maps.evened(self._maps.total).reshape(self._maps.shape)
        image *= np.float32(self._acquisition.detector.scale)
        step = self._acquisition.scan.step_size_angstrom
        return [Result(self.name, image, "counts", "scan", step)]


PLUGIN = Plugin(
    name="sum", summary="counts of each whole pattern", settings=SumSettings, build=SumEngine
)
