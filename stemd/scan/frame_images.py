"""Which image of a place that is scanned several times shows best how its frames have moved."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.engines.base import PositionMaps
from stemd.engines.restoration.frames.aligned import Rigid

F32 = NDArray[np.float32]

FIELD = "com"
"""The divergence of the centre of mass: what remains where no detector shows anything."""
SUM = "sum"


def frame_image(maps: PositionMaps, shape: tuple[int, int], frame: int, name: str) -> F32:
    """An image (ny, nx) of one frame of the maps of all; what is missing has the mean."""
    part = slice(frame * shape[0] * shape[1], (frame + 1) * shape[0] * shape[1])
    done = maps.done[part]
    if name == FIELD:
        return _divergence(maps, shape, part)
    values = maps.total[part] if name == SUM else maps.detectors[name][part]
    image = values.astype(np.float32)
    if not done.all() and done.any():
        image[~done] = image[done].mean()
    return image.reshape(shape)


def best_image(maps: PositionMaps, shape: tuple[int, int], pair: list[int]) -> str:
    """The image in which two frames are most alike, once one is moved upon the other."""
    found = {}
    for name in (*maps.detector_names, SUM, FIELD):
        rigid = Rigid(shape)
        for frame in pair:
            rigid.add(frame_image(maps, shape, frame, name))
        found[name] = float(rigid.likeness()[-1])
    return max(found, key=lambda name: found[name])


def _divergence(maps: PositionMaps, shape: tuple[int, int], part: slice) -> F32:
    known = maps.done[part] & (maps.total[part] > 0)
    total = np.maximum(maps.total[part], 1)
    parts = []
    for moment in (maps.moment_y, maps.moment_x):
        mean = np.where(known, moment[part] / total, np.nan)
        middle = float(np.nanmean(mean)) if known.any() else 0.0
        parts.append(np.nan_to_num(mean - middle).reshape(shape))
    along_y, _ = np.gradient(parts[0])
    _, along_x = np.gradient(parts[1])
    divergence: F32 = np.asarray(along_y + along_x, np.float32)
    return divergence
