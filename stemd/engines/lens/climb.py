"""The place of the highest evidence: a coarse search, then Newton's method."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Parts = Callable[[F64], F64]
"""The evidence at a place, in parts that have noise of their own."""

STEP_RADIAN = 1.0
"""Of the coarse search, at the aperture's edge: the evidence's peak is about twice as wide."""
FAR_RADIAN = 5.0
"""From the best place, where the evidence is that of a wrong lens."""
FINE_RADIAN = 0.05
"""Of the differences that Newton's method takes."""
MOST_TURNS = 15
APART_RADIAN = 2.0
"""From each other, where two places are peaks of their own."""


@dataclass(frozen=True, slots=True)
class Peak:
    """A maximum over some of the numbers of a place.

    `information` (free, free): the second derivatives with their sign changed; `scatter` likewise:
    the sum over the evidence's parts of the products of their gradients. Where the model is true
    both are the same; where parts of the data contradict each other the second is larger.
    """

    place: F64
    height: float
    information: F64
    scatter: F64

    def variance(self) -> F64 | None:
        """Of each free number, (free,); None where this is no maximum.

        Of the curvature alone, or with what the parts say of themselves (Huber, Proc. 5th
        Berkeley Symp. 1 (1967) 221), whichever is larger.
        """
        if not np.isfinite(self.information).all():
            return None
        if np.linalg.eigvalsh(self.information).min() <= 0.0:
            return None
        inverse = np.linalg.inv(self.information)
        seen = inverse @ self.scatter @ inverse
        return np.asarray(np.maximum(np.diag(inverse), np.diag(seen)))


def searched(
    heights_of: Callable[[F64], F64],
    start: F64,
    reach: Sequence[float],
    most_aside: float,
    most: int,
) -> tuple[list[tuple[float, F64]], float]:
    """The `most` highest peaks of a coarse search about `start`, and the floor.

    `heights_of`: the evidence at places (m, ..) that differ by equal steps of the first number,
    (m,). `reach`: of the first three numbers; the second and third together go no further than
    `most_aside`. The floor is the median evidence of places far from the best one.
    """
    lines, found = [], []
    along, *steps = [_steps(each) for each in reach]
    for x in steps[0]:
        for y in steps[1]:
            if math.hypot(x, y) <= most_aside:
                line = np.tile(start, (along.size, 1))
                line[:, 0] += along
                line[:, 1:3] += x, y
                lines.append(line)
                found.append(heights_of(line))
    heights, tried = np.concatenate(found), np.concatenate(lines)
    order = np.argsort(-heights, kind="stable")
    heights, at = heights[order], tried[order]
    away = np.linalg.norm(at - at[0], axis=1)
    far = heights[away >= min(FAR_RADIAN, float(away.max()))]
    peaks: list[tuple[float, F64]] = []
    left = np.arange(heights.size)
    while left.size and len(peaks) < most:
        best = left[0]
        peaks.append((float(heights[best]), at[best]))
        left = left[np.linalg.norm(at[left] - at[best], axis=1) >= APART_RADIAN]
    return peaks, float(np.median(far))


def places(reach: Sequence[float]) -> int:
    """About how many places `searched` tries: those of a line times those of a disc."""
    aside = min(reach[1:])
    return round(_steps(reach[0]).size * max(1.0, math.pi / 4 * _steps(aside).size ** 2))


def _steps(reach: float) -> F64:
    count = max(0, math.ceil(reach / STEP_RADIAN))
    return np.linspace(-reach, reach, 2 * count + 1) if count else np.zeros(1)


def climbed(parts_of: Parts, start: F64, free: Sequence[int]) -> Peak:
    """The maximum near `start` over the `free` numbers of a place."""
    place, height = start, float(parts_of(start).sum())
    for _ in range(MOST_TURNS):
        slopes, hessian = _derivatives(parts_of, place, height, free)
        values, vectors = np.linalg.eigh(hessian)
        # uphill also where the surface is not a hill yet
        step = vectors @ ((vectors.T @ slopes.sum(axis=1)) / np.maximum(np.abs(values), 1e-9))
        step *= min(1.0, STEP_RADIAN / max(1e-12, float(np.abs(step).max())))
        for _ in range(6):
            there = place.copy()
            there[list(free)] += step
            reached = float(parts_of(there).sum())
            if reached > height:
                break
            step *= 0.4
        else:
            break
        small = float(np.abs(step).max()) < FINE_RADIAN / 50
        place, height = there, reached
        if small:
            break
    slopes, hessian = _derivatives(parts_of, place, height, free)
    return Peak(place, height, -hessian, slopes @ slopes.T)


def _derivatives(
    parts_of: Parts, place: F64, height: float, free: Sequence[int]
) -> tuple[F64, F64]:
    """Over the `free` numbers the gradient of each part (free, parts), and the second derivatives
    of their sum (free, free), by central differences.
    """
    n, h = len(free), FINE_RADIAN
    hessian = np.zeros((n, n))

    def at(*moves: tuple[int, float]) -> F64:
        there = place.copy()
        for number, change in moves:
            there[free[number]] += change
        return parts_of(there)

    sides = [(at((i, h)), at((i, -h))) for i in range(n)]
    slopes = np.stack([(up - down) / (2 * h) for up, down in sides])
    for i, (up, down) in enumerate(sides):
        hessian[i, i] = (float(up.sum()) - 2 * height + float(down.sum())) / h**2
    for i in range(n):
        for j in range(i):
            both = float(at((i, h), (j, h)).sum()) - float(sides[i][0].sum() + sides[j][0].sum())
            hessian[i, j] = hessian[j, i] = (both + height) / h**2
    return slopes, hessian
