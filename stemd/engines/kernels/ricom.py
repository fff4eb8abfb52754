"""riCOM kernels: the window of eq. 3.4, its band-pass, and adding positions to an image."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


def ricom_kernel(
    size: int, band_pass: tuple[float, float] | None = None, image_size: int = 0
) -> tuple[F64, F64]:
    """The (y, x) components of the n x n integration kernel, float64, indexed by d + n//2.

    Thesis eq. 3.4 with a = 1 and distances in scan pixels: K(d) = d / (2 pi |d|^2), K(0) = 0,
    for a contribution *from* a position *to* the pixel at distance d = (dy, dx) from it.
    `band_pass` (k_min, k_max) in inverse pixels of an `image_size`-pixel image (eq. 3.8, 3.9):
    the kernel convolved with the inverse Fourier transform of the ring k_min <= |k| <= k_max,
    cropped back to n x n.
    """
    half = size // 2
    dy, dx = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    square = dy**2 + dx**2
    square[half, half] = 1.0
    kernel_y, kernel_x = dy / (2 * math.pi * square), dx / (2 * math.pi * square)
    if band_pass is None:
        return kernel_y, kernel_x
    grid = max(size, image_size)
    frequency = np.fft.fftfreq(grid) * image_size
    radius = np.hypot(frequency[:, None], frequency[None, :])
    ring = (radius >= band_pass[0]) & (radius <= band_pass[1])

    def filtered(kernel: F64) -> F64:
        padded = np.zeros((grid, grid))
        padded[:size, :size] = kernel
        back = np.fft.ifft2(np.fft.fft2(padded) * ring).real
        return np.ascontiguousarray(back[:size, :size])

    return filtered(kernel_y), filtered(kernel_x)


TOGETHER = 4
"""Neighbouring positions of a line that are added in one go over the image."""


def padded(kernel: F64) -> F32:
    """A kernel component as `add_positions` wants it: float32, zeros on both sides of each row."""
    return np.pad(kernel, ((0, 0), (TOGETHER - 1, TOGETHER - 1))).astype(np.float32)


@njit(nogil=True, cache=True, fastmath={"contract"})
def add_positions(image, kernel_y, kernel_x, first, stop, vector_y, vector_x):
    """Add the riCOM contributions of positions first..stop-1 (flat, row-major) to an image.

    Eq. 3.4 from the position's side: image[r + d] += K_y(d) v_y(r) + K_x(d) v_x(r) for all d in
    the window; what falls outside the image is dropped. image: float32 (ny, nx), added to;
    kernel_y, kernel_x: float32 (n, n + 6) from `padded`; vector_y, vector_x: float32
    (stop - first,) COM shifts in scan axes. Four positions of a line share each load and store
    of the image: n (n + 3) / 4 of these and 2 n (n + 3) multiply-adds a position.
    """
    ny, nx = image.shape
    half = kernel_y.shape[0] // 2
    position = first
    while position < stop:
        y, x = position // nx, position % nx
        count = min(TOGETHER, nx - x, stop - position)
        at = position - first
        y0, x0 = vector_y[at], vector_x[at]
        y1 = x1 = y2 = x2 = y3 = x3 = np.float32(0.0)
        if count > 1:
            y1, x1 = vector_y[at + 1], vector_x[at + 1]
        if count > 2:
            y2, x2 = vector_y[at + 2], vector_x[at + 2]
        if count > 3:
            y3, x3 = vector_y[at + 3], vector_x[at + 3]
        left, right = max(0, x - half), min(nx, x + half + TOGETHER)
        shift = left - x + half
        width = right - left
        for row in range(max(0, y - half), min(ny, y + half + 1)):
            line = image[row, left:right]
            ky = kernel_y[row - y + half, shift : shift + width + 3]
            kx = kernel_x[row - y + half, shift : shift + width + 3]
            for i in range(width):
                line[i] += (
                    ky[i + 3] * y0
                    + kx[i + 3] * x0
                    + ky[i + 2] * y1
                    + kx[i + 2] * x1
                    + ky[i + 1] * y2
                    + kx[i + 1] * x2
                    + ky[i] * y3
                    + kx[i] * x3
                )
        position += count


LINES = 256
"""Of an image of more than twice as many, so many are integrated at once."""

Lines = Callable[[int, int], tuple[F64, F64]]
"""Gives the vectors (y, x) of lines first..stop-1, each (stop - first, nx)."""


def lines_of(vector_y: F64, vector_x: F64) -> tuple[Lines, tuple[int, int]]:
    """A whole vector field (ny, nx) as `integrate` wants it: its lines, and its shape."""
    ny, nx = vector_y.shape
    return lambda first, stop: (vector_y[first:stop], vector_x[first:stop]), (ny, nx)


def integrate(lines: Lines, shape: tuple[int, int], kernel_y: F64, kernel_x: F64) -> F32:
    """The riCOM image (ny, nx) of a whole vector field, by fast Fourier transform in float64.

    lines: COM shifts in scan axes, 0 where unknown. The same sum as `add_positions` (no
    wrap-around: the transform is padded by the kernel's reach). Large images are made strip by
    strip, with the lines that reach into the strip, so that memory is bounded by the strip's.
    """
    ny, nx = shape
    half_y = min(kernel_y.shape[0] // 2, ny - 1)
    half_x = min(kernel_y.shape[1] // 2, nx - 1)
    middle = kernel_y.shape[0] // 2
    window = np.s_[middle - half_y : middle + half_y + 1, middle - half_x : middle + half_x + 1]
    height = max(LINES, 4 * half_y)
    height = ny if ny <= 2 * height else height
    reach = ny if height == ny else height + 2 * half_y
    size = fast_length(reach + 2 * half_y), fast_length(nx + 2 * half_x)
    of_y, of_x = (np.fft.rfft2(kernel[window], size) for kernel in (kernel_y, kernel_x))
    image = np.empty(shape, np.float32)
    for first in range(0, ny, height):
        stop = min(ny, first + height)
        above = max(0, first - half_y)
        vector_y, vector_x = lines(above, min(ny, stop + half_y))
        spectrum = np.fft.rfft2(vector_y, size)
        spectrum *= of_y
        other = np.fft.rfft2(vector_x, size)
        other *= of_x
        spectrum += other
        begin = half_y + first - above
        strip = np.fft.irfft2(spectrum, size)
        image[first:stop] = strip[begin : begin + stop - first, half_x : half_x + nx]
    return image


def fast_length(n: int) -> int:
    """The smallest even number >= n whose only prime factors are 2, 3 and 5."""
    n += n % 2
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 2
