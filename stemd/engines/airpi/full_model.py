"""What cells of the bright field count of a phase that need not be weak, and a phase from that.

The linear estimate takes a specimen for weak. Here the wave exp(i phi - mu) goes through the
measured lens without approximation (`lens.jointly`); conjugate gradients lead from a phase that is
thought of the specimen, which a network knows, to one that the counts have as well.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.engines.airpi.joined import coefficients
from stemd.engines.airpi.slopes import Frame
from stemd.engines.bright_field.counted import patterns_of
from stemd.engines.bright_field.view import Discs
from stemd.engines.lens.absorption import Absorbing
from stemd.engines.lens.estimate import RING, Cell, Frequencies
from stemd.engines.lens.jointly import FINEST, Jointly
from stemd.engines.splines import read_at

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

STEPS, HASTY_STEPS, ENOUGH = 30, 8, 0.001
"""Of conjugate gradients at most, and where the image is waited for; and the part of all that was
gained, below which a step gains too little for another."""
LEAST_ERROR = 0.5
"""Part of the power of what is thought that counts as its error for the uncertainty, where the
counts say less: both have the noise of the same electrons, which makes them alike."""
WIDE = 5
"""Rings over which the power of what is thought is averaged."""


class Part:
    """A rectangle of the scan with some of its cells: every `stride`-th from `first` on.

    `rows`, `columns`: which positions. `shape`: pixels of the rectangle, `times` to a step.
    """

    def __init__(
        self, discs: Discs, lens: Aberrations, rows: slice, columns: slice, first: int, stride: int
    ) -> None:
        self.rows, self.columns = rows, columns
        patterns = patterns_of(discs, rows, columns, slice(first, None, stride))
        place = np.append(lens.coefficients(discs.beam), 0.0)
        self._fit = _About(patterns, discs.beam, discs.step_angstrom, place)
        self._discs, self._patterns, self._lens = discs, patterns, lens
        self.times = self._fit.times
        ny, nx = patterns.done.shape
        self.shape = (ny - 1) * self.times + 1, (nx - 1) * self.times + 1

    def thought(self, spline: F32, frame: Frame) -> F32:
        """An image, by its `spline`, on the pixels of the fit and beyond the scan, of mean 0.

        Where the image ends its border goes on.
        """
        step, places = self._discs.step_angstrom, []
        for axis, part in enumerate((self.rows, self.columns)):
            size, known = self._fit.size[axis], self.shape[axis]
            beside = (size - known) // 2
            at = np.arange(size)
            at = np.where(at < known + beside, at, at - size)
            angstrom = (part.start + at / self.times) * step
            pixels = (angstrom - frame.first[axis]) / frame.pixel
            places.append(np.clip(pixels, 0.0, spline.shape[axis] - 1.0))
        values = read_at(spline, *places)
        return np.asarray(values - values.mean(dtype=np.float64), np.float32)

    def likely(self, phase: F32, absorption: F32 | float = 0.0, rim: int = 0) -> float:
        """Logarithm of how likely the counts are with this specimen, but for a constant.

        `rim` positions at each side of the rectangle are left out: they see what nobody knows.
        """
        return -self._fit.misfit_of(phase, absorption, rim) / 2.0

    def fitted(
        self, thought: F32, part: float, cells: float = 1.0, steps: int = STEPS
    ) -> tuple[F32, F32, float]:
        """The phase near one that is thought, its absorption, and the variance of the phase.

        `part`: of the power of what is thought that its error has. Up to twice the semi-angle; of
        finer detail what is thought stays. The variance is that which `cells` times as many cells
        would leave.
        """
        return self._fit.near(thought, part, cells, steps)

    def linear(self) -> tuple[F32, float]:
        """The linear estimate of the same cells on the pixels of the fit, and its standard error:
        noise and what it holds back because of it."""
        discs, patterns = self._discs, self._patterns
        at = Frequencies(patterns.done, discs.beam, discs.step_angstrom, level=patterns.level)
        sums = Absorbing(at, self._lens.coefficients(discs.beam))
        for counts, points in zip(patterns.counts, patterns.points, strict=True):
            sums.add(Cell(*at.spectrum_of(counts), points))
        estimate = sums.phase()
        frame = Frame(
            discs.step_angstrom,
            (self.rows.start * discs.step_angstrom, self.columns.start * discs.step_angstrom),
        )
        return self.thought(coefficients(estimate.phase()), frame), estimate.deviation()


class _About(Jointly):
    """The specimen with a phase about one that is thought of it, through a lens that stays."""

    _thought: F32 | None = None

    @property
    def times(self) -> int:
        """Pixels to a step."""
        return self._times

    @property
    def size(self) -> tuple[int, int]:
        """Pixels (y, x) of the object."""
        return self._object.shape[1], self._object.shape[2]

    def misfit_of(self, phase: F32, absorption: F32 | float, rim: int) -> float:
        """As `misfit`, of this specimen, without so many positions at the border."""
        self._object[0], self._object[1] = phase, absorption
        self._see()
        ny, nx = self._there.shape
        inner = self._differences[:, rim : ny - rim, rim : nx - rim]
        level = inner - inner.mean(axis=(1, 2), keepdims=True)
        return self._product(level, level)

    def near(self, thought: F32, part: float, cells: float, steps: int) -> tuple[F32, F32, float]:
        """See `Part.fitted`."""
        self._powers[0] = part * self._power_of(thought)
        self._object[0], self._object[1] = thought, 0.0
        self._thought = self._object.copy()
        self._improve_phase(steps, ENOUGH)
        self._thought = None
        # 1 / (cells t + 1 / P) is 1 / (t + 1 / (cells P)) over cells
        self._powers[0] *= cells * max(part, LEAST_ERROR) / part
        variance = float(self._prior_and_divisors()[0].mean(dtype=np.float64)) / cells
        return self._object[0].copy(), self._object[1].copy(), variance

    def _unlikely(self, images: F32) -> F32:
        if self._thought is not None and images is self._object:
            images = images - self._thought
        return super()._unlikely(images)

    def _power_of(self, image: F32) -> F64:
        """Of an image, by rings, as far as cells see it."""
        radius = np.hypot(self._y[:, None], self._x)
        ring = (radius / RING).astype(np.int64)
        power = np.abs(np.fft.fft2(image)) ** 2 / image.size
        each = [np.bincount(ring.ravel(), values.ravel()) for values in (power, power >= 0.0)]
        total, count = (np.convolve(values, np.ones(WIDE), "same") for values in each)
        power = (total / np.maximum(count, 1.0))[ring]
        known = (radius < 2.0) & (radius > 0.0)
        return np.asarray(np.where(known, power, 0.0))


def times_of(discs: Discs) -> int:
    """Pixels of the specimen to a step of the scan."""
    return max(1, math.ceil(discs.step_angstrom / (FINEST * discs.beam.airy_radius)))
