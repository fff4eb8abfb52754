"""Patterns on a small grid in units of the convergence semi-angle, turned into scan axes.

On such a grid the undiffracted disc is equally large for all cameras, energies and apertures, so
that one network, or one table of overlaps, serves them all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Optics
from stemd.errors import StemdError

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
SHARES = 64
"""Binned counts are in these parts of a count: whole numbers, so sums do not depend on order."""
_ACROSS = 8  # points across a detector pixel, _ACROSS**2 == SHARES


@dataclass(frozen=True, slots=True)
class DiffractionGrid:
    """Square pixels within a circle of `half` + 0.5 pixels about zero scattering angle.

    `per_angle`: pixels a convergence semi-angle. Pixel (y, x) of the square of 2 `half` + 1
    pixels is at the scattering vector ((y - half), (x - half)) / per_angle semi-angles.
    """

    half: int
    per_angle: float

    @property
    def side(self) -> int:
        """Pixels across the square that holds the circle."""
        return 2 * self.half + 1

    @property
    def members(self) -> NDArray[np.int64]:
        """Flat indices into the square of the pixels of the circle, ascending, (n,)."""
        y, x = np.indices((self.side, self.side)) - self.half
        return np.flatnonzero(np.hypot(y, x) <= self.half + 0.5)

    @property
    def vectors(self) -> NDArray[np.float64]:
        """Scattering vectors (n, 2), y and x in semi-angles, of the pixels of the circle."""
        y, x = np.divmod(self.members, self.side)
        return np.stack([y - self.half, x - self.half], axis=1) / self.per_angle

    def disc(self) -> F32:
        """Share of the electrons of an empty specimen in each pixel of the circle, sum 1.

        The part of the pixel's area that is inside the aperture, thesis eq. 4.2 with A = 1
        inside the semi-angle.
        """
        fine = 16
        part = ((np.arange(fine) + 0.5) / fine - 0.5) / self.per_angle
        points = self.vectors[:, None, None, :] + np.stack(np.meshgrid(part, part), axis=-1)
        inside = (np.hypot(points[..., 0], points[..., 1]) <= 1.0).mean(axis=(1, 2))
        return (inside / inside.sum()).astype(np.float32)


@dataclass(frozen=True, slots=True)
class GridTable:
    """Where each detector pixel goes: entry e adds `share[e]` / SHARES of detector pixel
    `source[e]` (flat) to grid pixel `target[e]` (index among the circle's pixels).

    `first` (height * width + 1,): entries of pixel p are first[p]..first[p+1]-1, for hits.
    `coverage` (n,): which part of a grid pixel's area lies on the detector, 0 to 1.
    """

    source: I32
    target: I32
    share: I32
    first: I32
    coverage: F32


def beam_angles(optics: Optics) -> tuple[float, float]:
    """(convergence semi-angle, detector pixel) in mrad. Raises StemdError if one is missing."""
    alpha, pixel = optics.convergence_semi_angle_mrad, optics.pixel_size_mrad
    for key, value in (("convergence_semi_angle_mrad", alpha), ("pixel_size_mrad", pixel)):
        if value is None:
            raise StemdError(
                f"optics.{key} is not set, and the phase cannot be had without it",
                f"set {key} in [pipeline.optics]",
            )
    assert alpha is not None
    assert pixel is not None
    return alpha, pixel


def grid_table(
    grid: DiffractionGrid,
    shape: tuple[int, int],
    center: tuple[float, float],
    pixels_per_angle: float,
    rotation_deg: float = 0.0,
    flip: bool = False,
) -> GridTable:
    """The table for a detector of `shape` whose zero angle is at `center` (y, x) in pixels.

    `pixels_per_angle`: detector pixels a convergence semi-angle. `flip` transposes, then
    `rotation_deg` turns detector axes into scan axes, as docs/conventions.md has it. A detector
    pixel is cut into 8 x 8 points, each of which goes to the grid pixel that it falls in.
    """
    height, width = shape
    step = (np.arange(_ACROSS) + 0.5) / _ACROSS - 0.5
    y = (np.arange(height)[:, None] + step - center[0]).reshape(-1)
    x = (np.arange(width)[:, None] + step - center[1]).reshape(-1)
    v, u = np.meshgrid(y, x, indexing="ij")
    if flip:
        v, u = u, v
    cosine, sine = math.cos(math.radians(rotation_deg)), math.sin(math.radians(rotation_deg))
    scale = grid.per_angle / pixels_per_angle
    row = np.rint((v * cosine - u * sine) * scale).astype(np.int64) + grid.half
    column = np.rint((v * sine + u * cosine) * scale).astype(np.int64) + grid.half
    place = np.full(grid.side**2, -1, np.int64)
    place[grid.members] = np.arange(grid.members.size)
    inside = (row >= 0) & (row < grid.side) & (column >= 0) & (column < grid.side)
    target = np.where(inside, place[np.where(inside, row * grid.side + column, 0)], -1)
    pixel = np.repeat(np.arange(height), _ACROSS)[:, None] * width
    pixel = pixel + np.repeat(np.arange(width), _ACROSS)[None, :]
    count = grid.members.size
    keep = target >= 0
    key, share = np.unique(pixel[keep] * count + target[keep], return_counts=True)
    source, goal = np.divmod(key, count)
    whole = (pixels_per_angle / grid.per_angle) ** 2 * SHARES
    coverage = np.bincount(goal, weights=share, minlength=count) / whole
    return GridTable(
        source.astype(np.int32),
        goal.astype(np.int32),
        share.astype(np.int32),
        np.searchsorted(source, np.arange(height * width + 1)).astype(np.int32),
        np.clip(coverage, 0.0, 1.0).astype(np.float32),
    )
