"""Where the beam really was: probe positions from a distorted image and its restored one.

T. Friedrich, PhD thesis, University of Antwerp 2023, figure 2.1: what moves the pixels of the
distorted image to where the restored one has them moves the patterns too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition
from stemd.compilation import njit
from stemd.engines.base import PositionMaps
from stemd.errors import UsageError

F64 = NDArray[np.float64]

REACH_Y_PX, REACH_X_PX, STEP_PX = 1.5, 4.0, 0.25
"""Displacements of a line that are looked at, in scan pixels."""
SIGMA_Y_PX, SIGMA_X_PX = 0.5, 1.0
"""Displacements of lines that are expected beforehand (standard deviations)."""
SIGMA_PIXEL_PX, WINDOW_PX = 0.25, 33
"""Displacements expected within a line, and over how many pixels one is found."""
LEAST_WEIGHT = 0.1
"""A grid point that gets less than this part of a pattern keeps the pattern of its own number."""


@dataclass(frozen=True, slots=True)
class Shifts:
    """Displacement of every probe position (ny, nx) in scan pixels, along y and x.

    The pattern of position (j, i) was recorded at (j + y[j, i], i + x[j, i]).
    """

    y: F64
    x: F64


def find_shifts(distorted: NDArray[Any], restored: NDArray[Any]) -> Shifts:
    """Shifts s such that distorted[j, i] is restored(j + s.y, i + s.x), as likely as possible.

    Both images are (ny, nx) in the same unit. First each line as a whole: least squares over a
    grid of displacements, to a fraction of its step by a parabola; then, within the line, one
    step of Gauss and Newton over windows of `WINDOW_PX`. Expected displacements enter as a
    normal prior, weighed against the noise that is left: where an image says nothing, nothing
    is moved. Raises UsageError when the shapes differ.
    """
    d, r = np.asarray(distorted, np.float64), np.asarray(restored, np.float64)
    if d.shape != r.shape or d.ndim != 2:
        raise UsageError(f"a distorted image of {d.shape} and a restored one of {r.shape}")
    steps_y = np.arange(-REACH_Y_PX, REACH_Y_PX + STEP_PX / 2, STEP_PX)
    steps_x = np.arange(-REACH_X_PX, REACH_X_PX + STEP_PX / 2, STEP_PX)
    costs = np.empty((d.shape[0], steps_y.size, steps_x.size))
    _line_costs(d, r, steps_y, steps_x, costs)
    # what the best displacement leaves is noise
    noise = max(float(np.median(costs.min(axis=(1, 2)))), 1e-12 * float(d.var()) + 1e-30)
    prior = (steps_y / SIGMA_Y_PX)[:, None] ** 2 + (steps_x / SIGMA_X_PX)[None, :] ** 2
    costs *= d.shape[1] / noise
    costs += prior
    line_y, line_x = _lowest(costs, steps_y, steps_x)
    y = np.repeat(line_y[:, None], d.shape[1], 1)
    x = np.repeat(line_x[:, None], d.shape[1], 1)
    more_y, more_x = _within_lines(d, r, y, x, noise)
    return Shifts(y + more_y, x + more_x)


def moved(acquisition: Acquisition, maps: PositionMaps, shifts: Shifts) -> PositionMaps:
    """The maps as if every pattern had been recorded where it belongs.

    Each position's numbers go to the four grid points around where it really was, by bilinear
    weights, and every grid point takes the weighted mean of what it got. The values are no
    longer whole: what comes of them is for final images only.
    """
    ny, nx = maps.shape
    y = np.arange(ny)[:, None] + shifts.y
    x = np.arange(nx)[None, :] + shifts.x
    weight = np.zeros(ny * nx)
    done = maps.done
    corners = []
    y0, x0 = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    for dy in (0, 1):
        for dx in (0, 1):
            share = (1.0 - np.abs(y - y0 - dy)) * (1.0 - np.abs(x - x0 - dx))
            inside = (y0 + dy >= 0) & (y0 + dy < ny) & (x0 + dx >= 0) & (x0 + dx < nx)
            keep = inside.ravel() & done
            target = ((y0 + dy) * nx + x0 + dx).ravel()[keep]
            corners.append((keep, target, share.ravel()[keep]))
            weight += np.bincount(target, share.ravel()[keep], ny * nx)
    alone = weight < LEAST_WEIGHT

    def spread(values: NDArray[Any]) -> Any:
        total = np.zeros(ny * nx)
        for keep, target, share in corners:
            total += np.bincount(target, share * values[keep], ny * nx)
        return np.where(alone, values, total / np.where(alone, 1.0, weight))

    result = PositionMaps(acquisition, maps.detector_names)
    result.total = spread(maps.total)
    result.moment_y, result.moment_x = spread(maps.moment_y), spread(maps.moment_x)
    result.detector_sums = np.stack([spread(sums) for sums in maps.detector_sums] or [weight[:0]])
    result.done = ~alone | done
    return result


def _lowest(costs: F64, steps_y: F64, steps_x: F64) -> tuple[F64, F64]:
    """The displacement of least cost of each line, between grid points by parabolas."""
    lines = np.arange(costs.shape[0])
    best = costs.reshape(lines.size, -1).argmin(1)
    # the parabola needs both neighbours
    iy = np.clip(best // steps_x.size, 1, steps_y.size - 2)
    ix = np.clip(best % steps_x.size, 1, steps_x.size - 2)
    middle = costs[lines, iy, ix]

    def offset(before: F64, after: F64) -> F64:
        bend = before - 2.0 * middle + after
        slope = np.where(bend > 0.0, (before - after) / (2.0 * np.where(bend > 0, bend, 1.0)), 0.0)
        return np.clip(slope, -1.0, 1.0) * STEP_PX

    shift_y = steps_y[iy] + offset(costs[lines, iy - 1, ix], costs[lines, iy + 1, ix])
    shift_x = steps_x[ix] + offset(costs[lines, iy, ix - 1], costs[lines, iy, ix + 1])
    return shift_y, shift_x


def _within_lines(d: F64, r: F64, y: F64, x: F64, noise: float) -> tuple[F64, F64]:
    """What is left of the displacement along each line, smooth over `WINDOW_PX`."""
    half = 0.5
    left = d - _sampled(r, y, x)
    slope_y = _sampled(r, y + half, x) - _sampled(r, y - half, x)
    slope_x = _sampled(r, y, x + half) - _sampled(r, y, x - half)
    ridge = noise / SIGMA_PIXEL_PX**2
    yy, xx = _windowed(slope_y**2) + ridge, _windowed(slope_x**2) + ridge
    xy = _windowed(slope_y * slope_x)
    ly, lx = _windowed(slope_y * left), _windowed(slope_x * left)
    determinant = yy * xx - xy**2
    limit = 2.0 * SIGMA_PIXEL_PX
    more_y = np.clip((xx * ly - xy * lx) / determinant, -limit, limit)
    more_x = np.clip((yy * lx - xy * ly) / determinant, -limit, limit)
    return more_y, more_x


def _windowed(values: F64) -> F64:
    """Sum over the window around each pixel of a line."""
    half = WINDOW_PX // 2
    sums = np.cumsum(np.pad(values, ((0, 0), (half + 1, half))), axis=1)
    out: F64 = sums[:, WINDOW_PX:] - sums[:, :-WINDOW_PX]
    return out


def _sampled(image: F64, y: F64, x: F64) -> F64:
    """The image at (j + y, i + x), linear between pixels, its edge value beyond the edges."""
    out = np.empty_like(image)
    _sample(image, y, x, out)
    return out


@njit(nogil=True, cache=True)
def _at(image: F64, y: float, x: float) -> float:
    ny, nx = image.shape
    y = min(max(y, 0.0), ny - 1.0)
    x = min(max(x, 0.0), nx - 1.0)
    y0, x0 = min(int(y), max(ny - 2, 0)), min(int(x), max(nx - 2, 0))
    y1, x1 = min(y0 + 1, ny - 1), min(x0 + 1, nx - 1)
    ty, tx = y - y0, x - x0
    upper = (1.0 - tx) * image[y0, x0] + tx * image[y0, x1]
    lower = (1.0 - tx) * image[y1, x0] + tx * image[y1, x1]
    return (1.0 - ty) * upper + ty * lower  # type: ignore[no-any-return]


@njit(nogil=True, cache=True)
def _sample(image: F64, y: F64, x: F64, out: F64) -> None:
    for j in range(image.shape[0]):
        for i in range(image.shape[1]):
            out[j, i] = _at(image, j + y[j, i], i + x[j, i])


@njit(nogil=True, cache=True)
def _line_costs(d: F64, r: F64, steps_y: F64, steps_x: F64, costs: F64) -> None:
    """costs[j, a, b]: mean square of d[j, i] - r(j + steps_y[a], i + steps_x[b]) over i."""
    ny, nx = d.shape
    line = np.empty(nx)
    for j in range(ny):
        for a in range(steps_y.size):
            for i in range(nx):
                line[i] = _at(r, j + steps_y[a], float(i))
            for b in range(steps_x.size):
                whole = int(np.floor(steps_x[b]))
                part = steps_x[b] - whole
                total = 0.0
                for i in range(nx):
                    i0 = min(max(i + whole, 0), nx - 1)
                    i1 = min(max(i + whole + 1, 0), nx - 1)
                    left = d[j, i] - (1.0 - part) * line[i0] - part * line[i1]
                    total += left * left
                costs[j, a, b] = total / nx
