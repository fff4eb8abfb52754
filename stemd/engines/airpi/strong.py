"""Specimens whose phase is not weak: the linear estimate of them is wrong, and its cells agree.

Of a perovskite or a metal particle through a lens that spreads the probe the linear estimate says a
fifth, in the wrong places. What the cells count still follows exactly from the phase and the lens
(`full_model`). So in the middle of the scan a phase near the network's, which must not be right in
strength, is fitted to the counts of half of the cells. How far it may go from the network, and
whether it is better than the linear estimate of the same cells, is asked of the other half, which
has not been used. Only where the phase is strong does any of this matter.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.engines.airpi.bright import Evidence
from stemd.engines.airpi.full_model import HASTY_STEPS, STEPS, Part, times_of
from stemd.engines.airpi.inner import rim_of
from stemd.engines.airpi.joined import AMPLITUDE, coefficients
from stemd.engines.airpi.slopes import Frame
from stemd.engines.bright_field.counted import points_of
from stemd.engines.bright_field.view import Discs
from stemd.engines.splines import read_at
from stemd.logs import get_logger

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

log = get_logger(__name__)

MIDDLE, TILE = 48, 64
"""Positions across the part that decides, and across the tiles that are fitted."""
LEAST_INNER = 8
"""Positions across that must be left of the middle without its rim."""
POINTS, HASTY_POINTS = 150, 40
"""Points of the disc, of half of the cells, at most; and where the image is waited for."""
LIKELIEST = 0.5
"""Part of all lenses that the one through which is fitted has at least."""
SCALES = (0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
"""By which a network that is not sure of itself says too little."""
PARTS = (0.1, 1.0, 8.0)
"""Of the network's own power: that of its error, of which the counts decide."""
FAINT, STRONG = 0.08, 0.12
"""Root mean square in radian of the network's phase, brought to strength, and of the fitted one,
below which a specimen is weak. Amorphous films, zeolites and light sheets have up to 0.07."""
ENOUGH, WRONG = 0.95, 0.75
"""Part of the strength of the fitted phase that the linear estimate of the same cells has, with
what it holds back, from which on it is good enough, and up to which it is wrong. At
500 e/angstrom^2 two sheets of a dichalcogenide 0.92 to 1.2, perovskites 0.69 to 0.89, particles
0.33 to 0.61."""
OPEN, KNOWN = 0.16, 0.08
"""Part of the power of the fitted phase that the counts leave open, from which on it is no better
than the joined one where the linear estimate is good, and up to which it is. Sheets of a
dichalcogenide at 500 e/angstrom^2 0.25 to 0.28, at 1e4 0.04 to 0.06."""
MOST_TILES = 150
"""Of a scan that are fitted, those in its middle: up to three minutes of one core. The number and
not the time is limited, so that the image from a record does not depend on what else runs."""
TOLD_S = 5.0
"""Between two lines in the log about how far it is."""
CLEAR = 30.0
"""Logarithm of how much likelier the counts that were not used are with the fitted phase than
without a specimen."""


@dataclass(frozen=True, slots=True)
class Strong:
    """What the middle of a scan says of a strong specimen.

    `scale` of the network's phase, `part`: see `PARTS`; `middle`: the fitted phase, with `frame`:
    where its first pixel lies from the scan's first position; `wrong`: how wrong the
    linear estimate is, 0 to 1; `better`: how far a fitted image is to be preferred to the joined
    one, up to 1 where nothing of that is to be used.
    """

    scale: float
    part: float
    middle: F32
    frame: Frame
    wrong: float
    better: float

    def alike(self, image: F32, at: Frame) -> float:
        """Correlation of an image (h, w), which lies there, with what was fitted."""
        spline = coefficients(image)
        y, x = (
            np.clip(
                (self.frame.first[n] - at.first[n] + self.frame.pixel * np.arange(size)) / at.pixel,
                0.0,
                image.shape[n] - 1.0,
            )
            for n, size in enumerate(self.middle.shape)
        )
        seen, middle = (part - part.mean() for part in (read_at(spline, y, x), self.middle))
        size = math.sqrt(float(np.square(seen).sum()) * float(np.square(middle).sum()))
        return float((seen * middle).sum()) / size if size > 0.0 else 0.0


@dataclass(frozen=True, slots=True)
class Fitted:
    """A phase (h, w) in radian and its standard error in radian.

    `where` (h, w): which pixels have been fitted. `part`: of the scan's positions.
    """

    phase: F32
    sigma: float
    where: NDArray[np.bool_]
    part: float = 1.0


def strong(image: F32, frame: Frame, evidence: Evidence) -> Strong | None:
    """What counts say of a network's image (h, w), radian; None for a weak or an unclear specimen.

    `frame`: where the image lies from the scan's first position.
    """
    discs, lens = evidence.discs, evidence.lens
    if discs is None or lens is None or evidence.part < LIKELIEST:
        return None
    rim = rim_of(discs, lens)
    rows, columns = (_middle(n, MIDDLE) for n in discs.done.shape)
    if min(part.stop - part.start for part in (rows, columns)) - 2 * rim < LEAST_INNER:
        return None
    most = HASTY_POINTS if evidence.hasty else POINTS
    stride = 2 * max(1, math.ceil(points_of(discs) / (2 * most)))
    used = Part(discs, lens, rows, columns, 0, stride)
    thought = used.thought(coefficients(image), frame)
    scale = max(SCALES, key=lambda scale: used.likely(np.float32(scale) * thought, rim=rim))
    thought = np.float32(scale) * thought
    if float(thought.std()) < FAINT:
        return None
    unused = Part(discs, lens, rows, columns, stride // 2, stride)
    more = stride / _stride(discs)
    steps = HASTY_STEPS if evidence.hasty else STEPS
    fits = {part: used.fitted(thought, part, more, steps) for part in PARTS}
    likely = {part: unused.likely(*fit[:2], rim=rim) for part, fit in fits.items()}
    part = max(PARTS, key=lambda part: likely[part])
    (linear, deviation), edge = used.linear(), rim * used.times
    phase, weak = (
        image[edge : used.shape[0] - edge, edge : used.shape[1] - edge]
        for image in (fits[part][0], linear)
    )
    least = unused.likely(np.zeros_like(thought), rim=rim) + CLEAR
    least = max(least, unused.likely(linear, rim=rim))
    strength = float(phase.std())
    if likely[part] < least or strength < STRONG:
        return None
    left = fits[part][2] / strength**2
    # with few electrons it is weak because it holds back what may be noise, which is not wrong
    wrong = (ENOUGH - math.hypot(float(weak.std()), deviation) / strength) / (ENOUGH - WRONG)
    wrong = min(1.0, max(0.0, wrong))
    better = max(wrong, (OPEN - left) / (OPEN - KNOWN))
    if better <= 0.0:
        return None
    step = discs.step_angstrom
    inner = Frame(step / used.times, ((rows.start + rim) * step, (columns.start + rim) * step))
    return Strong(scale, part, phase, inner, wrong, min(1.0, better))


def fitted(image: F32, frame: Frame, evidence: Evidence, found: Strong) -> Fitted:
    """The network's image (h, w) of the whole scan, fitted to what all cells count.

    In tiles, each with its surroundings as the network has them, from the middle of the scan
    outwards, at most `MOST_TILES`; `frame` as of `strong`.
    """
    discs, lens = evidence.discs, evidence.lens
    assert discs is not None
    assert lens is not None
    image = np.float32(found.scale) * image
    spline = coefficients(image)
    stride = _stride(discs)
    times = times_of(discs)
    change = np.zeros([(n - 1) * times + 1 for n in discs.done.shape])
    weight, variances = np.zeros_like(change), []
    tiles = _from_middle(discs.done.shape, _tiles(discs.done.shape, rim_of(discs, lens)))
    tiles = tiles[:MOST_TILES]
    told = time.monotonic()
    for number, (rows, columns) in enumerate(tiles):
        if time.monotonic() > told + TOLD_S:
            told = time.monotonic()
            log.info("a strong specimen is fitted to its counts", tiles=len(tiles), done=number)
        tile = Part(discs, lens, rows, columns, 0, stride)
        thought = tile.thought(spline, frame)
        phase, _, variance = tile.fitted(thought, found.part)
        variances.append(variance)
        window = _window(tile.shape)
        moved = (phase - thought)[: tile.shape[0], : tile.shape[1]]
        place = np.s_[
            rows.start * times : rows.start * times + tile.shape[0],
            columns.start * times : columns.start * times + tile.shape[1],
        ]
        change[place] += window * (moved - np.average(moved, weights=window))
        weight[place] += window
    there = weight > 0.0
    spline = coefficients(
        np.where(there, change / np.where(there, weight, 1.0), 0.0).astype(np.float32)
    )
    pixel = discs.step_angstrom / times
    y, x = (
        np.clip(
            (frame.first[n] + frame.pixel * np.arange(size)) / pixel, 0.0, change.shape[n] - 1.0
        )
        for n, size in enumerate(image.shape)
    )
    phase = image + read_at(spline, y, x)
    strength = AMPLITUDE * float(phase.std())
    sigma = math.sqrt(float(np.mean(variances)) + strength**2)
    where = there[np.ix_(*(np.rint(places).astype(np.int64) for places in (y, x)))]
    return Fitted(phase, sigma, where, float(there[::times, ::times].mean()))


def _stride(discs: Discs) -> int:
    """Every so many cells are fitted."""
    return max(1, math.ceil(points_of(discs) / (2 * POINTS)))


def _middle(positions: int, side: int) -> slice:
    used = min(positions, side)
    return slice((positions - used) // 2, (positions - used) // 2 + used)


def _tiles(shape: tuple[int, ...], rim: int) -> Iterator[tuple[slice, slice]]:
    """Rectangles of the scan that overlap by what the lens spreads to both sides."""
    rows, columns = (_cut(n, min(2 * rim, TILE // 2)) for n in shape)
    for row in rows:
        for column in columns:
            yield row, column


def _from_middle(
    shape: tuple[int, ...], tiles: Iterable[tuple[slice, slice]]
) -> list[tuple[slice, slice]]:
    """The nearest to the middle of the scan first."""

    def far(tile: tuple[slice, slice]) -> float:
        return math.hypot(
            *(part.start + part.stop - n for part, n in zip(tile, shape, strict=True))
        )

    return sorted(tiles, key=far)


def _cut(positions: int, overlap: int) -> list[slice]:
    """Stretches of equal length, at most `TILE`, that cover all and overlap by so much or more."""
    if positions <= TILE:
        return [slice(0, positions)]
    count = math.ceil((positions - overlap) / (TILE - overlap))
    starts = np.rint(np.linspace(0, positions - TILE, count)).astype(int).tolist()
    return [slice(start, start + TILE) for start in starts]


def _window(shape: tuple[int, int]) -> F64:
    """Weights of a tile's pixels, which fall towards its border."""
    each = [np.minimum(np.arange(n) + 1.0, np.arange(n, 0, -1.0)) for n in shape]
    return np.asarray(np.outer(each[0], each[1]) ** 2, np.float64)
