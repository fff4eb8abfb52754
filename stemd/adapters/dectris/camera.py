"""What a stream and its record have in common: the camera's name, images' layout, the mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.dectris import legacy, stream2
from stemd.adapters.dectris.kernels import table
from stemd.adapters.dectris.series import PixelMask, Said
from stemd.adapters.frames.format import FrameLayout, plain_layout
from stemd.pixels import Mask

RAW_NAME = "raw.dectris"
START_NAME = "raw.start"
SHAPE = (table.HEIGHT, table.WIDTH, table.ITEM)
"""Columns in which images of one layout are alike."""


class DectrisCamera:
    """Implements adapters.frames.tracker.Numbered: images count from 0 in each series."""

    name = "dectris"
    raw_name = RAW_NAME
    first_number = 0
    turn = 0


def read_message(parts: Sequence[bytes]) -> Said:
    """A message of either stream that is no image. Raises FormatError."""
    old = parts[0].startswith(b"{")
    return legacy.read_message(parts) if old else stream2.read_message(parts[0])


def mask_of(masks: dict[str, PixelMask], channel: str) -> Mask | None:
    """Pixels (y, x) of the channel that have no value, None where nothing is said of them."""
    mask = masks.get(channel, next(iter(masks.values()), None))
    return None if mask is None else mask != 0


def layout_of(row: NDArray[np.int64]) -> FrameLayout:
    """Raises FormatError for a size that no frame has."""
    height, width, item = (int(row[k]) for k in SHAPE)
    kind = {1: "u1", 2: "u2", 4: "u4"}[item]
    return plain_layout(0, (height, width), kind, depth=8 * item, big_endian=False)  # type: ignore[arg-type]
