"""Waves fitted to an image: amplitudes by least squares, frequencies by a step of Gauss-Newton.

Positions count from the image's middle, so that cosines and sines do not mix, and all scalar
products of waves are Dirichlet kernels: no pixel is touched but through the image's sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit
from stemd.engines.restoration.estimate.noise import Noise
from stemd.engines.restoration.estimate.nonuniform import Sums, superposed

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
C128 = NDArray[np.complex128]

STRONG = 10.0
"""Power of a wave over the noise's from which on its frequency is refined."""
RIDGE = 1e-3
"""Added to the squares of waves, as a part of them: two that nearly coincide share their height."""


@dataclass(slots=True)
class Waves:
    """2 Re(sum over n of amplitude[n] exp(2 pi i (fy y + fx x))), y, x from the image's middle.

    `frequency` (n, 2) in cycles a pixel along y and x, `amplitude` (n,) complex.
    """

    shape: tuple[int, int]
    frequency: F64
    amplitude: C128

    def image(self) -> F32:
        """The waves as an image (ny, nx)."""
        return superposed(self.frequency, self.amplitude, self.shape)


def fit(waves: Waves, image: Sums, noise: Noise) -> None:
    """Amplitudes by least squares, frequencies refined, and amplitudes again.

    Cost: some n^3 / 3 + 300 n^2 operations twice, for n waves of an image of any size.
    """
    _solve(waves, image)
    _refine(waves, image, noise)
    _solve(waves, image)


def _solve(waves: Waves, image: Sums) -> None:
    b = image.at(waves.frequency)
    count = len(b)
    cosine, sine = np.empty((count, count)), np.empty((count, count))
    _products(waves.frequency, *waves.shape, RIDGE, cosine, sine)
    real, imaginary = b.real.copy(), b.imag.copy()
    _solve_symmetric(cosine, real)
    _solve_symmetric(sine, imaginary)
    waves.amplitude = np.asarray(0.5 * (real + 1j * imaginary), np.complex128)


@njit(nogil=True, cache=True)
def _products(frequency: F64, ny: int, nx: int, ridge: float, cosine: F64, sine: F64) -> None:
    """Scalar products of all cosines, and of all sines, over the image's pixels, with a ridge.

    <cos a, cos b> = (D(a - b) + D(a + b)) / 2, <sin a, sin b> with a minus, D the Dirichlet
    kernel sin(pi f n) / sin(pi f) of each axis.
    """
    count = frequency.shape[0]
    turns = _turns(frequency, ny, nx)
    for n in range(count):
        for m in range(n + 1):
            less_y, _, more_y, _ = _dirichlet(turns[m, 0], turns[n, 0], ny)
            less_x, _, more_x, _ = _dirichlet(turns[m, 1], turns[n, 1], nx)
            less, more = less_y * less_x, more_y * more_x
            cosine[n, m] = cosine[m, n] = 0.5 * (less + more)
            sine[n, m] = sine[m, n] = 0.5 * (less - more)
        cosine[n, n] += ridge * ny * nx
        sine[n, n] += ridge * ny * nx


@njit(nogil=True, cache=True)
def _solve_symmetric(matrix: F64, b: F64) -> None:
    """b (n,) becomes the x of matrix x = b, by Cholesky's method; `matrix` is used up.

    The matrix (n, n) is symmetric and positive; n^3 / 3 operations.
    """
    n = b.size
    for k in range(n):
        root = np.sqrt(matrix[k, k])
        row = matrix[k]  # the factor's column k, kept along a line
        for i in range(k, n):
            row[i] /= root
        for j in range(k + 1, n):
            part = row[j]
            if part != 0.0:
                line = matrix[j]
                for i in range(j, n):
                    line[i] -= part * row[i]
    for k in range(n):
        b[k] /= matrix[k, k]
        for i in range(k + 1, n):
            b[i] -= matrix[k, i] * b[k]
    for k in range(n - 1, -1, -1):
        total = b[k]
        for i in range(k + 1, n):
            total -= matrix[k, i] * b[i]
        b[k] = total / matrix[k, k]


def _refine(waves: Waves, image: Sums, noise: Noise) -> None:
    """One step of Gauss and Newton for the frequencies of waves that are strong enough."""
    ny, nx = waves.shape
    a = waves.amplitude
    own = np.empty((2, len(a)), np.complex128)
    _moments(waves.frequency, a, ny, nx, own)
    rest = image.moments(waves.frequency) - own
    strength = np.abs(a) ** 2 * ny * nx
    strong = strength > STRONG * noise.at(waves.frequency[:, 1])
    for axis, n in enumerate((ny, nx)):
        spread = 2.0 * np.pi * strength * (n * n - 1) / 12.0
        step = np.imag(rest[axis] * a.conj()) / np.maximum(spread, 1e-30)
        waves.frequency[:, axis] += np.clip(step, -0.3 / n, 0.3 / n) * strong


@njit(nogil=True, cache=True)
def _moments(frequency: F64, amplitude: C128, ny: int, nx: int, out: C128) -> None:
    """`Sums.moments` (2, n) of the waves' own image: sums over D and its slope of either axis.

    The sum of t exp(2 pi i f t) over the pixels t is -i D'(f) / (2 pi).
    """
    count = frequency.shape[0]
    turns = _turns(frequency, ny, nx)
    out[:] = 0.0
    for n in range(count):
        for m in range(count):
            less_y, less_my, more_y, more_my = _dirichlet(turns[m, 0], turns[n, 0], ny)
            less_x, less_mx, more_x, more_mx = _dirichlet(turns[m, 1], turns[n, 1], nx)
            # the mirror image has the amplitude's conjugate, and stands at minus the sum
            a, mirrored = -1j * amplitude[m], 1j * np.conj(amplitude[m])
            out[0, n] += a * (less_my * less_x) + mirrored * (more_my * more_x)
            out[1, n] += a * (less_y * less_mx) + mirrored * (more_y * more_mx)


@njit(nogil=True, cache=True)
def _turns(frequency: F64, ny: int, nx: int) -> F64:
    """Sine and cosine of pi f, and of pi f times the pixels, for each axis: (n, 2, 4)."""
    out = np.empty((frequency.shape[0], 2, 4))
    for n in range(frequency.shape[0]):
        for axis in range(2):
            angle = np.pi * frequency[n, axis]
            size = ny if axis == 0 else nx
            out[n, axis, 0], out[n, axis, 1] = np.sin(angle), np.cos(angle)
            out[n, axis, 2], out[n, axis, 3] = np.sin(angle * size), np.cos(angle * size)
    return out


@njit(nogil=True, cache=True)
def _dirichlet(one: F64, other: F64, size: int) -> tuple[float, float, float, float]:
    """Dirichlet's kernel D of `size` pixels and D' / (2 pi), at one - other, then at their sum.

    `one` and `other` are `_turns` along an axis.
    """
    first, second = one[0] * other[1], one[1] * other[0]
    third, fourth = one[1] * other[1], one[0] * other[0]
    first_n, second_n = one[2] * other[3], one[3] * other[2]
    third_n, fourth_n = one[3] * other[3], one[2] * other[2]
    less, less_slope = _ratio(
        first - second, third + fourth, first_n - second_n, third_n + fourth_n, size
    )
    more, more_slope = _ratio(
        first + second, third - fourth, first_n + second_n, third_n - fourth_n, size
    )
    return less, less_slope, more, more_slope


@njit(nogil=True, cache=True)
def _ratio(
    sine: float, cosine: float, sines: float, cosines: float, size: int
) -> tuple[float, float]:
    """sines / sine and half its slope: sines and cosines of pi f, and of pi f size."""
    if abs(sine) < 1e-7:
        return float(size), 0.0
    return sines / sine, 0.5 * (size * cosines * sine - sines * cosine) / (sine * sine)
