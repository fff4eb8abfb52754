"""The lens and the phase together, with what the linear model leaves out.

A specimen exp(i phi - mu) that need not be weak, and that goes on beyond the scan, where cells out
of focus see it: what the cells count follows without approximation, and Gauss-Newton steps lead to
the phase and the lens for which it is what was counted. The lens has to be nearly right before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.beam import Beam
from stemd.engines.kernels.exit_waves import add_transfers, fold_waves, unfold_waves
from stemd.engines.kernels.ricom import fast_length
from stemd.engines.lens.cells import TURN, turned
from stemd.engines.lens.climb import Peak
from stemd.engines.lens.estimate import RING
from stemd.engines.lens.measure import StoppedError
from stemd.engines.lens.patterns import Patterns, planes, powers

C64 = NDArray[np.complex64]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

FINEST = 0.4
"""Radii of the Airy disc to a pixel of the specimen at most: a strong phase makes waves beyond
those that the bright field transfers."""
FIRST, THEN = 5, 3
"""Steps of the phase before the lens is looked at, and after each step of the lens."""
LENS_STEPS = 3
FREED = 2
"""Steps in which the phase is let follow a change of the lens."""
LONGEST = 0.5
"""Radian, of one step of the lens."""
CHANGE = 0.01
"""Likewise, of the differences."""
TILES = 4
"""Parts of the scan along each axis whose slopes say how far they contradict each other."""


class Jointly:
    """The phase through a lens that is not quite right, and the lens.

    `place`: as for `lens.cells.Cells.evidence`. `go_on()`: no ends all by StoppedError.
    """

    def __init__(
        self, patterns: Patterns, beam: Beam, step_angstrom: float, place: F64,
        go_on: Callable[[], bool] = lambda: True,
    ) -> None:  # fmt: skip
        self.place = place.copy()
        self._points, self._edge, self._go_on = patterns.points, patterns.width, go_on
        ny, nx = patterns.done.shape
        reach = Aberrations.of(place[:TURN], beam).reach(beam) + beam.airy_radius
        aside = math.ceil(reach / step_angstrom)
        self._shape = tuple(fast_length(n + 2 * min(aside, n // 2)) for n in (ny, nx))
        self._times = max(1, math.ceil(step_angstrom / (FINEST * beam.airy_radius)))
        fine = [n * self._times for n in self._shape]
        self._y, self._x = (
            np.fft.fftfreq(n, step_angstrom / self._times) / beam.aperture for n in fine
        )
        number = max(1, np.count_nonzero(patterns.done))
        means = patterns.counts.sum(axis=(1, 2), where=patterns.done, dtype=np.float64)
        self._weights = np.asarray(means / number, np.float32)
        self._flat = planes(patterns.done, level=patterns.level)
        self._there = patterns.done
        self._data = self._leveled(patterns.counts / self._weights[:, None, None])
        rings = powers(patterns, beam, step_angstrom, place) * self._times**2
        ring = (np.hypot(self._y[:, None], self._x) / RING).astype(np.int64)
        self._powers = np.where(ring < rings.shape[1], rings[:, ring % rings.shape[1]], 0.0)
        self._powers[:, 0, 0] = 0.0
        self._object = np.zeros((2, *fine), np.float32)
        self._transfers: F64 = np.zeros(self._powers.shape)
        self._transfers_of: F64 | None = None
        """The place that they are of: the object takes many steps at each."""
        self._see()

    def improve(self, free: Sequence[int]) -> Peak:
        """Phase and lens in turn; the lens over these numbers of a place.

        The `height` is minus half of the squared differences over their variance.
        """
        self._improve_phase(FIRST)
        for _ in range(LENS_STEPS):
            information, slopes = self._lens_sums(free)
            step = np.linalg.lstsq(information, slopes.sum(axis=1), rcond=None)[0]
            step *= min(1.0, LONGEST / max(1e-12, float(np.abs(step).max())))
            self.place[list(free)] += step
            self._improve_phase(THEN)
            if float(np.abs(step).max()) < CHANGE / 2:
                break
        information, slopes = self._lens_sums(free)
        return Peak(self.place.copy(), -self.misfit / 2, information, slopes @ slopes.T)

    @property
    def misfit(self) -> float:
        """Sum of the squared differences over their variance."""
        return self._product(self._differences, self._differences)

    @property
    def shown(self) -> float:
        """The same with no specimen."""
        return self._product(self._data, self._data)

    @property
    def evidence(self) -> float:
        """By how much likelier the counts are with the specimen: a logarithm, without the power
        that it was expected to have."""
        return (self.shown - self.misfit) / 2

    # what is seen

    def _see(self) -> None:
        """What comes of the object through the lens, as it is now."""
        self._divisors = self._prior_and_divisors()
        phase, absorption = self._object
        self._transmission = np.exp(1j * phase - absorption).astype(np.complex64)
        self._waves = self._through(self._transmission, self.place)
        self._means, seen = self._relative(self._waves)
        self._differences = self._data - self._leveled(seen)

    def _through(self, transmitted: C64, place: F64) -> C64:
        """Waves (cells, m, ny, nx) at the positions."""
        if not self._go_on():
            raise StoppedError
        points = turned(self._points, float(place[TURN])).reshape(-1, 2)
        waves = np.empty((len(points), *self._shape), np.complex64)
        spectrum = np.fft.fft2(transmitted) / np.complex64(self._times**2)
        fold_waves(spectrum, points, self._y, self._x, place[:TURN], self._edge, waves)
        ny, nx = self._there.shape
        at_positions = np.asarray(np.fft.ifft2(waves)[:, :ny, :nx], np.complex64)
        return at_positions.reshape(*self._points.shape[:2], ny, nx)

    def _relative(self, waves: C64) -> tuple[F32, F32]:
        """Mean intensity of each cell, and the intensities over it."""
        seen = (waves.real**2 + waves.imag**2).sum(axis=1)
        means = seen.mean(axis=(1, 2), where=self._there, keepdims=True)
        return means, seen / means

    def _leveled(self, seen: F32) -> F32:
        """Without the mean, or without a plane, and 0 where nothing was measured."""
        there = np.where(self._there, seen, 0.0).astype(np.float32)
        parts = np.tensordot(there, self._flat, ((1, 2), (1, 2)))
        return there - np.tensordot(parts, self._flat, 1)

    def _product(self, one: F32, other: F32) -> float:
        each = np.einsum("cyx,cyx->c", one, other)
        return float(each.astype(np.float64) @ self._weights)

    def _changed(self, change: F32) -> F32:
        """How what is seen changes with the object."""
        phase, absorption = change
        through = (1j * phase - absorption).astype(np.complex64) * self._transmission
        waves = self._through(through, self.place)
        each = (self._waves.real * waves.real + self._waves.imag * waves.imag).sum(axis=1)
        return self._leveled(2.0 * each / self._means)

    def _back(self, differences: F32) -> F32:
        """The adjoint of `_changed`, with the weights of the cells."""
        if not self._go_on():
            raise StoppedError
        ny, nx = self._there.shape
        weighted = differences * (self._weights[:, None, None] / self._means)
        placed = np.zeros((*self._points.shape[:2], *self._shape), np.complex64)
        placed[:, :, :ny, :nx] = weighted[:, None] * self._waves
        spectra = np.fft.fft2(placed).reshape(-1, *self._shape)
        points = turned(self._points, float(self.place[TURN])).reshape(-1, 2)
        back = np.zeros(self._transmission.shape, np.complex64)
        unfold_waves(spectra, points, self._y, self._x, self.place[:TURN], self._edge, back)
        through = np.fft.ifft2(back) * self._transmission.conj()
        return np.asarray(2.0 * np.stack([through.imag, -through.real]), np.float32)

    # the object

    def _prior_and_divisors(self) -> F32:
        """What steps of the object are multiplied by: (2, Y, X) over the frequencies."""
        if self._transfers_of is None or not np.array_equal(self._transfers_of, self.place):
            self._transfers, self._transfers_of = self._transfers_now(), self.place.copy()
        known = self._powers > 0.0
        least = 1.0 / np.where(known, self._powers, 1.0)
        divisors = np.where(known, 1.0 / (self._transfers + least), 0.0)
        return np.asarray(divisors, np.float32)

    def _transfers_now(self) -> F64:
        """How well cells see phase and absorption: (2, Y, X) over the frequencies."""
        transfers = np.zeros(self._powers.shape)
        points = turned(self._points, float(self.place[TURN])).mean(axis=1)
        add_transfers(
            points, self._weights.astype(np.float64), self._y, self._x, self.place[:TURN],
            self._edge, transfers[0], transfers[1],
        )  # fmt: skip
        return transfers / self._times**2

    def _filtered(self, images: F32, by: F32) -> F32:
        return np.asarray(np.fft.ifft2(np.fft.fft2(images) * by).real, np.float32)

    def _unlikely(self, images: F32) -> F32:
        """The images over the power that they are expected to have."""
        by = np.where(
            self._powers > 0.0, 1.0 / np.where(self._powers > 0.0, self._powers, 1.0), 0.0
        )
        return self._filtered(images, by.astype(np.float32))

    def _improve_phase(self, steps: int, enough: float = 0.0) -> None:
        """Conjugate gradients (Polak, Ribiere), at most so many steps.

        No more where one has gained less than this part of what all have gained: half of the
        squared differences, by the curvature.
        """
        self._see()
        before, way, uphill = 0.0, np.zeros_like(self._object), np.zeros_like(self._object)
        gained = 0.0
        for _ in range(steps):
            last, uphill = uphill, self._back(self._differences) - self._unlikely(self._object)
            to = self._filtered(uphill, self._divisors)
            now, change = _dot(to, uphill), _dot(to, uphill - last)
            way = to + np.float32(max(0.0, change / before) if before else 0.0) * way
            before = now
            seen = self._changed(way)
            curvature = self._product(seen, seen) + _dot(way, self._unlikely(way))
            if not curvature > 0.0:
                return
            along = _dot(way, uphill)
            self._object += np.float32(along / curvature) * way
            self._see()
            gain = along**2 / curvature / 2.0
            gained += gain
            if gain < enough * gained:
                return

    # the lens

    def _lens_sums(self, free: Sequence[int]) -> tuple[F64, F64]:
        """Information (free, free) on numbers of the place, and the slopes (free, tiles).

        The phase is let follow each change: what it can imitate says nothing of the lens.
        """
        alone = [self._not_imitated(self._moved(number)) for number in free]
        weights = self._weights[:, None, None]
        information = np.array([[self._product(a, b) for a in alone] for b in alone])
        slopes = [_tiled((each * self._differences * weights).sum(axis=0)) for each in alone]
        return information, np.array(slopes)

    def _moved(self, number: int) -> F32:
        """How what is seen changes with a number of the place."""
        there = self.place.copy()
        there[number] += CHANGE
        _, seen = self._relative(self._through(self._transmission, there))
        return (self._leveled(seen) - (self._data - self._differences)) / np.float32(CHANGE)

    def _not_imitated(self, seen: F32) -> F32:
        way, before, made = np.zeros_like(self._object), 0.0, np.zeros_like(self._object)
        for _ in range(FREED):
            uphill = self._back(seen) - self._unlikely(made)
            to = self._filtered(uphill, self._divisors)
            now = _dot(to, uphill)
            way = to + np.float32(now / before if before else 0.0) * way
            before = now
            changed = self._changed(way)
            curvature = self._product(changed, changed) + _dot(way, self._unlikely(way))
            if not curvature > 0.0:
                return seen
            length = now / curvature
            made, seen = made + np.float32(length) * way, seen - np.float32(length) * changed
        return seen


def _dot(one: F32, other: F32) -> float:
    return float(np.vdot(one, other))


def _tiled(image: F32) -> F64:
    """Sums over the parts of a scan, (parts,)."""
    rows = np.array_split(image.astype(np.float64), TILES, axis=0)
    return np.array([part.sum() for row in rows for part in np.array_split(row, TILES, axis=1)])
