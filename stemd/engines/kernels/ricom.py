"""riCOM kernels: the window of eq. 3.4, its band-pass, and adding positions to an image."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit
from stemd.engines.kernels.window_rows import BLOCK, TOGETHER, add_two_rows, make_two_rows

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


def padded(kernel: F64) -> F32:
    """A kernel component as `add_positions` wants it: float32, zeros on both sides of each row."""
    blocks = -(-(kernel.shape[1] + TOGETHER - 1) // BLOCK)
    right = blocks * BLOCK - kernel.shape[1]
    return np.pad(kernel, ((0, 0), (TOGETHER - 1, right))).astype(np.float32)


@njit(nogil=True, cache=True)
def _add(values, first, pixels, to, count):
    """Add some numbers to some others, which are in another array."""
    for i in range(count):
        pixels[np.uintp(to + i)] += values[np.uintp(first + i)]


@njit(nogil=True, cache=True)
def add_positions(image, kernel_y, kernel_x, first, stop, vector_y, vector_x):
    """Add the riCOM contributions of positions first..stop-1 (flat, row-major) to an image.

    Eq. 3.4 from the position's side: image[r + d] += K_y(d) v_y(r) + K_x(d) v_x(r) for all d in
    the window; what falls outside the image is dropped. image: float32 (ny, nx), added to;
    kernel_y, kernel_x: float32 (n, n + 3 and more) from `padded`, odd and even along y;
    vector_y, vector_x: float32 (stop - first,) COM shifts in scan axes. Four positions of a line,
    and the rows above and below, share each load: n (n + 3) multiply-adds a position.
    """
    ny, nx = image.shape
    half, long = kernel_y.shape[0] // 2, kernel_y.shape[1]
    blocks = long // BLOCK
    wide = blocks * BLOCK
    pixels, k_y, k_x = image.reshape(-1), kernel_y.reshape(-1), kernel_x.reshape(-1)
    vectors, room = np.zeros(2 * TOGETHER, np.float32), np.zeros(2 * wide, np.float32)
    position = first
    while position < stop:
        y, x = position // nx, position % nx
        count = min(TOGETHER, nx - x, stop - position)
        for p in range(TOGETHER):
            at = position - first + p
            vectors[p] = vector_y[at] if p < count else np.float32(0.0)
            vectors[TOGETHER + p] = vector_x[at] if p < count else np.float32(0.0)
        left = x - half
        inside = left >= 0 and left + wide <= nx
        skipped, stopped = max(0, -left), min(wide, nx - left)
        block = skipped // BLOCK * BLOCK
        some = (stopped - block + BLOCK - 1) // BLOCK
        for d in range(half + 1):
            below, above = y + d < ny, d > 0 and y >= d
            if not (below or above):
                break
            kernel, under, over = (half + d) * long, (y + d) * nx + left, (y - d) * nx + left
            if inside and below and above:
                add_two_rows(k_y, k_x, kernel, vectors, blocks, pixels, under, pixels, over)
                continue
            make_two_rows(
                k_y, k_x, kernel + block, vectors, some, room, block, room, wide + block
            )  # fmt: skip
            if below:
                _add(room, skipped, pixels, under + skipped, stopped - skipped)
            if above:
                _add(room, wide + skipped, pixels, over + skipped, stopped - skipped)
        position += count


LINES = 256
"""Of an image of more than twice as many, so many are integrated at once."""

Lines = Callable[[int, int], tuple[F64, F64]]
"""Gives the vectors (y, x) of lines first..stop-1, each (stop - first, nx)."""


def lines_of(vector_y: F64, vector_x: F64) -> tuple[Lines, tuple[int, int]]:
    """A whole vector field (ny, nx) as `integrate` wants it: its lines, and its shape."""
    ny, nx = vector_y.shape
    return lambda first, stop: (vector_y[first:stop], vector_x[first:stop]), (ny, nx)


def integrate(
    lines: Lines,
    shape: tuple[int, int],
    kernel_y: F64,
    kernel_x: F64,
    image: F32 | None = None,
) -> F32:
    """The riCOM image (ny, nx) of a whole vector field, by fast Fourier transform in float64.

    lines: COM shifts in scan axes, 0 where unknown. The same sum as `add_positions` (no
    wrap-around: the transform is padded by the kernel's reach). Large images are made strip by
    strip, with the lines that reach into the strip, so that memory is bounded by the strip's. It is
    written into `image` where there is one.
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
    image = np.empty(shape, np.float32) if image is None else image
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
