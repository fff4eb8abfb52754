"""Kernels of `restoration.distortions`: displaced lines, pulses that outlast their pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit

Image = NDArray[np.float32]
Series = NDArray[np.float64]
Field = NDArray[np.float64]


@njit(nogil=True, cache=True)
def ar1_recursion(innovations: Series, phi: float) -> Series:
    """out[j] = phi out[j-1] + innovations[j], beginning with 0 before the first; (n,) float64."""
    out = np.empty_like(innovations)
    previous = 0.0
    for j in range(innovations.size):
        previous = phi * previous + innovations[j]
        out[j] = previous
    return out


@njit(nogil=True, cache=True)
def _weights(t: float, cubic: bool, out: Series) -> None:
    """Weights of pixels -1, 0, 1, 2 at the fraction t between pixels 0 and 1."""
    if cubic:
        out[0] = ((-0.5 * t + 1.0) * t - 0.5) * t
        out[1] = (1.5 * t - 2.5) * t * t + 1.0
        out[2] = ((-1.5 * t + 2.0) * t + 0.5) * t
        out[3] = (0.5 * t - 0.5) * t * t
    else:
        out[0] = 0.0
        out[1] = 1.0 - t
        out[2] = t
        out[3] = 0.0


@njit(nogil=True, cache=True)
def displace(image: Image, dy: Series, dx: Series, cubic: bool, out: Image) -> None:
    """out[j, i] = image(j + dy[j], i + dx[j]), the edge value beyond the edges.

    image, out: float32 (ny, nx); dy, dx: float64 (ny,), in pixels, finite. Interpolates linearly,
    with `cubic` by Catmull-Rom, first along y into one line, then along x: 4 or 16
    multiplications a pixel.
    """
    ny, nx = image.shape
    wy = np.empty(4)
    wx = np.empty(4)
    line = np.empty(nx)
    for j in range(ny):
        # far outside, every pixel is the edge: the bound keeps the integers below in range
        y = min(max(j + dy[j], -4.0), ny + 4.0)
        shift = min(max(dx[j], -nx - 4.0), nx + 4.0)
        y0 = int(np.floor(y))
        _weights(y - y0, cubic, wy)
        line[:] = 0.0
        for m in range(4):
            row = image[min(max(y0 + m - 1, 0), ny - 1)]
            weight = wy[m]
            if weight != 0.0:
                for i in range(nx):
                    line[i] += weight * row[i]
        x0 = int(np.floor(shift))
        _weights(shift - x0, cubic, wx)
        for i in range(nx):
            total = 0.0
            for m in range(4):
                total += wx[m] * line[min(max(i + x0 + m - 1, 0), nx - 1)]
            out[j, i] = total


def sample(image: Image, y: Field, x: Field, cubic: bool) -> Image:
    """The image (ny, nx) at (j + y[j, i], i + x[j, i]): float32, as `displace`, for each pixel."""
    out = np.empty_like(image)
    _sample(image, y, x, cubic, out)
    return out


@njit(nogil=True, cache=True)
def _sample(image: Image, y: Field, x: Field, cubic: bool, out: Image) -> None:
    ny, nx = image.shape
    wy = np.empty(4)
    wx = np.empty(4)
    for j in range(ny):
        for i in range(nx):
            v = min(max(j + y[j, i], -4.0), ny + 4.0)
            u = min(max(i + x[j, i], -4.0), nx + 4.0)
            y0, x0 = int(np.floor(v)), int(np.floor(u))
            _weights(v - y0, cubic, wy)
            _weights(u - x0, cubic, wx)
            total = 0.0
            for m in range(4):
                if wy[m] != 0.0:
                    row = image[min(max(y0 + m - 1, 0), ny - 1)]
                    for k in range(4):
                        total += wy[m] * wx[k] * row[min(max(x0 + k - 1, 0), nx - 1)]
            out[j, i] = total


@njit(nogil=True, cache=True)
def smear(image: Image, kernel: NDArray[np.float32], out: Image) -> None:
    """out[j, i] = sum over m of kernel[m] image[j, i - m]; (ny, nx), kernel (n,), all float32.

    Before its first pixel a line has the mean of its first n pixels. Cost: n a pixel.
    """
    ny, nx = image.shape
    n = kernel.size
    for j in range(ny):
        before = 0.0
        for i in range(min(n, nx)):
            before += image[j, i]
        before /= max(1, min(n, nx))
        for i in range(nx):
            total = 0.0
            for m in range(n):
                total += kernel[m] * (image[j, i - m] if i >= m else before)
            out[j, i] = total
