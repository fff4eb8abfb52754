"""Slopes of the phase that the centre of mass gives, and where an image lies among them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Optics
from stemd.beam import Beam
from stemd.engines.base import PositionMaps
from stemd.engines.vectors import resolve_zero, shifts_from, to_scan_axes

F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Slopes:
    """Mean slope under the probe at the positions of some scan lines, radian an angstrom.

    `y`, `x` float32 (lines, nx), 0 where not `known`; `step` in angstrom.
    """

    y: F32
    x: F32
    known: NDArray[np.bool_]
    step: float

    def lines(self, first: int, stop: int) -> Slopes:
        """Only these scan lines."""
        part = slice(first, stop)
        return Slopes(self.y[part], self.x[part], self.known[part], self.step)


def slopes_of(
    maps: PositionMaps,
    optics: Optics,
    detector: tuple[int, int],
    beam: Beam,
    pixels_per_angle: float,
    step_angstrom: float,
) -> Slopes:
    """What the maps, which a run makes of all patterns, say of the phase's slopes.

    `detector`: its shape (y, x); `pixels_per_angle`: detector pixels a convergence semi-angle.
    """
    known = maps.done & (maps.total > 0)
    zero = resolve_zero(maps, optics, detector)
    radian = 2.0 * math.pi * beam.aperture / pixels_per_angle
    y, x = (
        np.where(known, radian * shift, 0.0).astype(np.float32).reshape(maps.shape)
        for shift in to_scan_axes(*shifts_from(maps, zero), optics)
    )
    return Slopes(y, x, known.reshape(maps.shape), step_angstrom)


@dataclass(frozen=True, slots=True)
class Frame:
    """Where an image lies: its pixel in angstrom, and `first` (y, x), the middle of pixel (0, 0)
    in angstrom from the first of the slopes' positions.
    """

    pixel: float
    first: tuple[float, float]


def near_known(shape: tuple[int, int], frame: Frame, slopes: Slopes) -> NDArray[np.bool_]:
    """Pixels (h, w) of an image whose nearest position has a known slope."""
    y, x = (
        np.clip(
            np.rint((frame.first[n] + frame.pixel * np.arange(shape[n])) / slopes.step),
            0, slopes.known.shape[n] - 1,
        ).astype(np.int64)
        for n in (0, 1)
    )  # fmt: skip
    return np.asarray(slopes.known[np.ix_(y, x)])
