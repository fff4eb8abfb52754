"""What the eight neighbours of a pixel say it should be, and the noise of pixels over that.

Of an image of which nothing is known yet, and of which some pixels may be anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Mask = NDArray[np.bool_]

FEW = 20
"""Times that something was counted below which it tells nothing."""
PART = 0.04
"""And as a part of all: fewer may be spikes."""
COUNTED = (0.6, 1.6)
"""Variance over the mean, in steps of the values, of what are counts."""
NOISIEST = 6.0
"""The same in any stratum: of the brightest some are bright by chance."""
SHOWS = 1.5
"""Variance of neighbours' means, over that of white noise, from which on an image shows something.
"""
BINS = 16
"""Of brightness, with as many pixels each."""
LOOKED_AT = 1 << 18
"""Pixels, in lines spread over the image, that say what its noise is."""


@dataclass(frozen=True, slots=True)
class PixelNoise:
    """`variance` (n,) of a pixel over the `level` (n,) of its neighbours, and value of an electron.

    `counted`: values are its multiples. `shows`: neighbours differ by more than their noise.
    """

    level: F64
    variance: F64
    electron: float
    counted: bool
    shows: bool


def pixel_noise(image: F32) -> PixelNoise:
    """The noise of pixels of an image (ny, nx), of which a tenth may be anything."""
    ny, nx = image.shape
    every = max(1, image.size // LOOKED_AT)
    lines = np.arange(every // 2, ny, every)
    middle = np.empty((len(lines), nx), np.float32)
    _middles(image, lines, middle)
    level = middle.ravel().astype(np.float64)
    values = image[lines].ravel().astype(np.float64)
    apart = np.abs(values - level)
    bins = np.array_split(np.argsort(level, kind="stable"), BINS)
    levels = np.array([level[each].mean() for each in bins])
    deviation = np.array([_deviation(apart[each]) for each in bins])
    sparse = deviation == 0.0
    differences = np.diff(np.unique(values))
    step = float(differences.min()) if differences.size else 0.0
    some = apart[apart > 0.0]
    if sparse.all():
        # next to all pixels are alike: what is not is an electron, mostly
        electron = float(np.median(some)) if some.size else 0.0
        counted = electron == step and are_counts(image[lines], step)
    else:
        low = int(np.argmin(np.where(sparse, np.inf, levels)))
        counted = are_counts(image[lines], step)
        electron = step
        above = levels - levels[low] > deviation[low]
        if above.any() and not counted:
            slopes = (deviation[above] ** 2 - deviation[low] ** 2) / (levels[above] - levels[low])
            electron = max(step, float(np.median(slopes)))
    for n in np.flatnonzero(sparse):
        deviation[n] = electron * math.sqrt(float(np.mean(apart[bins[n]] > 0.0)))
    variance = np.maximum.accumulate(deviation**2)
    if counted and not sparse.all():
        # the image's own differences are none of it
        variance = np.maximum(electron * levels, electron**2 * 1e-3)
    spread = _deviation(np.abs(level - np.median(level)))
    usual = float(np.median(deviation))
    # of white noise the middle half of eight neighbours has a mean of 0.4 of its deviation
    shows = spread > SHOWS * 0.4 * usual
    if counted and not shows and not sparse.any():
        counted = _as_lopsided(values, electron)
    least = 1e-12 * float(np.square(levels).max())
    return PixelNoise(levels, np.maximum(variance, least), electron, counted, shows)


def are_counts(lines: F32, step: float) -> bool:
    """Whether values of some lines (n, nx) are counts, times `step`: as noisy as counts are.

    The square of the second difference of three neighbours is, on average, their sum, each by the
    square of its weight. So it is where few are counted as where many are, up to the first gap in
    what is counted; pulses of all heights, and values that were scaled, are noisier.
    """
    if lines.shape[1] < 3 or step <= 0.0:
        return False
    one, middle, other = (lines[:, n : lines.shape[1] - 2 + n].astype(np.float64) for n in range(3))
    total = (one + 4.0 * middle + other).ravel() / step
    square = np.square((one - 2.0 * middle + other).ravel() / step)
    # strata, each up to four times as many as the one before: of 1 or less nothing can be told
    stratum = np.floor(np.log2(np.maximum(total, 1.0) / 1.5) / 2.0).astype(np.int64)
    several = total > 1.5
    number = np.bincount(stratum[several])
    many = number >= max(FEW, PART * number.sum())
    if not many.any():
        return False
    first = int(np.argmax(many))
    end = first + int(np.argmin(np.append(many[first:], False)))
    sums, squares = (np.bincount(stratum[several], each[several]) for each in (total, square))
    each = squares[first:end] / sums[first:end]
    low, high = COUNTED
    overall = float(squares[first:end].sum() / sums[first:end].sum())
    return bool(low < overall < high and each.max() < NOISIEST)


def _as_lopsided(values: F64, step: float) -> bool:
    """Whether `values` (n,) of an even image may be counts, times `step`: by their third moment.

    That is the variance, times the step, where they are. Noise of electronics whose variance is by
    chance as large as its black level has none.
    """
    apart = values - np.median(values)
    deviation = _deviation(np.abs(apart))
    apart = apart[np.abs(apart) < 4.5 * deviation]
    apart -= apart.mean()
    square = float(np.mean(np.square(apart)))
    third = float(np.mean(apart**3))
    unsure = 2.0 * math.sqrt(15.0 / apart.size * square)
    return third / square > 0.4 * step - unsure


def _deviation(apart: F64) -> float:
    """Deviation of normal numbers of these absolute values, a tenth of which may be anything."""
    half, most = np.quantile(apart, (0.5, 0.8))
    return max(float(half) / 0.6745, float(most) / 1.2816)


@njit(nogil=True, cache=True)
def ring(image: F32, found: Mask, j: int, i: int, reach: int, out: F64) -> tuple[int, int]:
    """Values at a distance of `reach` that are not `found`, in order, into `out`.

    How many they are, and how many of the image's pixels there are.
    """
    ny, nx = image.shape
    count = total = 0
    for y in range(j - reach, j + reach + 1):
        if y < 0 or y >= ny:
            continue
        step = 1 if abs(y - j) == reach else 2 * reach
        for x in range(i - reach, i + reach + 1, step):
            if x < 0 or x >= nx:
                continue
            total += 1
            if found[y, x]:
                continue
            value = float(image[y, x])
            k = count
            while k > 0 and out[k - 1] > value:
                out[k] = out[k - 1]
                k -= 1
            out[k] = value
            count += 1
    return count, total


@njit(nogil=True, cache=True)
def middle_of(values: F64, count: int) -> float:
    """Mean of the middle half of `values` in order, of which there are `count`."""
    first = count // 4
    total = 0.0
    for k in range(first, count - first):
        total += values[k]
    return total / (count - 2 * first)


@njit(nogil=True, cache=True)
def _middles(image: F32, lines: I64, out: F32) -> None:
    """The middle of the eight neighbours of each pixel of some lines, (n, nx)."""
    inner = np.empty(8)
    none = np.zeros(image.shape, np.bool_)
    for n in range(len(lines)):
        for i in range(image.shape[1]):
            count, _ = ring(image, none, lines[n], i, 1, inner)
            out[n, i] = middle_of(inner, count)
