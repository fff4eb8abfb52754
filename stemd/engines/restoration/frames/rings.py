"""Resolution of a sum from its two halves: Fourier ring correlation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.engines.restoration.estimate.noise import taper

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

THRESHOLD = 1.0 / 7.0
"""Correlation of halves at which the sum's own is 0.5 (Rosenthal and Henderson 2003)."""
WIDTH = 2
"""Ring's width in periods of the image."""


def ring_correlation(one: F32, other: F32) -> tuple[F64, F64]:
    """Frequencies (n,) in cycles a pixel, and the correlation of two images (ny, nx) in rings.

    FRC = Re sum F1 F2* / sqrt(sum |F1|^2 sum |F2|^2) (Saxton and Baumeister 1982), under a Hann
    window, over rings out to 0.5 cycles a pixel.
    """
    window = taper(one.shape)
    a, b = (
        np.fft.rfft2((each - np.float32(each.mean(dtype=np.float64))) * window)
        for each in (one, other)
    )
    ny, nx = one.shape
    frequency = np.hypot(np.fft.fftfreq(ny)[:, None], np.fft.rfftfreq(nx)[None])
    rings = min(ny, nx) // (2 * WIDTH)
    ring = np.minimum((frequency * 2.0 * rings).astype(np.int64), rings).ravel()

    def summed(values: NDArray[np.float64]) -> F64:
        total: F64 = np.bincount(ring, values.ravel(), rings + 1)[:rings].astype(np.float64)
        return total

    both = summed((a * b.conj()).real)
    power = summed(np.abs(a) ** 2) * summed(np.abs(b) ** 2)
    correlation: F64 = both / np.sqrt(np.maximum(power, 1e-300))
    return (np.arange(rings) + 0.5) / (2.0 * rings), correlation


def resolution(one: F32, other: F32) -> float | None:
    """The finest period in pixels that both halves show; None where they show nothing alike.

    Where the ring correlation, its mean over three rings, first falls below 1 / 7 beyond the
    coarsest rings. At 2 pixels the pixels are too coarse to say more.
    """
    frequency, correlation = ring_correlation(one, other)
    if len(frequency) < 6:
        return None
    even = np.convolve(correlation, np.full(3, 1.0 / 3.0), "valid")
    middle = frequency[1:-1]
    below = np.flatnonzero(even[1:] < THRESHOLD)
    if not len(below):
        return 2.0
    # a crystal has rings without a peak: the last ring that is well above counts
    above = np.flatnonzero(even > 2.0 * THRESHOLD)
    if not len(above):
        return None
    last = int(above[-1])
    return float(1.0 / middle[min(last + 1, len(middle) - 1)])
