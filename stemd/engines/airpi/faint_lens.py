"""The lens of a faint specimen, whose power is known from the dark field.

`lens.measure` must find out the specimen's power at each frequency together with the lens. Of a
faint specimen it takes noise for power everywhere, so it claims a lens only where that is far ahead
of all others. The dark field has the power without a lens (`dark_field`), and the evidence

    sum_q |numerator|^2 / N P / (N + P D) - ln(1 + P D / N)

is then the logarithm of a likelihood, with nothing fitted. With the lenses that are usual about the
one told it says which lens it was, or which it may have been.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations, scales
from stemd.engines.airpi.dark_field import power_at
from stemd.engines.bright_field.measuring import LEAST_SIDE, middle_cells
from stemd.engines.bright_field.view import Discs
from stemd.engines.lens.measure import Search, StoppedError, affordable

F64 = NDArray[np.float64]

SIDE = 48
"""Positions across the middle of a scan in which it is looked for."""
MOST_CELLS = 200
"""More are pooled."""
USUAL_DEFOCUS, USUAL_ASTIGMATISM = 0.5, 0.4
"""Standard deviations of the lens about the one told, in parts of the limits of the search."""
STEP, ASIDE, AROUND = 1.3, 1.9, 6
"""Radian at the aperture's edge between defoci that are tried, and of the astigmatism in so many
directions."""
FINEST = 0.12
"""Radian to which a peak is found."""
TOPS = 3
"""Peaks of the first look that are climbed."""
AHEAD = 6.0
"""By how much another lens must be likelier than the one told, logarithm: by 5 and 7 it was where
that was true, by 7 to 49 where it was not (seeds 7501 and 7502, 500 e/angstrom^2)."""
TEMPER = 2.0
"""Of the logarithm that makes a lens e times likelier in the mean: neighbouring frequencies are not
independent."""
LEAST = 0.02
"""Part in the mean below which a lens is left out."""


def likely_lenses(
    discs: Discs,
    told: Aberrations,
    possible: Sequence[Aberrations],
    density: F64,
    search: Search,
    go_on: Callable[[], bool],
) -> tuple[list[Aberrations], F64]:
    """The lenses that were likely the true one, the likeliest first, with their parts in the mean.

    That which was told alone where no other is clearly likelier, else it is one of them; `possible`
    ones are looked at in any case. Costs some hundred sums over the cells. Raises StoppedError once
    `go_on` says no.
    """
    cells = middle_cells(discs, SIDE)
    if cells is None or min(discs.done.shape) < LEAST_SIDE:
        return [told], np.ones(1)
    if cells.counts.size > MOST_CELLS:
        cells = cells.coarser()
    unit = scales(discs.beam)
    search = affordable(search, unit)
    power = power_at(density, cells.at, discs.step_angstrom * discs.beam.aperture)
    start, reach = told.coefficients(discs.beam), search.reach(unit)
    usual = np.array([USUAL_DEFOCUS, USUAL_ASTIGMATISM, USUAL_ASTIGMATISM]) * reach

    def likelihood(change: F64) -> float:
        if not go_on():
            raise StoppedError
        place = np.append(start, 0.0)
        place[:3] += change
        seen = cells.estimate(place)
        n, transfer = cells.at.positions, seen.denominator
        each = np.abs(seen.numerator) ** 2 / n * power / (n + power * transfer)
        each -= np.log1p(power * transfer / n)
        # a frequency and its negative are one number
        return float((each * cells.at.twice).sum()) / 2.0 - 0.5 * float(
            ((change / usual) ** 2).sum()
        )

    def inside(change: F64) -> bool:
        return abs(change[0]) <= reach[0] and math.hypot(*change[1:]) <= reach[1]

    first = [change for change in _grid(reach) if inside(change)]
    first += [lens.coefficients(discs.beam)[:3] - start[:3] for lens in possible]
    values = [likelihood(change) for change in first]
    tops: list[tuple[float, F64]] = []
    for number in np.argsort(values)[::-1]:
        if len(tops) < TOPS and _apart(first[number], [place for _, place in tops]):
            tops.append((values[number], first[number]))
    climbed: list[tuple[float, F64]] = []
    for value, change in sorted(
        (_climbed(likelihood, inside, *top) for top in tops), key=lambda top: -top[0]
    ):
        if _apart(change, [place for _, place in climbed]):
            climbed.append((value, change))
    at_told = likelihood(np.zeros(3))
    if climbed[0][0] < at_told + AHEAD:
        return [told], np.ones(1)
    every = [*climbed, (at_told + AHEAD, np.zeros(3))]
    share = np.exp([(value - climbed[0][0]) / TEMPER for value, _ in every])
    share[share < LEAST * share.sum()] = 0.0
    kept = sorted(np.flatnonzero(share).tolist(), key=lambda number: -share[number])
    lenses = []
    for number in kept:
        place = start.copy()
        place[:3] += every[number][1]
        lenses.append(told if number == len(climbed) else Aberrations.of(place, discs.beam))
    return lenses, np.asarray(share[kept] / share[kept].sum())


def _grid(reach: Sequence[float]) -> list[F64]:
    """Changes of the lens, in radian, that are looked at first: the one told is among them."""
    count = math.floor(reach[0] / STEP)
    found = []
    for defocus in STEP * np.arange(-count, count + 1):
        found.append(np.array([defocus, 0.0, 0.0]))
        for turn in 2.0 * math.pi * np.arange(AROUND) / AROUND:
            aside = ASIDE * np.array([math.cos(turn), math.sin(turn)])
            found.append(np.array([defocus, *aside]))
    return found


def _apart(place: F64, others: Sequence[F64]) -> bool:
    return all(
        abs(place[0] - other[0]) > 1.5 * STEP or math.hypot(*(place - other)[1:]) > 1.2 * ASIDE
        for other in others
    )


def _climbed(
    likelihood: Callable[[F64], float], inside: Callable[[F64], bool], value: float, place: F64
) -> tuple[float, F64]:
    """The top of the peak at a place, by steps along the axes that become smaller."""
    step = STEP / 2.0
    while step > FINEST:
        around = [
            place + sign * step * np.eye(3)[axis] for axis in range(3) for sign in (1.0, -1.0)
        ]
        values = [likelihood(each) if inside(each) else -math.inf for each in around]
        best = int(np.argmax(values))
        if values[best] > value:
            value, place = values[best], around[best]
        else:
            step /= 2.0
    return value, place
