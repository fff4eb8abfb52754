"""What waves over the whole image leave: shrunk in overlapping windows' Fourier transforms."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stemd.engines.estimate.waves import Noise

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
C64 = NDArray[np.complex64]

SIDE = 64
CERTAIN = 7.3
"""Power of a coefficient over the noise's mean from which on it is kept at first."""


def shrunk(image: F32, noise: Noise) -> F32:
    """What is certainly there of a residual image (ny, nx) around 0.

    In windows of 64 x 64, half overlapping, coefficients `CERTAIN` times above the noise are
    kept; their image is the guess from which Wiener's gains g = p / (p + noise) follow. The
    level of the noise is each window's own, since more electrons bring more of it. Windows that
    needed fewer coefficients count more.
    Cost: four Fourier transforms of 4 times the image.
    """
    hop = SIDE // 2
    ny, nx = image.shape
    pads = [(hop, hop + -side % hop) for side in (ny, nx)]
    padded = np.pad(image, pads, "symmetric")
    taper = np.sin(np.pi * (np.arange(SIDE) + 0.5) / SIDE)
    window = (taper[:, None] * taper[None]).astype(np.float32)
    power = noise.at(np.asarray(np.fft.rfftfreq(SIDE), np.float64)) * float(np.square(window).sum())
    f = _transformed(padded, window)
    gain = np.empty(f.shape, np.float32)
    weight = np.empty(len(f))
    level = np.empty(len(f))
    _keep(f, power, gain, weight, level)
    out = _joined(f * gain, weight, window, padded.shape)
    _wiener(_transformed(out, window), power, level, gain, weight)
    out = _joined(f * gain, weight, window, padded.shape)
    return np.ascontiguousarray(out[hop : hop + ny, hop : hop + nx])


def _transformed(image: F32, window: F32) -> C64:
    hop = SIDE // 2
    views = np.lib.stride_tricks.sliding_window_view(image, (SIDE, SIDE))[::hop, ::hop]
    f = np.fft.rfft2(views.reshape(-1, SIDE, SIDE) * window)
    return f.astype(np.complex64, copy=False)


def _joined(f: C64, weight: F64, window: F32, shape: tuple[int, ...]) -> F32:
    parts = np.fft.irfft2(f, s=(SIDE, SIDE)).astype(np.float32, copy=False)
    total = np.zeros(shape, np.float32)
    share = np.zeros(shape, np.float32)
    _add(parts, weight, window, total, share)
    total /= np.maximum(share, np.float32(1e-9))
    return total


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
    hop = SIDE // 2
    across = (total.shape[1] - SIDE) // hop + 1
    for k in range(parts.shape[0]):
        y0, x0 = (k // across) * hop, (k % across) * hop
        w = np.float32(weight[k] / weight[0])
        for j in range(SIDE):
            for i in range(SIDE):
                total[y0 + j, x0 + i] += w * window[j, i] * parts[k, j, i]
                share[y0 + j, x0 + i] += w * window[j, i] * window[j, i]
