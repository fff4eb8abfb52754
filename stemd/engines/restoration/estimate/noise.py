"""The noise of an image, taken from the quietest part of its spectrum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

QUIET = 0.2
"""Part of the frequencies along y that show noise alone, whatever the image."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Power of white noise along the lines: variance a pixel at each frequency along x.

    `power` (nx // 2 + 1,) from frequency 0 to 0.5 cycles a pixel. Detectors that are slow smear
    noise along the line, so it depends on the frequency along x alone.
    """

    power: F64

    def at(self, frequency: F64) -> F64:
        """Variance a pixel at frequencies (any shape) in cycles a pixel."""
        known = np.linspace(0.0, 0.5, self.power.size)
        found: F64 = np.interp(np.abs(frequency), known, self.power)
        return found

    @property
    def variance(self) -> float:
        """Variance of a pixel."""
        return float(self.power.mean())


def taper(shape: tuple[int, int]) -> F32:
    """Hann's window (ny, nx), against what an image's edges do to its spectrum."""
    ny, nx = (0.5 - 0.5 * np.cos(2.0 * np.pi * (np.arange(n) + 0.5) / n) for n in shape)
    return (ny[:, None] * nx[None]).astype(np.float32)


def spectrum(tapered: F32, scale: float) -> tuple[F32, Noise]:
    """Power (ny, nx // 2 + 1) times `scale`, and the noise in it: low along y at every fx.

    The noise is what the lowest fifth of the powers along y says, if they were exponentially
    distributed as those of noise are: a crystal's peaks, and the edges' slopes, stand above.
    """
    f = np.fft.rfft2(tapered)
    power: F32 = ((f.real**2 + f.imag**2) * np.float32(scale)).astype(np.float32, copy=False)
    quiet = int(QUIET * len(power))
    columns = np.ascontiguousarray(power.T)
    columns.partition(quiet, axis=1)
    value = columns[:, quiet].astype(np.float64)
    low = _smoothed(value / -np.log1p(-QUIET), 4)
    return power, Noise(np.maximum(low, 1e-12 * float(power.mean()) + 1e-30))


def _smoothed(values: F64, reach: int) -> F64:
    padded = np.pad(values, reach, "reflect" if len(values) > reach else "edge")
    total = np.cumsum(np.concatenate([[0.0], padded]))
    width = 2 * reach + 1
    smooth: F64 = (total[width:] - total[:-width]) / width
    return smooth
