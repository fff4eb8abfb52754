"""The best linear estimate of a weak specimen's phase from the bright field, and how sure it is.

Every cell of the bright field sees the specimen through its own transfer Gamma(k, q) (see
`kernels.overlaps`). Counts are Poisson, so the noise of each is known, and the specimen's power is
what the data have beyond it: the estimate has no knob.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.beam import Beam
from stemd.engines.kernels.overlaps import add_overlaps

C64 = NDArray[np.complex64]
C128 = NDArray[np.complex128]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

RING = 1 / 16
"""Width of the rings of scan frequency over which the specimen's power is averaged, apertures."""
REACH = 2.0
"""Largest scan frequency that the bright field transfers, apertures."""
SURE, ABOUT = 3.0, 3
"""Standard errors from which on a ring's power is taken as it is; rings on either side that bound
it else."""
LEAST_SHARE = 1e-6
"""A frequency that is transferred by less than this part of the best one is not estimated."""


@dataclass(frozen=True, slots=True)
class Cells:
    """The bright field of a scan, transformed over the scan.

    `spectra` complex64 (cells, n): transform over the scan of each cell's relative intensity
    (counts over their mean, minus 1) at `frequencies` float64 (n, 2), y and x in apertures, one of
    each pair q and -q, q = 0 left out; `index` (n,): where they stand in a half plane (ny,
    nx // 2 + 1); `points` (cells, m, 2): points of each cell in apertures, in scan axes; `counts`
    (cells,): mean counts a position; `shape` of the scan; `twice` (n,): 2 where -q stands for
    itself too, else 1.
    """

    spectra: C64
    frequencies: F64
    index: NDArray[np.int64]
    points: F64
    counts: F64
    shape: tuple[int, int]
    twice: F64

    @property
    def positions(self) -> int:
        """Positions of the scan."""
        return self.shape[0] * self.shape[1]

    @classmethod
    def of(
        cls, images: F32, done: NDArray[np.bool_], points: F64, beam: Beam, step_angstrom: float
    ) -> Cells:
        """From the counts of each cell, float32 (cells, ny, nx); `done` (ny, nx).

        A position that is not done counts as a mean one. `points`: see the class. Cells without
        counts are left out.
        """
        shape = (done.shape[0], done.shape[1])
        q_y = np.fft.fftfreq(shape[0], step_angstrom) / beam.aperture
        q_x = np.fft.rfftfreq(shape[1], step_angstrom) / beam.aperture
        y, x = (part.ravel() for part in np.meshgrid(q_y, q_x, indexing="ij"))
        column = np.tile(np.arange(q_x.size), shape[0])
        alone = (column == 0) | ((column == q_x.size - 1) & (shape[1] % 2 == 0))
        kept = (np.hypot(y, x) < REACH) & (np.hypot(y, x) > 0.0)
        index = np.flatnonzero(kept)
        there = max(1, int(np.count_nonzero(done)))
        counts = images.sum(axis=(1, 2), where=done, dtype=np.float64) / there
        used = counts > 0.0
        spectra = np.empty((int(used.sum()), index.size), np.complex64)
        for row, cell in enumerate(np.flatnonzero(used)):
            relative = np.where(done, images[cell] / np.float32(counts[cell]) - 1.0, 0.0)
            spectra[row] = np.fft.rfft2(relative.astype(np.float32)).ravel()[index]
        return cls(
            spectra,
            np.ascontiguousarray(np.stack([y, x], axis=1)[index]),
            index,
            np.ascontiguousarray(points[used]),
            counts[used],
            shape,
            np.where(alone[index], 1.0, 2.0),
        )


@dataclass(frozen=True, slots=True)
class Linear:
    """Numerator and denominator of the estimate at the cells' frequencies, and what it rests on.

    `power` (n,): the specimen's, |phi(q)|^2, averaged over rings; `positions` of the scan, which
    are the noise: E |numerator|^2 = power denominator^2 + positions denominator.
    """

    numerator: C128
    denominator: F64
    power: F64
    positions: int

    @property
    def phase(self) -> C128:
        """phi(q), the Wiener estimate."""
        known = self.denominator > LEAST_SHARE * self.denominator.max(initial=0.0)
        safe = np.where(known & (self.power > 0), self.power, np.inf)
        divisor = np.where(np.isfinite(safe), self.denominator + self.positions / safe, np.inf)
        return np.asarray(self.numerator / divisor)

    @property
    def variance(self) -> F64:
        """Of phi(q) about the estimate: what noise, and transfer that is lacking, leave open."""
        power, rest = self.power, self.denominator / self.positions
        return np.asarray(power / (1.0 + power * rest))

    @property
    def evidence(self) -> F64:
        """Logarithm of how much likelier the data are with this specimen than with none, (n,).

        A phase of power P seen with noise: |numerator|^2 / N * P / (N + P D) - ln(1 + P D / N).
        """
        n, d, p = self.positions, self.denominator, self.power
        return np.asarray(np.abs(self.numerator) ** 2 / n * p / (n + p * d) - np.log1p(p * d / n))


def linear(cells: Cells, coefficients: F64) -> Linear:
    """The estimate for a lens of these `Aberrations.coefficients`."""
    n = cells.index.size
    numerator, denominator = np.zeros(n, np.complex128), np.zeros(n)
    q_y, q_x = (np.ascontiguousarray(cells.frequencies[:, axis]) for axis in (0, 1))
    for spectrum, points, counts in zip(cells.spectra, cells.points, cells.counts, strict=True):
        add_overlaps(spectrum, points, counts, q_y, q_x, coefficients, numerator, denominator)
    return Linear(numerator, denominator, _power(cells, numerator, denominator), cells.positions)


def _power(cells: Cells, numerator: C128, denominator: F64) -> F64:
    """The specimen's power at each frequency: what a ring has beyond its known noise.

    s^3 / (s^2 + e^2), s what is beyond and e its standard error, so that rings without specimen
    give next to nothing. Where noise decides (s < SURE e) a ring has no more than the rings about
    it have together: one ring's noise must not pass for detail that nobody could have seen.
    """
    ring = (np.hypot(*cells.frequencies.T) / RING).astype(np.int64)
    noise = cells.positions * denominator
    # of one frequency of a half plane |noise|^2 scatters by as much as its mean
    seen, error, most = (
        np.asarray(np.bincount(ring, weights), np.float64)
        for weights in (
            cells.twice * (np.abs(numerator) ** 2 - noise),
            cells.twice**2 * noise**2,
            cells.twice * denominator**2,
        )
    )
    together = _shrunk(_added(seen), _added(error), _added(most))
    alone = _shrunk(seen, error, most)
    power = np.where(seen > SURE * np.sqrt(error), alone, np.minimum(alone, together))
    return np.asarray(power[ring])


def _added(rings: F64) -> F64:
    """Each ring with those about it."""
    return np.asarray(np.convolve(rings, np.ones(2 * ABOUT + 1), "same"), np.float64)


def _shrunk(seen: F64, error: F64, most: F64) -> F64:
    """Power of rings: what was seen, as far as it is more than its squared error would make."""
    beyond = np.maximum(seen, 0.0)
    known = (most > 0.0) & (beyond > 0.0)
    divisor = np.where(known, (beyond**2 + error) * most, 1.0)
    return np.where(known, beyond**3 / divisor, 0.0)


def image_of(cells: Cells, spectrum: C128) -> F32:
    """An image (ny, nx) from its transform at the cells' frequencies; without its mean."""
    ny, nx = cells.shape
    half = np.zeros(ny * (nx // 2 + 1), np.complex128)
    half[cells.index] = spectrum
    return np.asarray(np.fft.irfft2(half.reshape(ny, -1), (ny, nx)), np.float32)


def deviation_of(cells: Cells, estimate: Linear) -> float:
    """Standard deviation of the phase about the estimate in radian, by its transform's variance."""
    total = float((cells.twice * estimate.variance).sum())
    return float(np.sqrt(total) / cells.positions)
