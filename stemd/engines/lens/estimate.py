"""The best linear estimate of a weak specimen's phase from the bright field, and how sure it is.

Every cell of the bright field sees the specimen through its own transfer Gamma(k, q) (see
`kernels.overlaps`). Counts are Poisson, so the noise of each is known, and the specimen's power is
what the data have beyond it: the estimate has no knob.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.beam import Beam
from stemd.engines.kernels.overlaps import add_cells, add_overlaps
from stemd.engines.lens.rings import ring_powers
from stemd.engines.lens.weights import KINDS, LEAST_SHARE, Method, divisor, left_out

C64 = NDArray[np.complex64]
C128 = NDArray[np.complex128]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

RING = 1 / 16
"""Width of the rings of scan frequency over which the specimen's power is averaged, apertures."""
SECTORS, SECTOR_RING = 12, 1 / 4
"""Parts of the plane whose noise has nothing to do with each other's: so many over half a turn, in
rings so wide, apertures."""
COARSE_AIRY = 0.9
"""Radii of the Airy disc to a step from which on it is coarse."""
REACH = 2.0
"""Largest scan frequency that the bright field transfers, apertures."""


class Frequencies:
    """The scan frequencies that the bright field transfers, one of each pair q and -q.

    `y`, `x` float64 (n,) in apertures, q = 0 left out; `index` (n,): where they stand in a half
    plane (ny, nx // 2 + 1); `twice` (n,): 2 where q stands for -q too, else 1; `ring` (n,): number
    of the ring of |q|; `sector` (n,): number of the part of the plane, of `sectors`. `done`
    (ny, nx): the scan's positions; others count as mean ones. `level`: a plane is taken out of
    every image, as descan makes it. `whole`: all of the half plane instead. `finest`: the shortest
    period, in 1 / aperture; `coarse`: the step is so large that detail which the bright field
    transfers folds back.
    """

    def __init__(
        self,
        done: NDArray[np.bool_],
        beam: Beam,
        step_angstrom: float,
        *,
        level: bool = False,
        whole: bool = False,
    ) -> None:
        self.done = done
        self.shape = (done.shape[0], done.shape[1])
        ny, nx = self.shape
        y, x = (
            part.ravel()
            for part in np.meshgrid(
                np.fft.fftfreq(ny, step_angstrom) / beam.aperture,
                np.fft.rfftfreq(nx, step_angstrom) / beam.aperture,
                indexing="ij",
            )
        )
        radius = np.hypot(y, x)
        self.index = np.flatnonzero(whole | ((radius < REACH) & (radius > 0.0)))
        self.y = np.ascontiguousarray(y[self.index])
        self.x = np.ascontiguousarray(x[self.index])
        self.ring = (radius[self.index] / RING).astype(np.int64)
        turn = np.mod(np.arctan2(self.y, self.x), np.pi) / np.pi
        around = np.minimum((turn * SECTORS).astype(np.int64), SECTORS - 1)
        self.sector = around + SECTORS * (radius[self.index] / SECTOR_RING).astype(np.int64)
        self.sectors = SECTORS * math.ceil(REACH / SECTOR_RING)
        highest = max(np.abs(self.y).max(initial=0.0), np.abs(self.x).max(initial=0.0))
        self.finest = 1.0 / max(1e-9, float(highest))
        self.coarse = step_angstrom > COARSE_AIRY * beam.airy_radius
        column = self.index % (nx // 2 + 1)
        alone = (column == 0) | ((column == nx // 2) & (nx % 2 == 0))
        self.twice = np.where(alone, 1.0, 2.0)
        self._planes: tuple[F32, F64] | None = _planes(done) if level else None

    @property
    def positions(self) -> int:
        """Positions that were measured: noise has their number, and so has the specimen."""
        return max(1, int(np.count_nonzero(self.done)))

    @property
    def share(self) -> float:
        """The part of the positions that was measured: so many of the frequencies are independent
        of each other."""
        return self.positions / self.done.size

    def spectrum_of(self, image: F32) -> tuple[C64, float]:
        """Of a cell's counts (ny, nx): transform of counts / mean - 1, (n,), and the mean.

        The mean is 0 for a cell without counts.
        """
        there = max(1, int(np.count_nonzero(self.done)))
        mean = float(image.sum(where=self.done, dtype=np.float64)) / there
        if mean <= 0.0:
            return np.zeros(self.index.size, np.complex64), 0.0
        relative = np.where(self.done, image * np.float32(1.0 / mean) - np.float32(1.0), 0.0)
        relative = relative.astype(np.float32)
        if self._planes is not None:
            slopes, solved = self._planes
            plane = solved @ np.einsum("cyx,yx->c", slopes, relative)
            relative -= np.einsum("c,cyx->yx", plane.astype(np.float32), slopes)
        spectrum = np.fft.rfft2(relative).ravel()[self.index]
        return spectrum.astype(np.complex64), mean

    def image_of(self, spectrum: C128 | C64) -> F32:
        """An image (ny, nx) from its transform (n,); without its mean."""
        return np.asarray(self.images_of(spectrum[None])[0])

    def images_of(self, spectra: C128 | C64) -> F32:
        """Images (m, ny, nx) from their transforms (m, n)."""
        ny, nx = self.shape
        half = np.zeros((len(spectra), ny * (nx // 2 + 1)), spectra.dtype)
        half[:, self.index] = spectra
        return np.asarray(np.fft.irfft2(half.reshape(-1, ny, nx // 2 + 1), (ny, nx)), np.float32)


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the bright field: `Frequencies.spectrum_of` its counts, their mean, and points.

    `points` float64 (m, 2): y and x of points of the cell in apertures, in scan axes.
    """

    spectrum: C64
    counts: float
    points: F64


class Linear:
    """The estimate for one lens: cells are added, then it can be asked.

    `coefficients`: `Aberrations.coefficients` of the lens. With N positions and the specimen's
    power P: E |numerator|^2 = P denominator^2 + N denominator. `method`: other weights of the
    cells, for comparison; what is said of the specimen's power and of the evidence holds for
    "wiener" and "obf".
    """

    def __init__(self, at: Frequencies, coefficients: F64, method: Method = "wiener") -> None:
        self.at = at
        self._coefficients, self._method = coefficients, method
        self._counts = 0.0
        self.numerator = np.zeros(at.index.size, np.complex128)
        self.denominator = np.zeros(at.index.size)

    def add(self, cell: Cell) -> None:
        """Add what one cell has seen."""
        add_overlaps(
            cell.spectrum, cell.points, cell.counts, self.at.y, self.at.x, self._coefficients,
            KINDS[self._method], self.numerator, self.denominator,
        )  # fmt: skip
        self._counts += cell.counts

    def add_all(self, spectra: C64, counts: F64, points: F64) -> None:
        """Add what several cells have seen, of "wiener" or "obf": see `cells.Cells`."""
        add_cells(
            spectra, points, counts, self.at.y, self.at.x, self._coefficients,
            self.numerator, self.denominator,
        )  # fmt: skip
        self._counts += float(counts.sum())

    @classmethod
    def of(cls, at: Frequencies, cells: Iterable[Cell], coefficients: F64) -> Linear:
        """With all these cells."""
        estimate = cls(at, coefficients)
        for cell in cells:
            estimate.add(cell)
        return estimate

    def with_sums(self, numerator: C128, denominator: F64) -> Linear:
        """An estimate by the same rules from other sums, to which no cells are added."""
        made = Linear(self.at, self._coefficients, self._method)
        made.numerator, made.denominator = numerator, denominator
        return made

    def power(self) -> F64:
        """The specimen's |phi(q)|^2 at each frequency, as `ring_power` has it for their rings."""
        return np.asarray(self.ring_power()[self.at.ring])

    def ring_power(self) -> F64:
        """The specimen's |phi(q)|^2 in each ring: what it has beyond its known noise.

        See `rings.ring_powers`. A ring in which a small field has no frequency lies between those
        about it: a specimen that goes on beyond the field has some.
        """
        at, noise = self.at, self.at.positions * self.denominator
        # of one frequency of a half plane |noise|^2 scatters by as much as its mean
        seen, error, most, mean = (
            np.asarray(np.bincount(at.ring, weights), np.float64)
            for weights in (
                at.twice * (np.abs(self.numerator) ** 2 - noise),
                at.twice**2 * noise**2 / at.share,
                at.twice * self.denominator**2,
                at.twice * noise,
            )
        )
        rings = ring_powers(seen, error, most, mean)
        there = np.flatnonzero(np.bincount(at.ring, minlength=rings.size))
        if there.size:
            rings = np.interp(np.arange(rings.size), there, rings[there])
        return np.asarray(rings)

    def phase(self) -> F32:
        """The phase in radian, float32 (ny, nx), of zero mean."""
        return self.at.image_of(self.numerator / self._divisor())

    def deviation(self) -> float:
        """Standard error of the phase in radian, of noise and of what the power says is lacking.

        Of other methods than "wiener" of noise alone.
        """
        stays = left_out(self._method, self.denominator, self._divisor(), self._relative_power())
        return float(np.sqrt((self.at.twice * stays).sum() / self.at.done.size))

    def _divisor(self) -> F64:
        return divisor(self._method, self.denominator, self._counts, self._relative_power())

    def _relative_power(self) -> F64:
        return self.power() / self.at.positions

    def evidence(self) -> float:
        """Logarithm of how much likelier the data are with this specimen than with none.

        A phase of power P seen with noise: |numerator|^2 / N * P / (N + P D) - ln(1 + P D / N),
        summed over the frequencies; largest where the lens is the true one.
        """
        return float(self.evidences().sum())

    def evidences(self) -> F64:
        """The evidence in parts, one for each sector of the frequencies, (sectors,)."""
        n, d, p = self.at.positions, self.denominator, self.power()
        each = np.abs(self.numerator) ** 2 / n * p / (n + p * d) - np.log1p(p * d / n)
        # a frequency and its negative are one number
        weights = each * (self.at.twice / 2.0) * self.at.share
        return np.asarray(np.bincount(self.at.sector, weights, self.at.sectors), np.float64)

    def signal(self) -> float:
        """What the cells have together in this phase, beyond noise; see `Cells.explained`."""
        d = self.denominator
        known = d > LEAST_SHARE * d.max(initial=0.0)
        each = np.abs(self.numerator[known]) ** 2 / d[known] - self.at.positions
        return float((self.at.twice[known] * each).sum())


def _planes(done: NDArray[np.bool_]) -> tuple[F32, F64]:
    """1, y and x over the scan's positions (3, ny, nx), and the inverse of their products."""
    y, x = np.indices(done.shape) / max(done.shape) - 0.5
    slopes = np.stack([done, done * y, done * x]).astype(np.float32)
    flat = slopes.reshape(3, -1).astype(np.float64)
    return slopes, np.asarray(np.linalg.pinv(flat @ flat.T), np.float64)
