"""PACBED: the position-averaged pattern, a running mean over the whole scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition
from stemd.blocks import Block, EventBlock, FrameBlock
from stemd.engines.base import Gathered, PositionMaps, Positions
from stemd.engines.kernels.events import add_to_pattern
from stemd.engines.kernels.patterns import add_patterns
from stemd.plugins import Plugin
from stemd.results import Result
from stemd.settings import EngineSettings, OfRepeats, Settings


class PacbedSettings(EngineSettings):
    """PACBED has no settings."""

    needs: ClassVar[Literal["patterns"]] = "patterns"
    of_repeats: ClassVar[OfRepeats] = "any"


class PacbedEngine:
    """`pacbed`: exact integer sum of all patterns, or hits, over the number of positions."""

    def __init__(self, settings: PacbedSettings) -> None:
        self.name = settings.name or "pacbed"

    def start(self, acquisition: Acquisition, settings: Settings, maps: PositionMaps) -> None:
        """A scan begins: the sum is allocated, int64 (height * width,)."""
        self._acquisition, self._settings, self._maps = acquisition, settings, maps
        height, width = acquisition.detector.shape
        self.sum: NDArray[np.int64] = np.zeros(height * width, np.int64)
        self.count = 0

    def update(self, settings: Settings) -> None:
        """A new calibration or acceptance time."""
        self._settings = settings

    def consume(self, item: Positions | Block) -> None:
        """Add a block's patterns, or its hits."""
        if isinstance(item, EventBlock):
            shape = self._acquisition.detector.shape
            image = self.sum.reshape(shape)
            acceptance_ns = self._settings.optics.acceptance_time_ns or 0.0
            add_to_pattern(item.probe, item.yx, item.dwell_ns, item.count, acceptance_ns, image)
            self.count += sum(stop - first for first, stop in item.complete)
            return
        assert isinstance(item, FrameBlock)
        like = np.empty(0, item.dtype)
        self.count += add_patterns(
            item.pixels,
            like,
            item.big_endian,
            item.pixel_offset,
            item.stride,
            item.count,
            item.probe,
            self.sum,
        )

    def merge(self, other: PacbedEngine) -> None:
        """Add the sum of another part of the same scan."""
        self.sum += other.sum
        self.count += other.count

    def gathers_by(self, settings: Settings) -> Mapping[str, Any]:
        """The acceptance time of electrons."""
        return {"acceptance_time_ns": settings.optics.acceptance_time_ns}

    def gathered(self) -> Gathered:
        """`sum` (height * width,) and `count`."""
        return {"sum": self.sum.copy(), "count": np.int64(self.count).reshape(1)}

    def restore(self, gathered: Gathered) -> None:
        """Take a sum back."""
        self.sum[:] = gathered["sum"]
        self.count = int(gathered["count"][0])

    def snapshot(self, *, final: bool) -> Sequence[Result]:
        """The mean pattern, float32 (height, width), counts a pattern; 0 where it is masked."""
        mean = self.sum * self._acquisition.detector.scale / max(1, self.count)
        image = mean.reshape(self._acquisition.detector.shape).astype(np.float32)
        if self._maps.masked is not None:
            image[self._maps.masked] = 0.0
        size = self._settings.optics.pixel_size_mrad
        extra = {"patterns": self.count}
        return [Result(self.name, image, "counts", "detector", size, extra)]


PLUGIN = Plugin(
    name="pacbed",
    summary="position-averaged pattern of the whole scan",
    settings=PacbedSettings,
    build=PacbedEngine,
)
