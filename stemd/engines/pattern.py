"""The latest pattern: what the camera sees now."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition
from stemd.blocks import Block, EventBlock, FrameBlock
from stemd.engines.base import Gathered, PositionMaps, Positions
from stemd.engines.kernels.events import add_to_pattern
from stemd.plugins import Plugin
from stemd.results import Result
from stemd.settings import EngineSettings, OfRepeats, Settings


class PatternSettings(EngineSettings):
    """The latest pattern has no settings."""

    needs: ClassVar[Literal["patterns"]] = "patterns"
    of_repeats: ClassVar[OfRepeats] = "any"


class LatestPatternEngine:
    """`pattern`: the last pattern that belongs to a position; of an event camera, the hits of
    the newest block.

    Inline, because it costs nothing: it holds on to the newest block and copies one pattern
    when an image is asked for.
    """

    def __init__(self, settings: PatternSettings) -> None:
        self.name = settings.name or "pattern"
        self._lock = threading.Lock()
        self._block: Block | None = None
        self._index = 0
        self._restored: tuple[NDArray[np.float32], int] | None = None

    def start(self, acquisition: Acquisition, settings: Settings, maps: PositionMaps) -> None:
        """A scan begins."""
        self._acquisition, self._settings, self._maps = acquisition, settings, maps

    def update(self, settings: Settings) -> None:
        """A new calibration or acceptance time."""
        self._settings = settings

    def consume(self, item: Positions | Block) -> None:
        """Hold on to the block if it has a pattern, or hits, of a position."""
        if isinstance(item, EventBlock):
            if item.count and item.probe[item.count - 1] >= 0:
                item.retain()
                self._hold(item, item.count - 1)
            return
        assert isinstance(item, FrameBlock)
        index = item.count - 1
        while index >= 0 and item.probe[index] < 0:
            index -= 1
        if index >= 0:
            item.retain()
            self._hold(item, index)

    def _hold(self, block: Block | None, index: int = 0) -> None:
        with self._lock:
            old, self._block, self._index = self._block, block, index
            self._restored = None
            if old is not None:
                old.release()

    def merge(self, other: LatestPatternEngine) -> None:
        """Take over from the engine of a later part of the same scan, if that saw a pattern."""
        if other._block is not None:
            other._block.retain()
            self._hold(other._block, other._index)
            other._hold(None)
        elif other._restored is not None:
            self._hold(None)
            self._restored = other._restored

    def gathers_by(self, settings: Settings) -> Mapping[str, Any]:
        """The acceptance time of electrons."""
        return {"acceptance_time_ns": settings.optics.acceptance_time_ns}

    def gathered(self) -> Gathered:
        """`image` float32 (height, width) and the `position` it belongs to, if there is one."""
        latest = self._latest()
        if latest is None:
            return {}
        return {"image": latest[0], "position": np.int64(latest[1]).reshape(1)}

    def restore(self, gathered: Gathered) -> None:
        """Take a pattern back."""
        self._hold(None)
        if gathered:
            self._restored = gathered["image"], int(gathered["position"][0])

    def _latest(self) -> tuple[NDArray[np.float32], int] | None:
        with self._lock:
            block = self._block
            if block is None:
                return self._restored
            if isinstance(block, EventBlock):
                hits = np.zeros(self._acquisition.detector.shape, np.int64)
                accepted_ns = self._settings.optics.acceptance_time_ns or 0.0
                add_to_pattern(
                    block.probe, block.yx, block.dwell_ns, block.count, accepted_ns, hits
                )
                image = hits.astype(np.float32)
            else:
                image = block.patterns()[self._index].astype(np.float32)
                image *= np.float32(self._acquisition.detector.scale)
            return image, int(block.probe[self._index])

    def snapshot(self, *, final: bool) -> Sequence[Result]:
        """The pattern, float32 (height, width), counts; 0 where it is masked."""
        latest = self._latest()
        if latest is None:
            return []
        image, probe = latest
        if self._maps.masked is not None:
            image = np.where(self._maps.masked, np.float32(0.0), image)
        if final:
            self._hold(None)
        nx = self._acquisition.scan.shape[1]
        extra = {"position": [probe // nx, probe % nx]}
        size = self._settings.optics.pixel_size_mrad
        return [Result(self.name, image, "counts", "detector", size, extra)]


PLUGIN = Plugin(
    name="pattern",
    summary="the latest pattern",
    settings=PatternSettings,
    build=LatestPatternEngine,
)
