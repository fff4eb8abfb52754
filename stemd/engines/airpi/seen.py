"""The linear estimate's waves with their noise, as the join of both images looks at them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stemd.engines.airpi.bright import Evidence
from stemd.engines.airpi.dark_field import UNSEEN, WIDTH
from stemd.engines.airpi.inner import Inner, rim_of
from stemd.engines.lens.estimate import Linear
from stemd.engines.lens.rings import by_chance
from stemd.engines.lens.weights import LEAST_SHARE

F64 = NDArray[np.float64]
C128 = NDArray[np.complex128]

DOUBT = 4.0
"""Times the noise that the cells' misfit makes: they are not wrong independently of each other."""
PART, TIMES = 0.3, 1 / 3
"""Of the power of what is seen that the network's error has, and the standard deviation of how many
times that it is, before anything is known."""
SURE = 4 / 3
"""Times what chance makes of a ring, from which on a single one decides about its own error."""
MOST = 1.5
"""Of the power of what is seen that the error has at most."""
ABOUT = 5
"""Rings that together tell which part of a specimen a network shows."""
WIDE = 13
"""Rings that together tell how strong a specimen may be that no single one sees."""
STANDS_OUT = 0.6
"""Part of the specimen's power above its noise from which on the middle alone is looked at: where
noise decides, more waves count for more than the errors of the border."""
FLOOR = 0.3
"""Part of the power of what is seen, or may be there, that counts as the network's error for the
uncertainty, where the difference says less: both have the noise of the same electrons, which makes
them alike."""
LEAST_CLEAR = -6.0
"""Standard errors below 0 from which on the mean above 0 is that of an exponential."""
SHOWN = 0.8
"""Of the mean square by the dark field, that which an image is to have: vibrations scatter, too."""
CLEARLY = 2.0
"""Standard errors by which many rings together must have more."""
BELIEVED = 0.5
"""Of the power that the dark field has, which has vibrations and the wings of a detector's point
spread in it, too."""
# TIMES, SURE and ABOUT were chosen on seeds 7501 and 7502, see decision 49, and are reported on
# 7503 and 7504.
TINY = 1e-150


class Seen:
    """The linear estimate's waves with their noise, and what they leave of other waves."""

    def __init__(self, evidence: Evidence) -> None:
        linear, trust = evidence.linear, 1.0 + DOUBT * (evidence.misfit - 1.0)
        self._expected = evidence.expected
        self.at = linear.at
        self._numerator = linear.numerator / trust
        self._denominator = linear.denominator / trust
        known = self._denominator > LEAST_SHARE * self._denominator.max(initial=0.0)
        divisor = np.where(known, self._denominator, 1.0)
        self.waves = np.where(known, self._numerator / divisor, 0.0)
        self.noise = np.where(known, self.at.positions / divisor, np.inf)
        discs, lens = evidence.discs, evidence.lens
        rim = 0
        if discs is not None and lens is not None and self._clear() > STANDS_OUT:
            rim = rim_of(discs, lens)
        self.middle = Inner(self.at, self.noise, rim, evidence.shape)
        self.inner = self.middle.of(self.waves)

    def _clear(self) -> float:
        """Part of the specimen's power that stands out of the noise."""
        power, known = self.power(), np.isfinite(self.noise)
        weight = np.where(known, self.at.twice * power, 0.0)
        clear = weight * power / np.maximum(power + np.where(known, self.noise, 0.0), TINY)
        return float(clear.sum()) / max(float(weight.sum()), TINY)

    def scale(self, faint: F64) -> None:
        """By rings, to what the linear estimate is in parts of the phase."""
        part = faint[self.at.ring]
        self.waves = self.waves / part
        self.inner = self.inner / part
        self.noise = self.noise / part**2
        self._numerator = self._numerator * part
        self._denominator = self._denominator * part**2

    def power_beside(self, waves: C128) -> F64:
        """Power of the specimen beside these waves, by rings, as `Linear.power` has it.

        A ring of few waves that does not stand out by more than chance makes of them has no more
        than many rings together: one strong wave of noise would pass for coarse detail.
        """
        rest = Linear(self.at, np.zeros(0))
        rest.numerator = self._numerator - self._denominator * waves
        rest.denominator = self._denominator
        power = rest.power()
        at, known = self.at, np.isfinite(self.noise)
        noise = np.where(known, self.noise, 0.0)
        beyond = np.where(known, np.abs(self.waves - waves) ** 2 - noise, 0.0)
        seen, square, mean = (
            np.bincount(at.ring, values)
            for values in (at.twice * beyond, (at.twice * noise) ** 2, at.twice * noise)
        )
        error = square / at.share
        count = mean**2 / np.maximum(error, TINY)
        stands_out = seen > by_chance(count) * np.sqrt(error)
        most = np.minimum(power, self.power_at_most(waves))
        return np.asarray(np.where(stands_out[at.ring], power, most))

    def power(self, believed: float = BELIEVED) -> F64:
        """Power of the specimen, by rings: what was seen of it, and what the dark field says.

        Without a word of the bright field a ring has a power of `believed` of that which the dark
        field has there, in the mean, and not less than many rings together clearly have; the power
        of waves of a crystal lies in some rings, so that it falls off exponentially from 0 on. With
        what was seen, and its noise, the mean of what it may be is that of a normal distribution
        above 0.
        """
        if self._expected is None:
            return self.power_beside(np.zeros_like(self.waves))
        at, n = self.at, self.at.positions
        noise = n * self._denominator
        seen, error, most, count, thought = (
            np.bincount(at.ring, values).astype(np.float64)
            for values in (
                at.twice * (np.abs(self._numerator) ** 2 - noise),
                (at.twice * noise) ** 2 / at.share,
                at.twice * self._denominator**2,
                at.twice,
                at.twice * self._expected,
            )
        )
        most = np.maximum(most, TINY)
        power, error = seen / most, np.sqrt(np.maximum(error, TINY)) / most
        several, unsure = self._of_many_rings(0.0)
        thought = believed * thought / np.maximum(count, 1.0)
        thought = np.maximum(thought, several - CLEARLY * unsure)
        found = above_zero(power - error**2 / np.maximum(thought, TINY), error)
        return np.asarray(found[at.ring])

    def power_at_most(self, waves: C128 | float = 0.0) -> F64:
        """What the specimen's power beside these waves may well be, at each frequency: that of many
        rings together, and a standard error more. Faint ones are not zero because nobody sees them.
        """
        power, error = self._of_many_rings(waves)
        return np.asarray(np.maximum(power + error, 0.0)[self.at.ring])

    def power_expected(self) -> F64:
        """The mean of what the specimen's power may be, at each frequency, as many rings together
        have it: it is not below 0, whatever was measured. With a dark field, what that has."""
        if self._expected is not None:
            return self.power(1.0)
        power, error = self._of_many_rings(0.0)
        return np.asarray(above_zero(power, error)[self.at.ring])

    def strength(self) -> float:
        """Mean square of the phase by the dark field, radian^2, where it sees waves, and of coarser
        ones what may be there. 0 without a dark field."""
        if self._expected is None:
            return 0.0
        at = self.at
        coarse = np.hypot(at.y, at.x) < UNSEEN * WIDTH
        power = np.where(coarse, self.power_expected(), self._expected)
        return SHOWN * float((at.twice * power).sum()) / (at.positions * at.done.size)

    def _of_many_rings(self, waves: C128 | float) -> tuple[F64, F64]:
        """Power beside these waves and its standard error, by rings, each with those about it."""
        at, known = self.at, np.isfinite(self.noise)
        noise = np.where(known, self.noise, 1.0)
        weight = np.where(known, at.twice / noise**2, 0.0)
        total, seen, error = (
            rings(at.ring, values, WIDE)
            for values in (
                weight,
                weight * (np.abs(self.waves - waves) ** 2 - noise),
                (weight * noise) ** 2,
            )
        )
        total = np.maximum(total, TINY)
        return seen / total, np.sqrt(error / at.share) / total

    def part_shown(self, shown: F64, power: F64) -> F64:
        """Which part of a specimen of this power waves of another show, several rings together."""
        ring, twice = self.at.ring, self.at.twice
        several = [rings(ring, twice * each, ABOUT) for each in (shown, power)]
        return np.asarray(np.clip(several[0] / np.maximum(several[1], TINY), 0.0, 1.0)[ring])

    def least_error(self, shown: F64, power: F64) -> F64:
        """What counts as the error of waves of the power `shown` for the uncertainty at least,
        where `power` of the specimen is seen."""
        expected = self.power_expected()
        course = FLOOR * np.maximum(power + shown, expected)
        if self._expected is None:
            return np.asarray(course)
        all_of_it = self.part_shown(shown, expected)
        return np.asarray((1.0 - all_of_it) * expected + all_of_it * course)

    def error_of(self, waves: C128, power: F64, shown: F64, common: F64) -> F64:
        """Power of the error of waves (n,), of the middle.

        `power` of the specimen beside no waves, `shown` of these; `common`: covariance of the noise
        in the linear estimate and in the waves. Of waves that show nothing the error is the
        specimen itself, of those that show all of it PART of what is seen. How many times that it
        is says the difference, and a ring by itself what clearly is no chance.
        """
        at, noise, share = self.at, self.noise, self.middle.share
        all_of_it, course = self.part_shown(shown, power), power + shown
        thought = (1.0 - all_of_it) * power + all_of_it * PART * course
        weight = np.where(np.isfinite(noise), at.twice / (noise + course) ** 2, 0.0)
        noise = np.where(weight > 0, noise, 0.0)
        beyond = np.where(weight > 0, np.abs(self.inner - waves) ** 2 - noise + 2.0 * common, 0.0)
        there = TIMES**-2 + share * float((weight * thought**2).sum())
        times = (TIMES**-2 + share * float((weight * beyond * thought).sum())) / there
        error = np.minimum(max(times, 0.0) * thought, MOST * course)
        total, squares = np.bincount(at.ring, weight), np.bincount(at.ring, weight**2)
        apart = np.bincount(at.ring, weight * (beyond - error)) / np.maximum(total, TINY)
        sigma = np.sqrt(np.bincount(at.ring, (weight * (noise + error)) ** 2)) / np.maximum(
            total * math.sqrt(share), TINY
        )
        chance = by_chance(share * total**2 / np.maximum(squares, TINY))
        clear = np.where(np.abs(apart) > SURE * chance * sigma, apart, 0.0)
        return np.asarray(np.maximum(error + clear[at.ring], 0.0))


def above_zero(mean: F64, error: F64) -> F64:
    """The mean of a normal distribution above 0."""
    clear = mean / np.maximum(error, TINY)
    far = np.maximum(-clear, -LEAST_CLEAR)
    near = np.clip(clear, LEAST_CLEAR, -LEAST_CLEAR)
    below = 0.5 * np.array([math.erfc(-each / math.sqrt(2.0)) for each in near])
    density = np.exp(-0.5 * near**2) / math.sqrt(2.0 * math.pi)
    found = np.where(clear < LEAST_CLEAR, error / far, mean + error * density / below)
    return np.maximum(found, 0.0)


def rings(ring: NDArray[np.int64], values: F64, about: int) -> F64:
    """Sums over each ring and those about it, so many together."""
    each = np.bincount(ring, values)
    return np.asarray(np.convolve(each, np.ones(about))[about // 2 :][: each.size])
