"""Compiled drawing: columns, discs, cells and strokes added to an image in place."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Image = NDArray[np.float32]
Numbers = NDArray[np.float64]


@njit(nogil=True, cache=True)
def add_columns(
    image: Image, y: Numbers, x: Numbers, height: Numbers, sy: Numbers, sx: Numbers
) -> None:
    """image += sum over n of height[n] exp(-(dy/sy)^2/2 - (dx/sx)^2/2), to 3.6 widths.

    Positions and widths (standard deviations) are in pixels, all arrays (n,); positions may lie
    outside. Cost: one multiplication a pixel within reach of a column.
    """
    ny, nx = image.shape
    ey = np.empty(ny)
    for n in range(y.size):
        reach_y, reach_x = 3.6 * sy[n], 3.6 * sx[n]
        j0, j1 = max(0, int(np.ceil(y[n] - reach_y))), min(ny - 1, int(y[n] + reach_y))
        i0, i1 = max(0, int(np.ceil(x[n] - reach_x))), min(nx - 1, int(x[n] + reach_x))
        if j1 < j0 or i1 < i0:
            continue
        for j in range(j0, j1 + 1):
            d = (j - y[n]) / sy[n]
            ey[j] = height[n] * np.exp(-0.5 * d * d)
        for i in range(i0, i1 + 1):
            d = (i - x[n]) / sx[n]
            ex = np.exp(-0.5 * d * d)
            for j in range(j0, j1 + 1):
                image[j, i] += ey[j] * ex


@njit(nogil=True, cache=True)
def nearest_seed(
    shape: tuple[int, int], y: Numbers, x: Numbers, weight: Numbers, wy: Image, wx: Image
) -> NDArray[np.int32]:
    """Index of the seed nearest to each pixel (a Voronoi diagram), distances minus `weight`.

    `wy`, `wx` displace the pixel before it is compared, so that borders can be crooked.
    """
    out = np.empty(shape, np.int32)
    for j in range(shape[0]):
        for i in range(shape[1]):
            best = np.inf
            for n in range(y.size):
                dy = j + wy[j, i] - y[n]
                dx = i + wx[j, i] - x[n]
                d = np.sqrt(dy * dy + dx * dx) - weight[n]
                if d < best:
                    best = d
                    out[j, i] = n
    return out


@njit(nogil=True, cache=True)
def draw_shape(
    image: Image,
    centre: tuple[float, float],
    radii: tuple[float, float],
    angle: float,
    corners: Numbers,
    edge: float,
    profile: int,
    value: float,
    opaque: bool,
) -> None:
    """Draw one shape: an ellipse, or a polygon in an ellipse's frame, with a soft edge.

    In the frame where the ellipse is the unit circle, `corners` (k, 2) lists a convex polygon's
    half planes as (direction, distance); empty for the ellipse itself. `edge` is the width of
    the edge as a fraction of the radius. `profile` 0 is flat, 1 a sphere's thickness, 2 a cone,
    3 a gaussian, 4 a rim. `value` is added, or replaces what was there where `opaque`.
    """
    ny, nx = image.shape
    cos, sin = np.cos(angle), np.sin(angle)
    reach = max(radii) * (1.0 + 2.0 * edge) * (2.5 if profile == 3 else 1.5)
    j0, j1 = max(0, int(centre[0] - reach)), min(ny - 1, int(centre[0] + reach))
    i0, i1 = max(0, int(centre[1] - reach)), min(nx - 1, int(centre[1] + reach))
    for j in range(j0, j1 + 1):
        for i in range(i0, i1 + 1):
            dy, dx = j - centre[0], i - centre[1]
            v = (cos * dy + sin * dx) / radii[0]
            u = (cos * dx - sin * dy) / radii[1]
            if corners.shape[0] > 0:
                r = 0.0
                for n in range(corners.shape[0]):
                    r = max(
                        r, (v * np.cos(corners[n, 0]) + u * np.sin(corners[n, 0])) / corners[n, 1]
                    )
            else:
                r = np.sqrt(v * v + u * u)
            if profile == 3:
                cover = np.exp(-0.5 * (2.0 * r) ** 2)
            else:
                cover = min(1.0, max(0.0, 0.5 + (1.0 - r) / max(edge, 1e-3)))
            if cover <= 0.0:
                continue
            inside = 1.0
            if profile == 1:
                inside = np.sqrt(max(0.0, 1.0 - r * r))
            elif profile == 2:
                inside = max(0.0, 1.0 - r)
            elif profile == 4:
                inside = np.exp(-0.5 * ((1.0 - r) / 0.12) ** 2)
            if opaque:
                image[j, i] += cover * (value * inside - image[j, i])
            else:
                image[j, i] += cover * value * inside


@njit(nogil=True, cache=True)
def draw_stroke(
    image: Image, y: Numbers, x: Numbers, width: float, value: float, opaque: bool
) -> None:
    """Draw a polyline through points (n,) in pixels, `width` its gaussian half width."""
    ny, nx = image.shape
    reach = 3.0 * width + 1.0
    for n in range(y.size - 1):
        ay, ax, by, bx = y[n], x[n], y[n + 1], x[n + 1]
        length2 = max((by - ay) ** 2 + (bx - ax) ** 2, 1e-9)
        j0, j1 = max(0, int(min(ay, by) - reach)), min(ny - 1, int(max(ay, by) + reach))
        i0, i1 = max(0, int(min(ax, bx) - reach)), min(nx - 1, int(max(ax, bx) + reach))
        for j in range(j0, j1 + 1):
            for i in range(i0, i1 + 1):
                t = ((j - ay) * (by - ay) + (i - ax) * (bx - ax)) / length2
                # each piece owns the pixels beside it, its first end included: no pixel twice
                if t >= 1.0 or (t < 0.0 and n > 0):
                    continue
                t = max(t, 0.0)
                d2 = (j - ay - t * (by - ay)) ** 2 + (i - ax - t * (bx - ax)) ** 2
                cover = np.exp(-0.5 * d2 / (width * width))
                if cover < 0.01:
                    continue
                if opaque:
                    image[j, i] += cover * (value - image[j, i])
                else:
                    image[j, i] += cover * value
