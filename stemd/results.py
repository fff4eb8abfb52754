"""Named images with units: what engines make and sinks take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition

Axes = Literal["scan", "detector"]


@dataclass(frozen=True, slots=True)
class Result:
    """One image of one engine, a copy that nobody writes to again.

    `image` is float32 (y, x), 0 where nothing has been scanned yet. `axes` says which plane it
    lives in: "scan" (one pixel a probe position, or a multiple) or "detector" (a pattern).
    `pixel_size` is in angstrom for scan axes and mrad for detector axes, None when unknown.
    `extra` is JSON-able and goes into every description of the image.
    """

    name: str
    image: NDArray[np.float32]
    units: str
    axes: Axes = "scan"
    pixel_size: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All results of an acquisition at one moment.

    `sequence` counts the snapshots of a pipeline; `positions_done` is what the images contain;
    `time_ns` is UTC since the epoch when the last of these positions was received.
    """

    acquisition: Acquisition
    results: Sequence[Result]
    positions_done: int
    positions_total: int
    final: bool
    sequence: int
    time_ns: int
    settings_revision: int
