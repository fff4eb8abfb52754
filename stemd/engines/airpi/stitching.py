"""Exit waves put together to one object while a scan goes on (thesis eqs 4.4 to 4.8).

A position's patch is psi_out(r) conj(psi_in(r)) = T(r) |psi_in(r)|^2 about the probe, T being
what the specimen does to the wave: the division by psi_in and the weight |psi_in|^2 of eqs 4.6
and 4.7 in one, without a quotient that is large where the probe is dark. The object is the sum
of the patches over the sum of the weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from stemd.engines.kernels.stitching import UNIT, add_patches

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
TENTHS = 10
"""Positions between pixels are rounded to so many parts of one."""
LEAST = 0.1
"""Of the largest weight: below it a patch says nothing (eq. 4.7)."""


def phase_ramps(samples: int, window: int, oversample: int) -> F32:
    """What shifts a row of pixels by tenths of a finer pixel, float32 (TENTHS, p, window).

    A field periodic in `samples` pixels, of which the `window` middle ones are given and the
    rest is 0, read on pixels `oversample` times finer and moved by n tenths of such a pixel,
    n = 0..TENTHS - 1: the phase ramp of eq. 4.5 between two Fourier transforms, as one matrix.
    p = oversample * window + 1 pixels, one more than the patch for the shift to the right. Exact
    for fields without frequencies at or above the half of a cycle a pixel.
    """
    size = oversample * window + 1
    place = (np.arange(size)[None, :] - np.arange(TENTHS)[:, None] / TENTHS) / oversample
    distance = place[:, :, None] - np.arange(window)
    k = np.arange(1, (samples + 1) // 2)
    angle = 2 * math.pi / samples * distance
    total = 1.0 + 2.0 * np.cos(angle[..., None] * k).sum(axis=-1)
    if samples % 2 == 0:
        total += np.cos(math.pi * distance)
    return np.asarray(total / samples, np.float32)


class Stitcher:
    """The growing object of a scan and the weight it rests on.

    `probe` complex (N, N): the incident wave in real space on the pattern's field of view, its
    middle at pixel (N // 2, N // 2). `window` pixels about the middle are used, at least so many
    that the probe is below `LEAST` outside. `shape`: the object's pixels, (height, width), each
    `oversample` times finer than the patch's. Memory does not grow with the scan. Raises
    ValueError for a probe that is not square or is dark, and a window that does not fit.
    """

    def __init__(
        self,
        probe: NDArray[np.complexfloating],
        window: int,
        shape: tuple[int, int],
        oversample: int = 1,
    ) -> None:
        n = probe.shape[0]
        if probe.shape != (n, n) or not 1 <= window <= n or oversample < 1:
            raise ValueError(
                f"a probe of shape {probe.shape} and a window of {window} pixels, {oversample} "
                "times finer, cannot be stitched: the probe must be square and hold the window"
            )
        intensity = np.abs(probe).astype(np.float64) ** 2
        top = float(intensity.max())
        if not top > 0.0:
            raise ValueError("the probe is dark everywhere")
        self.window, self.oversample = window, oversample
        self.first = n // 2 - window // 2
        """Row and column of the probe at which the window begins."""
        kept = slice(self.first, self.first + window)
        self.scale = 1.0 / top
        """Patches are multiplied by it, so that the largest weight is 1."""
        self._ramps = phase_ramps(n, window, oversample)
        share = intensity[kept, kept] * self.scale
        matrices = self._ramps.astype(np.float64)
        shifted = np.einsum("aik,kl,bjl->abij", matrices, share, matrices)
        known = shifted >= LEAST * shifted.max(axis=(2, 3), keepdims=True)
        self._weights: F32 = np.where(known, shifted, 0.0).astype(np.float32)
        about = slice(0, 2 * (window // 2) * oversample + 1)
        self.probe_intensity: F64 = shifted[0, 0, about, about]
        """On the object's pixels, its middle in the middle."""
        self.patch_weight: F64 = self._weights[0, 0, about, about].astype(np.float64)
        """What of it a patch is added with."""
        self._real: NDArray[np.int64] = np.zeros(shape, np.int64)
        self._imaginary: NDArray[np.int64] = np.zeros(shape, np.int64)
        self._weight: NDArray[np.int64] = np.zeros(shape, np.int64)

    def patches(
        self, exit_waves: NDArray[np.complexfloating], probe: NDArray[np.complexfloating]
    ) -> NDArray[np.complex64]:
        """psi_out conj(psi_in) in the window, complex64 (n, window, window), of (n, N, N) waves."""
        kept = slice(self.first, self.first + self.window)
        product = exit_waves[:, kept, kept] * np.conj(probe[kept, kept])
        return np.asarray(product, np.complex64)

    def add(self, patches: NDArray[np.complex64], positions: F64) -> None:
        """Place patches (n, window, window) at positions (n, 2), y and x in object pixels.

        A position is where the probe's middle falls, rounded to a tenth of an object pixel.
        """
        tenths = np.rint(positions * TENTHS).astype(np.int64)
        whole, ramp = np.divmod(tenths, TENTHS)
        begin = whole - (self.window // 2) * self.oversample
        scaled = np.ascontiguousarray(patches, np.complex64) * np.float32(self.scale)
        add_patches(self._real, self._imaginary, self._weight, scaled, begin[:, 0], begin[:, 1],
                    ramp[:, 0], ramp[:, 1], self._ramps, self._weights)  # fmt: skip

    def merge(self, others: Sequence[Stitcher]) -> None:
        """Add what others, of the same geometry, got from other positions: exactly the object
        that one would have got from all of them.
        """
        for other in others:
            self._real += other._real
            self._imaginary += other._imaginary
            self._weight += other._weight

    def gathered(self) -> Mapping[str, NDArray[np.int64]]:
        """The sums of the rows that anything was added to, as arrays: for files and machines."""
        rows = np.flatnonzero(self._weight.any(axis=1))
        span = (int(rows[0]), int(rows[-1]) + 1) if rows.size else (0, 0)
        part = slice(*span)
        return {
            "rows": np.array(span, np.int64),
            "real": self._real[part].copy(),
            "imaginary": self._imaginary[part].copy(),
            "weight": self._weight[part].copy(),
        }

    def restore(self, gathered: Mapping[str, NDArray[np.int64]]) -> None:
        """Take over the sums that `gathered` of a stitcher of the same geometry has given."""
        part = slice(*(int(row) for row in gathered["rows"]))
        for whole in (self._real, self._imaginary, self._weight):
            whole[:] = 0
        self._real[part] = gathered["real"]
        self._imaginary[part] = gathered["imaginary"]
        self._weight[part] = gathered["weight"]

    @property
    def weight(self) -> F32:
        """Confidence, float32 (height, width): a position adds at most 1. 0 where nothing is
        known.
        """
        return (self._weight / UNIT).astype(np.float32)

    def object(self) -> NDArray[np.complex64]:
        """What the specimen does to the wave, complex64 (height, width); 0 where not known."""
        known = self._weight > 0
        total = self._real + 1j * self._imaginary
        return np.where(known, total / np.where(known, self._weight, 1), 0.0).astype(np.complex64)
