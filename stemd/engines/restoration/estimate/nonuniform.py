"""Fourier sums of an image at any frequencies, not only at those of the grid.

By fast Fourier transforms of a somewhat larger grid, and weighted means of their values around
each frequency: A. Dutt, V. Rokhlin, SIAM J. Sci. Comput. 14 (1993) 1368; the weights, an
exponential of a semicircle, are those of A. Barnett, J. Magland, L. af Klinteberg, SIAM J. Sci.
Comput. 41 (2019) C479. Relative to the sum of the magnitudes what comes out is exact to some
1e-6. It costs the transforms, whatever the number of frequencies, and no matrix product: those
of NumPy start threads that know nothing of the priority of the one they work for.

Positions (y, x) count from the image's middle, frequencies (n, 2) are in cycles a pixel along
y and x, between -0.5 and 0.5.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
C64 = NDArray[np.complex64]
C128 = NDArray[np.complex128]

WIDTH = 10
"""Points of the larger grid, along each axis, that a frequency is the weighted mean of."""
LARGER = 1.5
"""Points of the larger grid over the image's, at least."""
STEEP = 2.0 * WIDTH
"""Exponent of the weights: pi WIDTH (1 - 1 / (2 LARGER)) and a little less, as the paper has it."""


class Sums:
    """All sums of an image (ny, nx) with exp(-2 pi i (fy y + fx x)).

    Cost: one real Fourier transform of about 2.25 times the image, then some 100 operations a
    frequency.
    """

    def __init__(self, image: F32) -> None:
        ny, nx = image.shape
        (my, py), (mx, px) = _axis(ny), _axis(nx)
        lines = np.fft.rfft(image * (py[:, None] * px[None]), mx)
        columns = np.zeros((mx // 2 + 1, my), np.complex64)
        columns[:, :ny] = lines.T
        self._grid = np.fft.fft(columns, axis=1).astype(np.complex64, copy=False)
        self._larger = my, mx
        self._middle = 0.5 * (ny - 1), 0.5 * (nx - 1)

    def at(self, frequency: F64) -> C128:
        """The sums (n,) at frequencies (n, 2)."""
        out = np.empty((1, len(frequency)), np.complex128)
        _interpolate(self._grid, self._larger, self._middle, frequency, False, out)
        return out.reshape(-1)

    def moments(self, frequency: F64) -> C128:
        """The same sums with every pixel times its y, and times its x: (2, n)."""
        out = np.empty((2, len(frequency)), np.complex128)
        _interpolate(self._grid, self._larger, self._middle, frequency, True, out)
        return out


def superposed(frequency: F64, amplitude: C128, shape: tuple[int, int]) -> F32:
    """2 Re(sum over n of amplitude[n] exp(2 pi i (fy y + fx x))), (ny, nx) = `shape` float32."""
    ny, nx = shape
    if not len(amplitude):
        return np.zeros(shape, np.float32)
    (my, py), (mx, px) = _axis(ny), _axis(nx)
    grid = np.zeros((mx // 2 + 1, my), np.complex64)
    _spread(frequency, amplitude, (0.5 * (ny - 1), 0.5 * (nx - 1)), (my, mx), grid)
    lines = np.ascontiguousarray(np.fft.ifft(grid, axis=1)[:, :ny].T)
    image = np.fft.irfft(lines, mx)[:, :nx] * (py[:, None] * px[None] * np.float32(my * mx))
    return np.ascontiguousarray(image, np.float32)


@lru_cache(maxsize=16)
def _axis(size: int) -> tuple[int, F32]:
    """Points of the larger grid, a multiple of 2 with no prime factor above 5, and what pixels
    are multiplied by: one over the weights' own Fourier transform at their position.
    """
    larger = max(int(np.ceil(LARGER * size)), 2 * WIDTH)
    while larger % 2 or not _smooth(larger):
        larger += 1
    node, weight = np.polynomial.legendre.leggauss(48)
    half = 0.5 * WIDTH
    kernel = np.exp(STEEP * (np.sqrt(1.0 - node**2) - 1.0)) * weight * half
    position = np.arange(size) - 0.5 * (size - 1)
    waves = np.cos(2.0 * np.pi * np.outer(position, node * half) / larger)
    transform = (waves * kernel).sum(axis=1)
    return larger, (1.0 / transform).astype(np.float32)


def _smooth(n: int) -> bool:
    for prime in (2, 3, 5):
        while n % prime == 0:
            n //= prime
    return n == 1


@njit(nogil=True, cache=True)
def _weights(at: float, middle: float, larger: int, values: C128, slopes: C128) -> int:
    """Weights of `WIDTH` points around the position `at` of the larger grid, and their slopes.

    Each with the phase that moves the origin from the first pixel to the middle one. Returns
    the first point's number, which may lie outside the grid.
    """
    first = math.ceil(at - 0.5 * WIDTH)
    # plain numbers: a complex exponential takes longer to compile than all else here
    angle = 2.0 * np.pi * middle * first / larger
    phase = complex(math.cos(angle), math.sin(angle))
    angle = 2.0 * np.pi * middle / larger
    turn = complex(math.cos(angle), math.sin(angle))
    for t in range(WIDTH):
        u = (at - (first + t)) * (2.0 / WIDTH)
        root = math.sqrt(max(1.0 - u * u, 0.0))
        value = math.exp(STEEP * (root - 1.0))
        values[t] = value * phase
        # the weights end in a step of 1e-7, where their slope has no bound
        slope = -STEEP * u / root * (2.0 / WIDTH) if root > 0.02 else 0.0
        slopes[t] = slope * value * phase
        phase *= turn
    return first


@njit(nogil=True, cache=True)
def _interpolate(
    grid: C64,
    larger: tuple[int, int],
    middle: tuple[float, float],
    frequency: F64,
    moments: bool,
    out: C128,
) -> None:
    """Weighted means around each frequency into out (1, n), or of both slopes into out (2, n).

    `grid` is (points along x, points along y).
    The slope along f is -2 pi i times the sum of pixels times their position.
    """
    my, mx = larger
    vy, vx = np.empty(WIDTH, np.complex128), np.empty(WIDTH, np.complex128)
    sy, sx = np.empty(WIDTH, np.complex128), np.empty(WIDTH, np.complex128)
    to_moment = 0.5j / np.pi
    for n in range(frequency.shape[0]):
        y0 = _weights(frequency[n, 0] * my, middle[0], my, vy, sy)
        x0 = _weights(frequency[n, 1] * mx, middle[1], mx, vx, sx)
        value = along_y = along_x = 0j
        for t in range(WIDTH):
            line = slope = 0j
            j = (y0 + t) % my
            for s in range(WIDTH):
                i = (x0 + s) % mx
                if 2 * i <= mx:
                    point = np.complex128(grid[i, j])
                else:
                    point = np.complex128(np.conj(grid[mx - i, (my - j) % my]))
                line += vx[s] * point
                slope += sx[s] * point
            value += vy[t] * line
            along_y += sy[t] * line
            along_x += vy[t] * slope
        if moments:
            out[0, n] = along_y * (my * to_moment)
            out[1, n] = along_x * (mx * to_moment)
        else:
            out[0, n] = value


@njit(nogil=True, cache=True)
def _spread(
    frequency: F64,
    amplitude: C128,
    middle: tuple[float, float],
    larger: tuple[int, int],
    grid: C64,
) -> None:
    """Add each wave and its mirror image to the half of the larger grid that is kept."""
    my, mx = larger
    vy, vx = np.empty(WIDTH, np.complex128), np.empty(WIDTH, np.complex128)
    unused = np.empty(WIDTH, np.complex128)
    for n in range(frequency.shape[0]):
        y0 = _weights(frequency[n, 0] * my, middle[0], my, vy, unused)
        x0 = _weights(frequency[n, 1] * mx, middle[1], mx, vx, unused)
        for t in range(WIDTH):
            j = (y0 + t) % my
            mirrored_j = (my - j) % my
            line = amplitude[n] * np.conj(vy[t])
            for s in range(WIDTH):
                i = (x0 + s) % mx
                value = np.complex64(line * np.conj(vx[s]))
                if 2 * i <= mx:
                    grid[i, j] += value
                mirrored_i = (mx - i) % mx
                if 2 * mirrored_i <= mx:
                    grid[mirrored_i, mirrored_j] += np.conj(value)
