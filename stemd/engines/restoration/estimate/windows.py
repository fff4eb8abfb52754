"""What waves over the whole image leave: shrunk in overlapping windows' Fourier transforms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit
from stemd.engines.restoration.estimate.noise import Noise

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
C64 = NDArray[np.complex64]

SIDE = 64
HOP = SIDE // 2
CERTAIN = 7.3
"""Power of a coefficient over the noise's mean from which on it is kept at first."""


def shrunk(image: F32, noise: Noise) -> F32:
    """What is certainly there of a residual image (ny, nx) around 0.

    In windows of 64 x 64, half overlapping, coefficients `CERTAIN` times above the noise are
    kept; their image is the guess from which Wiener's gains g = p / (p + noise) follow. The
    level of the noise is each window's own, since more electrons bring more of it. Windows that
    needed fewer coefficients count more.
    Cost: four Fourier transforms of 4 times the image, a row of windows after the other, so that
    they stay in the cache.
    """
    ny, nx = image.shape
    padded = np.pad(image, [(HOP, HOP + -side % HOP) for side in (ny, nx)], "symmetric")
    taper = np.sin(np.pi * (np.arange(SIDE) + 0.5) / SIDE)
    window = (taper[:, None] * taper[None]).astype(np.float32)
    power = noise.at(np.asarray(np.fft.rfftfreq(SIDE), np.float64)) * float(np.square(window).sum())
    rows = padded.shape[0] // HOP - 1
    across = padded.shape[1] // HOP - 1
    f = np.empty((rows, across, SIDE, SIDE // 2 + 1), np.complex64)
    gain = np.empty(f.shape[1:], np.float32)
    level = np.empty((rows, across))
    weight = np.empty(across)
    guess = _Joined(padded.shape, window)
    for row in range(rows):
        f[row] = _transformed(padded, row, window)
        _keep(f[row], power, gain, weight, level[row])
        guess.add(row, f[row] * gain, weight)
    shown = guess.image()
    out = _Joined(padded.shape, window)
    for row in range(rows):
        _wiener(_transformed(shown, row, window), power, level[row], gain, weight)
        out.add(row, f[row] * gain, weight)
    return np.ascontiguousarray(out.image()[HOP : HOP + ny, HOP : HOP + nx])


def _transformed(image: F32, row: int, window: F32) -> C64:
    """Fourier transforms (windows, 64, 33) of a row of windows."""
    lines = image[row * HOP : row * HOP + SIDE]
    views = np.lib.stride_tricks.sliding_window_view(lines, SIDE, axis=1)[:, ::HOP]
    f = np.fft.rfft2(views.transpose(1, 0, 2) * window)
    return f.astype(np.complex64, copy=False)


class _Joined:
    """Windows joined to an image, each pixel the mean of those that show it, by their weights."""

    def __init__(self, shape: tuple[int, ...], window: F32) -> None:
        self._window = window
        self._total = np.zeros(shape, np.float32)
        self._share = np.zeros(shape, np.float32)

    def add(self, row: int, f: C64, weight: F64) -> None:
        """A row of windows, by their Fourier transforms."""
        parts = np.fft.irfft2(f, s=(SIDE, SIDE)).astype(np.float32, copy=False)
        lines = np.s_[row * HOP : row * HOP + SIDE]
        _add(parts, weight, self._window, self._total[lines], self._share[lines])

    def image(self) -> F32:
        """The image, when all rows are there."""
        joined = self._total / np.maximum(self._share, np.float32(1e-30))
        return joined.astype(np.float32, copy=False)


@njit(nogil=True, cache=True)
def _keep(f: C64, power: F64, gain: F32, weight: F64, level: F64) -> None:
    """Gains 0 or 1, weights of the windows, and each window's noise over `power`.

    With q the power over the noise's, exponentially distributed around the level where there
    is noise alone, the mean of exp(-q) is 1 / (1 + level); what stands out does not matter.
    """
    n, ny, nx = f.shape
    for k in range(n):
        total = 0.0
        for j in range(0, ny, 2):  # half of them are enough
            for i in range(1, nx):
                v = f[k, j, i]
                q = (v.real * v.real + v.imag * v.imag) / power[i]
                if q < 20.0:
                    total += np.exp(-q)
        level[k] = max(1.0 / max(total / (ny // 2 * (nx - 1)), 1e-3) - 1.0, 0.05)
        kept = 1.0
        for j in range(ny):
            for i in range(nx):
                v = f[k, j, i]
                stays = (v.real * v.real + v.imag * v.imag) > CERTAIN * level[k] * power[i]
                stays = stays or (i == 0 and j == 0)
                gain[k, j, i] = 1.0 if stays else 0.0
                kept += gain[k, j, i]
        weight[k] = 1.0 / (kept * level[k])


@njit(nogil=True, cache=True)
def _wiener(guess: C64, power: F64, level: F64, gain: F32, weight: F64) -> None:
    n, ny, nx = guess.shape
    for k in range(n):
        kept = 1.0
        for j in range(ny):
            for i in range(nx):
                v = guess[k, j, i]
                p = v.real * v.real + v.imag * v.imag
                gain[k, j, i] = p / (p + level[k] * power[i])
                kept += gain[k, j, i] ** 2
        gain[k, 0, 0] = 1.0
        weight[k] = 1.0 / (kept * level[k])


@njit(nogil=True, cache=True)
def _add(parts: F32, weight: F64, window: F32, total: F32, share: F32) -> None:
    """Add a row of windows to their lines, `total` and `share` (64, width)."""
    for k in range(parts.shape[0]):
        x0 = k * HOP
        w = np.float32(weight[k])
        for j in range(SIDE):
            for i in range(SIDE):
                total[j, x0 + i] += w * window[j, i] * parts[k, j, i]
                share[j, x0 + i] += w * window[j, i] * window[j, i]
