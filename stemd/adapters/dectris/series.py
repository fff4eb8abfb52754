"""What the messages of a series say that are no images, in either stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

PixelMask = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class SeriesStart:
    """A series begins.

    `frames` it will have, None: not told. `channels` in the order of the images. `masks`: the
    pixel mask of each channel, (height, width), 0 for good pixels; the legacy stream has one mask,
    of the channel "". `text`: all that is said of it, as JSON, without arrays.
    """

    series: int
    frames: int | None = None
    channels: tuple[str, ...] = ()
    masks: dict[str, PixelMask] = field(default_factory=dict)
    text: str = ""


@dataclass(frozen=True, slots=True)
class SeriesEnd:
    """A series is over."""

    series: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message that stemd has no use for; `nameless`: it does not say what it is."""

    kind: str
    nameless: bool = False


Said = SeriesStart | SeriesEnd | Unknown


def whole(value: Any) -> int | None:
    """A number of frames or of a series, None where it is none."""
    good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 48
    return value if good else None
