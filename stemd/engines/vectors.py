"""From integer maps to centre-of-mass vectors: centre, flip and rotation (docs/conventions.md)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Optics
from stemd.engines.base import PositionMaps

F64 = NDArray[np.float64]


def centre_of_mass(maps: PositionMaps, first: int = 0, stop: int | None = None) -> tuple[F64, F64]:
    """COM (y, x) of positions first..stop-1 in detector pixels from pixel (0, 0).

    Thesis eq. 3.1: com = sum k I / sum I. NaN where a position is not done or has no counts.
    """
    part = slice(first, stop)
    counts = np.where(maps.done[part] & (maps.total[part] > 0), maps.total[part], np.nan)
    return maps.moment_y[part] / counts, maps.moment_x[part] / counts


def resolve_centre(
    maps: PositionMaps, optics: Optics, detector_shape: tuple[int, int]
) -> tuple[float, float]:
    """The zero of the COM (y, x) in detector pixels.

    Given, or with "auto" the mean COM of all positions done that have counts (the geometric
    centre of the detector while there is none).
    """
    if optics.center != "auto":
        return (float(optics.center[0]), float(optics.center[1]))
    com_y, com_x = centre_of_mass(maps)
    known = np.isfinite(com_y)
    if not known.any():
        return ((detector_shape[0] - 1) / 2, (detector_shape[1] - 1) / 2)
    return (float(com_y[known].mean()), float(com_x[known].mean()))


def shifts(
    maps: PositionMaps, centre: tuple[float, float], first: int = 0, stop: int | None = None
) -> tuple[F64, F64]:
    """COM minus centre (y, x) in detector axes and pixels; 0 where nothing is known."""
    com_y, com_x = centre_of_mass(maps, first, stop)
    return np.nan_to_num(com_y - centre[0]), np.nan_to_num(com_x - centre[1])


def to_scan_axes(shift_y: F64, shift_x: F64, optics: Optics) -> tuple[F64, F64]:
    """Turn vectors (y, x) from detector axes into scan axes.

    First the transpose if `flip`, then the rotation by theta = `rotation_deg`, counter-clockwise
    as displayed with y down: x' = x cos + y sin, y' = -x sin + y cos.
    """
    if optics.flip:
        shift_y, shift_x = shift_x, shift_y
    cos = math.cos(math.radians(optics.rotation_deg))
    sin = math.sin(math.radians(optics.rotation_deg))
    return -shift_x * sin + shift_y * cos, shift_x * cos + shift_y * sin
