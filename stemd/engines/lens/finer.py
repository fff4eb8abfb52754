"""The linear estimate on a grid that is finer than the scan.

Out of focus every cell sees the specimen from aside, so that the cells together have sampled it
more finely than the scan's steps. What a scan folds onto one frequency q is then told apart: the
frequencies q + g are estimated together,

    (A + N / P) phi = b,   A[g, h] = sum_k n_k Gamma*(k, q + g) Gamma(k, q + h),
    b[g] = sum_k n_k Gamma*(k, q + g) G(k, q)

with the rest as in `lens.estimate`. Parallax that adds shifted images up on a finer grid is the
part of it without the sums of two different g.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stemd.beam import Beam
from stemd.engines.kernels.overlaps import GAMMA, add_overlaps
from stemd.engines.lens.estimate import REACH, RING, Cell, Frequencies
from stemd.engines.lens.rings import shrunk

C64 = NDArray[np.complex64]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

FOLDS, MOST_TIMES = 0.6, 4
"""Radii of the Airy disc to a step from which on so much folds back that it misleads the search for
a lens, and pixels a position at most."""
CLEARLY_FOLDED = 15.0
"""Evidence by which folded waves, told apart, explain the cells better than none. Of 15 draws in
which nothing folds it was 14 at most, and the image the worse for it by up to 0.004 of its
correlation with the truth, since absorption is taken out only else."""
TURNS = 3
"""Of finding the specimen's power and the phase by each other (expectation maximisation)."""
LEAST_SHARE = 1e-12
"""Of the largest power: a ring without any would have nothing to begin with."""


def times_for(beam: Beam, step_angstrom: float) -> int:
    """`grid_times` where the scan's steps fold so much back that it misleads a search; else 1."""
    return grid_times(beam, step_angstrom) if step_angstrom >= FOLDS * beam.airy_radius else 1


def grid_times(beam: Beam, step_angstrom: float) -> int:
    """How much finer a grid has to be that holds all that is transferred; 1 where none folds."""
    return min(MOST_TIMES, math.ceil(2 * REACH * beam.aperture * step_angstrom))


class Finer:
    """Sums over the cells for `times` x `times` as many pixels as positions; then `solved`.

    `at`: the `whole` half plane of the scan's frequencies; `coefficients`:
    `Aberrations.coefficients`.
    """

    @staticmethod
    def bytes_for(shape: tuple[int, int], times: int) -> int:
        """Memory that a scan of this shape takes, with what is needed for solving."""
        return 64 * shape[0] * (shape[1] // 2 + 1) * int(times**4)

    def __init__(
        self, at: Frequencies, beam: Beam, step_angstrom: float, times: int, coefficients: F64
    ) -> None:
        self._at, self._times, self._coefficients = at, times, coefficients
        ny, nx = at.shape
        self._row, self._column = (
            part.ravel() for part in np.indices((ny, nx // 2 + 1))
        )  # fmt: skip
        aside = np.indices((times, times)).reshape(2, -1, 1)
        self._rows = (self._row + ny * aside[0]) % (ny * times)
        self._columns = (self._column + nx * aside[1]) % (nx * times)
        self._y, self._x = (
            np.fft.fftfreq(n * times, step_angstrom / times)[places] / beam.aperture
            for n, places in ((ny, self._rows), (nx, self._columns))
        )
        self._ring = (np.hypot(self._y, self._x) / RING).astype(np.int64)
        self._products = np.zeros((self._row.size, times**2, times**2), np.complex128)
        self._seen = np.zeros((self._row.size, times**2), np.complex128)

    def add(self, cell: Cell) -> None:
        """Add what one cell has seen."""
        waves = np.zeros(self._y.size, np.complex128)
        add_overlaps(
            np.ones(waves.size, np.complex64), cell.points, 1.0, self._y.ravel(), self._x.ravel(),
            self._coefficients, GAMMA, waves, np.zeros(waves.size),
        )  # fmt: skip
        conjugate = waves.reshape(self._y.shape).T
        self._products += cell.counts * conjugate[:, :, None] * conjugate.conj()[:, None, :]
        self._seen += cell.counts * conjugate * cell.spectrum[:, None]

    def solved(self) -> tuple[F32, float, float]:
        """The phase in radian, float32 (times ny, times nx), of zero mean, its variance, and the
        evidence for the lens: the logarithm of how much likelier the data are with this specimen
        than with none, b^H phi / N - ln det(1 + A P / N), with nothing folded.

        A ring's power is the mean of what is estimated there and of its own variance, both found
        in turn. Where no ring has any, as in a scan of one pattern again and again, nothing is to
        be seen: phase, variance and evidence are 0.
        """
        n, known = self._at.positions, np.diagonal(self._products, axis1=1, axis2=2).real.T
        used = known > LEAST_SHARE * known.max(initial=1e-300)
        used[(self._rows == 0) & (self._columns == 0)] = False
        ring = np.where(used, self._ring, self._ring.max() + 1)
        number = np.maximum(1, np.bincount(ring[used], minlength=ring.max() + 1))
        noise = n * known[used]
        power = shrunk(
            *(
                np.asarray(np.bincount(ring[used], each, number.size), np.float64)
                for each in (np.abs(self._seen.T[used]) ** 2 - noise, noise**2, known[used] ** 2)
            )
        )
        if not power.any():
            return self._image(np.zeros_like(self._seen)), 0.0, 0.0
        eye = np.eye(self._times**2)
        for _ in range(TURNS):
            least = np.maximum(power, LEAST_SHARE * power.max())
            left = np.where(used, n / least[ring], 1.0).T
            matrix = self._products * self._both(used) + left[:, :, None] * eye
            inverse, seen = np.linalg.inv(matrix), np.where(used.T, self._seen, 0.0)
            phase = np.einsum("qgh,qh->qg", inverse, seen)
            variance = n * np.diagonal(inverse, axis1=1, axis2=2).real
            each = (np.abs(phase) ** 2 + variance).T[used]
            power = np.bincount(ring[used], each, number.size) / number
        grown = np.linalg.slogdet(matrix)[1] - np.log(left).sum(axis=1)
        evidence = (seen.conj() * phase).real.sum(axis=1) / n - grown
        twice = self._twice()
        return (
            self._image(np.where(used.T, phase, 0.0)),
            float((twice * np.where(used, variance.T, 0.0)).sum() / (n * self._at.done.size)),
            float((twice / 2 * evidence).sum()),
        )

    @staticmethod
    def _both(used: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.asarray(used.T[:, :, None] & used.T[:, None, :])

    def _twice(self) -> F64:
        nx = self._at.shape[1]
        alone = (self._column == 0) | ((self._column == nx // 2) & (nx % 2 == 0))
        return np.where(alone, 1.0, 2.0)

    def _image(self, phase: NDArray[np.complex128]) -> F32:
        ny, nx = (n * self._times for n in self._at.shape)
        whole = np.zeros((ny, nx), np.complex128)
        whole[-self._rows % ny, -self._columns % nx] = phase.T.conj()
        whole[self._rows, self._columns] = phase.T
        return np.asarray(np.fft.ifft2(whole).real * self._times**2, np.float32)
