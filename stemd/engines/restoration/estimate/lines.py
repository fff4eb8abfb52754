"""Displacements of scan lines, found by comparing an image with what it is thought to show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit
from stemd.engines.restoration.distortions import displace_lines

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

PHI = 0.5
"""Correlation of displacements from line to line that is expected (thesis 2.14)."""
PIECE_PX = 24
"""Pieces of a line that are compared: the even with the odd ones."""
CERTAIN = 2.5
"""Deviations of chance by which both halves of the lines must agree that these have moved."""
STEEPEST = 1.1
"""A line may be steeper by this factor, the mean noise being known so well."""
LOOKS = 4
"""Fits of a line whose weights are those of the last fit."""
LARGEST_Y_PX, LARGEST_X_PX = 1.0, 2.0
"""Standard deviations of displacements beyond which they are not believed."""


def displacements(
    image: F32, shown: F32, variance: F32, before: F64, *, own: bool = False
) -> tuple[F64, float]:
    """(ny, 2) shifts (y, x) in pixels such that line j of `image` is `shown` read there.

    `image`, `shown` (what there is to see, undisplaced) and `variance` (of the image's noise)
    are (ny, nx), `before` (ny, 2) are shifts to start from. Two steps of Gauss and Newton: each
    line's least squares, with a normal AR(1) prior along the lines (thesis 2.14) whose
    deviations are those that the lines themselves show beyond their noise. Where they show
    none, nothing moves. `own`: nor do they along y where neighbouring lines are moved alike, as
    those through columns that are not quite as they are shown.
    """
    slope_y, slope_x = (np.ascontiguousarray(part) for part in np.gradient(shown))
    weight = (1.0 / variance).astype(np.float32)
    shifts = before.copy()
    known = 0.0
    for _ in range(2):
        sy, sx = np.ascontiguousarray(shifts[:, 0]), np.ascontiguousarray(shifts[:, 1])
        seen, gy, gx = (
            displace_lines(part, sy, sx, cubic=True) for part in (shown, slope_y, slope_x)
        )
        information = np.empty((2, len(shifts), 2, 2))
        force = np.empty((2, len(shifts), 2))
        _normal_equations(image, seen, gy, gx, weight, information, force)
        pull = force + np.einsum("hnij,nj->hni", information, shifts)
        spread, excess = _agreed(pull, information)
        if own and not _each_its_own(pull[..., 0], information[..., 0, 0], excess):
            spread[0] = 0.0
        if max(spread) < 1e-4:
            return np.zeros_like(before), 0.0
        spread = np.clip(spread, 1e-4, (LARGEST_Y_PX, LARGEST_X_PX))
        shifts = _smoothed(
            information.sum(axis=0) / excess, pull.sum(axis=0) / excess, 1.0 / spread**2, PHI
        )
        each = np.einsum("hnaa->na", information).mean(axis=0) / excess
        known = float((each * spread**2).max())
    return shifts, known


def _agreed(pull: F64, information: F64) -> tuple[F64, float]:
    """Standard deviations (2,) of displacements along y and x, and what errors are too large by.

    `pull` (2, n, 2) and `information` (2, n, 2, 2) are those of two halves of each line, whose
    errors know nothing of each other: what both say is displacement, pull_1 pull_2 = i_1 i_2
    s^2 on average. The rest should be noise of variance i; where the image is not quite what is
    shown, it is more. What chance alone would often say is none.
    """
    diagonal = np.einsum("hnaa->hna", information)
    both = (pull[0] * pull[1]).sum(axis=0)
    known = (diagonal[0] * diagonal[1]).sum(axis=0)
    square = np.maximum(both / np.maximum(known, 1e-30), 0.0)
    noise = (pull**2 - diagonal**2 * square).sum()
    excess = max(float(noise / max(float(diagonal.sum()), 1e-30)), 1.0)
    certain = both > CERTAIN * excess * np.sqrt(known)
    return np.sqrt(square) * certain, excess


def _each_its_own(pull: F64, information: F64, excess: float) -> bool:
    """Whether lines are displaced apart from their neighbours, by both halves (2, n) and certainly.

    What both halves say is, of one line, s^2; of one half of a line and the other half of the next
    it is what neighbours have in common. Columns that are shown too wide, too narrow or too high
    push the lines through them one way above their middles and the other way below: smoothly, and
    in both halves.
    """
    same = (pull[0] * pull[1]).sum(), (information[0] * information[1]).sum()
    beside = [
        (each[0, 1:] * each[1, :-1]).sum() + (each[1, 1:] * each[0, :-1]).sum()
        for each in (pull, information)
    ]
    known, known_beside = max(same[1], 1e-30), max(beside[1], 1e-30)
    apart = same[0] / known - beside[0] / known_beside
    return bool(apart > CERTAIN * excess * np.sqrt(1.0 / known + 1.0 / known_beside))


@njit(nogil=True, cache=True)
def _normal_equations(
    image: F32, seen: F32, gy: F32, gx: F32, weight: F32, information: F64, force: F64
) -> None:
    """Information and force of the even and the odd pieces of each line, `PIECE_PX` long."""
    ny, nx = image.shape
    information[:] = 0.0
    force[:] = 0.0
    for j in range(ny):
        for first in range(0, nx, PIECE_PX):
            yy = yx = xx = fy = fx = 0.0
            for i in range(first, min(nx, first + PIECE_PX)):
                w, y, x = weight[j, i], gy[j, i], gx[j, i]
                r = w * (image[j, i] - seen[j, i])
                yy += w * y * y
                yx += w * y * x
                xx += w * x * x
                fy += r * y
                fx += r * x
            h = first // PIECE_PX % 2
            information[h, j, 0, 0] += yy
            information[h, j, 0, 1] += yx
            information[h, j, 1, 0] += yx
            information[h, j, 1, 1] += xx
            force[h, j, 0] += fy
            force[h, j, 1] += fx


@njit(nogil=True, cache=True)
def _smoothed(information: F64, pull: F64, prior: F64, phi: float) -> F64:
    """Most likely series s (n, 2): information s = pull, with an AR(1) prior; block elimination.

    The prior's inverse covariance has (1 + phi^2) c on the diagonal (c at both ends) and -phi c
    beside it, c = prior / (1 - phi^2), for each axis.
    """
    n = information.shape[0]
    c = prior / (1.0 - phi * phi)
    inverse = np.zeros((n, 2, 2))
    b = pull.copy()
    for j in range(n):
        d = information[j].copy()
        end = 1.0 if j == 0 or j == n - 1 else 1.0 + phi * phi
        for a in range(2):
            d[a, a] += end * c[a]
        if j > 0:
            for a in range(2):
                for e in range(2):
                    d[a, e] -= phi * phi * c[a] * c[e] * inverse[j - 1, a, e]
                    b[j, a] += phi * c[a] * inverse[j - 1, a, e] * b[j - 1, e]
        det = d[0, 0] * d[1, 1] - d[0, 1] * d[1, 0]
        inverse[j, 0, 0] = d[1, 1] / det
        inverse[j, 1, 1] = d[0, 0] / det
        inverse[j, 0, 1] = -d[0, 1] / det
        inverse[j, 1, 0] = -d[1, 0] / det
    s = np.zeros((n, 2))
    for j in range(n - 1, -1, -1):
        for a in range(2):
            for e in range(2):
                t = b[j, e]
                if j < n - 1:
                    t += phi * c[e] * s[j + 1, e]
                s[j, a] += inverse[j, a, e] * t
    return s


def noise_variance(image: F32, shown: F32) -> F32:
    """Variance of each pixel's noise (ny, nx): a line through squared residuals over brightness.

    Counting gives the slope, electronics the offset. Never below a tenth of the mean.
    """
    low, high = float(shown.min()), float(shown.max())
    count, bright, square = np.zeros(48), np.zeros(48), np.zeros(48)
    _histogram(image, shown, low, max(high - low, 1e-30), count, bright, square)
    mean = max(float(square.sum() / image.size), 1e-20)
    return variance_over_brightness(count, bright, square, shown, mean, image.size, 0.1)


def variance_over_brightness(
    count: F64,
    bright: F64,
    square: F64,
    shown: F32,
    mean: float,
    total: float,
    least: float,
    darkest: float = -np.inf,
    brightest: float = np.inf,
) -> F32:
    """Variance of each pixel (ny, nx): a line through mean squares over mean brightness.

    `count`, `bright`, `square`: how many of `total` pixels are in each bin of brightness, and sums
    over them. `mean`: of all squares; the line is never below `least` of it, nor steeper than one
    that is 0 at the `darkest` value, or, falling as in inverted contrast, at the `brightest`.
    """
    full = count >= max(16.0, 1e-4 * total)
    if full.sum() < 2:
        return np.full(shown.shape, mean, np.float32)
    n = count[full]
    x, v = bright[full] / n, square[full] / n
    line = np.full_like(v, mean)
    slope = offset = 0.0
    middle = float(shown.mean(dtype=np.float64))
    rising, falling = (
        STEEPEST * mean / light if 0.0 < light < np.inf else np.inf
        for light in (middle - darkest, brightest - middle)
    )
    # weights of the line itself: by their own squares, bins that are low by chance would count more
    for _ in range(LOOKS):
        w = n / np.square(np.maximum(line, 0.0) + 0.05 * mean)
        middle = float((w * x).sum() / w.sum())
        spread = float((w * (x - middle) ** 2).sum())
        slope = float((w * (x - middle) * v).sum() / spread) if spread > 0.0 else 0.0
        slope = min(max(slope, -falling), rising)
        offset = float((w * v).sum() / w.sum()) - slope * middle
        line = slope * x + offset
    variance: F32 = np.float32(slope) * shown + np.float32(offset)
    return np.maximum(variance, np.float32(least * mean))


@njit(nogil=True, cache=True)
def _histogram(
    image: F32, shown: F32, low: float, range_: float, count: F64, bright: F64, square: F64
) -> None:
    bins = count.size
    scale = bins / range_
    for j in range(image.shape[0]):
        for i in range(image.shape[1]):
            value = shown[j, i]
            k = min(bins - 1, int((value - low) * scale))
            r = image[j, i] - value
            count[k] += 1.0
            bright[k] += value
            square[k] += r * r


def moved_back(image: F32, shown: F32, shifts: F64) -> F32:
    """An image (ny, nx) without what `shifts` (ny, 2) do to what it shows: its noise as it was."""
    sy, sx = (np.ascontiguousarray(shifts[:, axis]) for axis in (0, 1))
    moved: F32 = image - (displace_lines(shown, sy, sx, cubic=True) - shown)
    return moved
