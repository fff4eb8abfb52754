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
from stemd.engines.restoration.estimate.lines import displacements, noise_variance
from stemd.errors import UsageError

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

SMALLEST_PX = 8
"""Of an image with fewer lines, or shorter ones, nothing can be said."""
TURNS = 3
"""Looks at the lines: each begins from what the last one has found."""
PIECE_PX, WINDOW_PX = 16, 33
"""Pixels of a line that are compared with those beside them, and that are moved together."""
CERTAIN = 3.0
"""Deviations of chance by which neighbouring pieces must agree that they have moved."""
LARGEST_PX = 0.5
"""Deviation of displacements within a line beyond which they are not believed."""
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

    Both images are (ny, nx) in the same unit. First each line as a whole, then, within the line,
    one step of Gauss and Newton over windows of `WINDOW_PX`. How far anything moves beforehand is
    no constant: it is what parts of a line that know nothing of each other's noise agree on
    (`estimate.lines.displacements`). Where they do not agree on more than chance, nothing is
    moved at all. Raises UsageError when the shapes differ.
    """
    d, r = np.ascontiguousarray(distorted, np.float32), np.ascontiguousarray(restored, np.float32)
    if d.shape != r.shape or d.ndim != 2:
        raise UsageError(f"a distorted image of {d.shape} and a restored one of {r.shape}")
    if min(d.shape) < SMALLEST_PX:
        return Shifts(np.zeros(d.shape), np.zeros(d.shape))
    scale = float(np.abs(r).max()) or 1.0
    d, r = d / np.float32(scale), r / np.float32(scale)
    variance = noise_variance(d, r)
    lines = np.zeros((len(d), 2))
    for _ in range(TURNS):
        lines, worth = displacements(d, r, variance, lines, own=True)
        if worth == 0.0:
            break
    y = np.repeat(lines[:, :1], d.shape[1], 1)
    x = np.repeat(lines[:, 1:], d.shape[1], 1)
    more_y, more_x = _within_lines(d, r, y, x, variance)
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


def _within_lines(d: F32, r: F32, y: F64, x: F64, variance: F32) -> tuple[F64, F64]:
    """What is left of the displacement along each line, smooth over `WINDOW_PX`.

    Its spread is what pieces side by side agree on: <p q> = <i k> s^2 for their pulls p, q and
    information i, k, over all lines and for each axis.
    """
    half = 0.5
    weight = 1.0 / variance.astype(np.float64)
    left = d - _sampled(r, y, x)
    slopes = (
        _sampled(r, y + half, x) - _sampled(r, y - half, x),
        _sampled(r, y, x + half) - _sampled(r, y, x - half),
    )
    spread = []
    for slope in slopes:
        information, pull = _pieces(weight * slope * slope), _pieces(weight * slope * left)
        both = float((pull[:, 1:] * pull[:, :-1]).sum())
        known = float((information[:, 1:] * information[:, :-1]).sum())
        square = max(0.0, both / max(known, 1e-30))
        excess = float((pull**2).sum() - square * (information**2).sum())
        excess = max(1.0, excess / max(float(information.sum()), 1e-30))
        certain = both > CERTAIN * excess * np.sqrt(max(known, 1e-30))
        if slope is slopes[0]:
            certain &= _each_its_own(pull, information, excess)
        spread.append(min(square, LARGEST_PX**2) / excess if certain else 0.0)
    if not any(spread):
        return np.zeros_like(y), np.zeros_like(x)
    ridge_y, ridge_x = (1.0 / max(square, 1e-12) for square in spread)
    slope_y, slope_x = slopes
    yy = _windowed(weight * slope_y**2) + ridge_y
    xx = _windowed(weight * slope_x**2) + ridge_x
    xy = _windowed(weight * slope_y * slope_x)
    ly, lx = _windowed(weight * slope_y * left), _windowed(weight * slope_x * left)
    determinant = yy * xx - xy**2
    limit = 2.0 * LARGEST_PX
    more_y = np.clip((xx * ly - xy * lx) / determinant, -limit, limit)
    more_x = np.clip((yy * lx - xy * ly) / determinant, -limit, limit)
    return more_y, more_x


def _each_its_own(pull: F64, information: F64, excess: float) -> bool:
    """Whether pieces (ny, n) agree with those beside them by more than with those a line further.

    See `estimate.lines.displacements`, `own`: columns that are not quite as they are shown push
    neighbouring lines alike.
    """
    one, other, sum_one, sum_other = (
        (each[:, 1:] * each[:, :-1]).sum()
        if same
        else (each[1:, 1:] * each[:-1, :-1]).sum() + (each[1:, :-1] * each[:-1, 1:]).sum()
        for each in (pull, information)
        for same in (True, False)
    )
    known, beside = max(sum_one, 1e-30), max(sum_other, 1e-30)
    apart = one / known - other / beside
    return bool(apart > CERTAIN * excess * np.sqrt(1.0 / known + 1.0 / beside))


def _pieces(values: F64) -> F64:
    """Sums over pieces of each line, `PIECE_PX` long, (ny, pieces)."""
    edges = np.arange(0, values.shape[1], PIECE_PX)
    out: F64 = np.add.reduceat(values, edges, axis=1)
    return out


def _windowed(values: F64) -> F64:
    """Sum over the window around each pixel of a line."""
    half = WINDOW_PX // 2
    sums = np.cumsum(np.pad(values, ((0, 0), (half + 1, half))), axis=1)
    out: F64 = sums[:, WINDOW_PX:] - sums[:, :-WINDOW_PX]
    return out


def _sampled(image: F32, y: F64, x: F64) -> F64:
    """The image at (j + y, i + x), linear between pixels, its edge value beyond the edges."""
    out = np.empty(image.shape)
    _sample(image, y, x, out)
    return out


@njit(nogil=True, cache=True)
def _at(image: F32, y: float, x: float) -> float:
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
def _sample(image: F32, y: F64, x: F64, out: F64) -> None:
    for j in range(image.shape[0]):
        for i in range(image.shape[1]):
            out[j, i] = _at(image, j + y[j, i], i + x[j, i])
