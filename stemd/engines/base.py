"""What an engine is, and the integer maps that all position-wise engines share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition
from stemd.blocks import Block
from stemd.results import Result
from stemd.settings import EngineSettings, Settings

Run = tuple[int, int]
"""Probe positions first..stop-1 (flat indices) that are complete."""


class PositionMaps:
    """What one pass over the patterns leaves of a scan: a few integers a probe position.

    Flat (ny*nx,) int64: `total` = sum I, `moment_y` = sum y I, `moment_x` = sum x I (detector
    pixels from pixel (0, 0)), `done`, and `detectors[name]` = sum of I over a virtual detector.
    Integers make the maps exact and additive: any split of the scan into blocks, threads or
    machines gives the same maps, and every image that follows from them is recomputed from them.
    The reader thread writes a position once; engines read it after they were told it is done.
    """

    def __init__(self, acquisition: Acquisition, detectors: Sequence[str] = ()) -> None:
        self.shape = acquisition.scan.shape
        n = acquisition.scan.positions
        self.total: NDArray[np.int64] = np.zeros(n, np.int64)
        self.moment_y: NDArray[np.int64] = np.zeros(n, np.int64)
        self.moment_x: NDArray[np.int64] = np.zeros(n, np.int64)
        self.done: NDArray[np.bool_] = np.zeros(n, np.bool_)
        self.detectors: dict[str, NDArray[np.int64]] = {
            name: np.zeros(n, np.int64) for name in detectors
        }


class Engine(Protocol):
    """Turns positions or patterns into results. Runs in one thread and owns its accumulators.

    `needs` says what it is given: "positions" (runs of complete positions of the maps) or
    "patterns" (whole blocks). `policy` is for pattern engines: "required" makes the camera wait
    when the engine is behind, "best_effort" skips blocks, counted; "inline" runs in the reader
    thread while the block is in cache and must be quick.
    """

    needs: ClassVar[Literal["positions", "patterns"]]
    policy: ClassVar[Literal["required", "best_effort", "inline"]]
    name: str

    def start(self, acquisition: Acquisition, settings: Settings, maps: PositionMaps) -> None:
        """A scan begins. All memory that the engine needs is allocated here."""
        ...

    def update(self, settings: Settings) -> None:
        """Settings changed in mid-scan; called between two `consume`."""
        ...

    def consume(self, item: Run | Block) -> None:
        """A run of positions, or a block that must not be kept without `retain`."""
        ...

    def snapshot(self, *, final: bool) -> Sequence[Result]:
        """Copies of the images as they are; exact when `final`."""
        ...

    def result_names(self, settings: EngineSettings) -> Sequence[str]:
        """Names of the images that this engine makes with these settings."""
        ...
