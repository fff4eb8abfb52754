"""Which image of a place that is scanned several times shows best how its frames have moved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stemd.engines.base import PositionMaps
from stemd.engines.restoration.frames.rigid import Rigid

F32 = NDArray[np.float32]

FIELD = "com"
"""The centre of mass along wave vectors: what remains where no detector shows anything."""
SUM = "sum"
MOST = 8
"""Frames that are compared to choose an image."""


def frame_image(maps: PositionMaps, shape: tuple[int, int], frame: int, name: str) -> F32:
    """An image (ny, nx) of one frame of the maps of all; what is missing has the mean."""
    part = slice(frame * shape[0] * shape[1], (frame + 1) * shape[0] * shape[1])
    done = maps.done[part]
    if name == FIELD:
        return _field(maps, shape, part)
    values = maps.total[part] if name == SUM else maps.detectors[name][part]
    image = values.astype(np.float32)
    if not done.all() and done.any():
        image[~done] = image[done].mean()
    return image.reshape(shape)


def best_image(maps: PositionMaps, shape: tuple[int, int], frames: Sequence[int]) -> str:
    """The image in which frames are most clearly alike, once they are moved upon each other.

    The first two; where chance may have said so, up to `MOST` of them.
    """
    found: dict[str, float] = {}
    for chosen in dict.fromkeys((tuple(frames[:2]), tuple(frames[:MOST]))):
        by_chance = 0.0
        for name in (*maps.detector_names, SUM, FIELD):
            rigid = Rigid(shape)
            for frame in chosen:
                rigid.add(frame_image(maps, shape, frame, name))
            rigid.settle()
            found[name], by_chance = float(np.median(rigid.clear())), rigid.by_chance
        if max(found.values()) > by_chance:
            break
    return max(found, key=lambda name: found[name])


def _field(maps: PositionMaps, shape: tuple[int, int], part: slice) -> F32:
    """The field's part along its wave vector, whose noise is white: that of a gradient is not."""
    known = maps.done[part] & (maps.total[part] > 0)
    total = np.maximum(maps.total[part], 1)
    parts = []
    for moment in (maps.moment_y, maps.moment_x):
        mean = np.where(known, moment[part] / total, np.nan)
        middle = float(np.nanmean(mean)) if known.any() else 0.0
        parts.append(np.fft.rfft2(np.nan_to_num(mean - middle).reshape(shape)))
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
    along = 1j * (fy * parts[0] + fx * parts[1]) / np.maximum(np.hypot(fy, fx), 1e-9)
    return np.fft.irfft2(along, shape).astype(np.float32)
