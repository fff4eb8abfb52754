"""Single pixels that measured something else, found before anything is learnt from an image.

Hot and dead pixels, X-rays, cosmic rays. Where they are many they are most of an image's deviation,
and all that is learnt of its noise and its order is theirs. A column has shoulders, and so has all
else that a probe of some width shows; these have none. Single electrons where few are expected
look the same: what an electron is comes from the image itself.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit
from stemd.engines.restoration.blank import blank_parts
from stemd.engines.restoration.neighbours import middle_of, pixel_noise, ring

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

CERTAIN = 3.0
"""Natural logarithm of how much rarer than once in an image a spike is by chance."""
TWICE = 2.0
"""How much more certain a spike must be: of noise as of edges little is known yet. What is less
far out is looked for again once it is known what the image shows (`evidence.outliers`)."""
BESIDE = 2
"""Neighbours of a spike that may be spikes too: pairs, and streaks along a line."""
STREAK_PX = 6
"""Connected pixels that may be spikes together. More are a thin line."""
SHOULDER = 0.04
"""Part of a pixel's height that its neighbours may have above what is around them."""
MANY = 0.15
"""Part of an image that may be spikes. Of more, nothing tells which is the image."""
BETWEEN = 0.1
"""How many pixels may be half as far out as spikes must be, as a part of these: pulses of electrons
have all heights. Where there are more, spikes must be further out."""
FURTHER = 4.0
"""By how much more certain they must be then: twice as far out."""
LOOKS = 8
"""Each without the neighbours that the last one has found."""
SMALLEST_PX = 8


def spikes(image: F32) -> Mask:
    """Which pixels (ny, nx) of a finite `image` are spikes: none of most images.

    They are further from all but `BESIDE` of their neighbours than noise takes them, and what is
    beside them is no shoulder of theirs. Chance is bounded as in `evidence.outliers`, in either
    direction. Where values are no counts, and all else is even, pulses of single electrons cannot
    be told from spikes, and none is found. Costs one look at each pixel where there are none.
    """
    nothing = np.zeros(image.shape, np.bool_)
    if min(image.shape) < SMALLEST_PX:
        return nothing
    noise = pixel_noise(image)
    least = TWICE * (math.log(image.size) + CERTAIN)
    for _ in range(LOOKS):
        found, between = nothing.copy(), 0
        for _look in range(LOOKS):
            new = np.zeros_like(found)
            between = _find(image, found, noise.level, noise.variance, noise.electron, least, new)
            if not new.any():
                break
            found |= new
        number = np.count_nonzero(found)
        if number == 0:
            return nothing
        if noise.counted or between <= BETWEEN * number:
            break
        least *= FURTHER
    else:
        return nothing
    found[:] = _alone(image, found)
    if np.count_nonzero(found) > MANY * image.size or not (noise.counted or noise.shows):
        return nothing
    return found


def without_spikes(image: F32) -> tuple[F32, int]:
    """The finite image (ny, nx) with its spikes filled in from beside them, and their number.

    What is written in labels is none.
    """
    gone = spikes(image)
    if not gone.any():
        return image, 0
    # a label with many dots in it looks like counts in a vacuum
    gone &= ~blank_parts(filled(image, gone))
    number = int(np.count_nonzero(gone))
    return (filled(image, gone), number) if number else (image, 0)


def filled(image: F32, gone: Mask) -> F32:
    """The image (ny, nx) with what its neighbours say at each pixel that is `gone`.

    Exact for a paraboloid, (1, 1) beside it being known, and with the noise of a pixel; the mean of
    what is left of the neighbours where not all of them are. Within what is recorded elsewhere.
    """
    out = image.copy()
    kept = image[~gone]
    _fill(image, gone, float(kept.min()), float(kept.max()), out)
    return out


@njit(nogil=True, cache=True)
def _find(
    image: F32, found: Mask, level: F64, variance: F64, electron: float, least: float, new: Mask
) -> int:
    """Mark `new` spikes beside those that were found. How many others are half as far out."""
    ny, nx = image.shape
    inner, outer = np.empty(8), np.empty(16)
    between = 0
    lowest = math.sqrt(0.5 * least * variance[0])
    for j in range(ny):
        for i in range(nx):
            if found[j, i]:
                continue
            count, total = ring(image, found, j, i, 1, inner)
            # at the image's edges fewer are known
            allowed = max(0, BESIDE - (8 - total) // 2 - (total - count))
            if count <= allowed + 1:
                continue
            value = float(image[j, i])
            high, low = inner[count - 1 - allowed], inner[allowed]
            beyond = value - high if value > high else low - value
            # quick: no noise is less than that of the darkest places
            if beyond <= lowest:
                continue
            nearest = high if value > high else low
            middle = middle_of(inner, count)
            noise = np.interp(max(middle, nearest), level, variance)
            unlikely = 0.5 * beyond * beyond / noise
            if electron > 1e-3 * math.sqrt(noise):
                expected = noise / (electron * electron)
                root = math.sqrt(expected + beyond / electron) - math.sqrt(expected)
                unlikely = 2.0 * root * root
            if unlikely < least / FURTHER:
                continue
            around = middle_of(outer, ring(image, found, j, i, 2, outer)[0])
            height = value - middle
            if (middle - around) / height > SHOULDER:
                continue
            if unlikely < least:
                between += 1
            else:
                new[j, i] = True
    return between


@njit(nogil=True, cache=True)
def _alone(image: F32, found: Mask) -> Mask:
    """Those that are no more than `STREAK_PX` together, and no tip of something larger."""
    ny, nx = image.shape
    seen = np.zeros((ny, nx), np.bool_)
    out = np.zeros((ny, nx), np.bool_)
    inner = np.empty(8)
    at = np.empty(np.count_nonzero(found), np.int64)
    for start in range(found.size):
        if seen[start // nx, start % nx] or not found[start // nx, start % nx]:
            continue
        seen[start // nx, start % nx] = True
        at[0] = start
        count, done = 1, 0
        alone = True
        while done < count:
            j, i = at[done] // nx, at[done] % nx
            done += 1
            others, _ = ring(image, found, j, i, 1, inner)
            middle = middle_of(inner, others) if others else float(image[j, i])
            half = 0.5 * (float(image[j, i]) - middle)
            for y in range(max(0, j - 1), min(ny, j + 2)):
                for x in range(max(0, i - 1), min(nx, i + 2)):
                    if not found[y, x]:
                        alone &= (float(image[y, x]) - middle - half) * half <= 0.0
                    elif not seen[y, x]:
                        seen[y, x] = True
                        at[count] = y * nx + x
                        count += 1
        if alone and count <= STREAK_PX:
            for k in range(count):
                out[at[k] // nx, at[k] % nx] = True
    return out


@njit(nogil=True, cache=True)
def _fill(image: F32, gone: Mask, least: float, most: float, out: F32) -> None:
    ny, nx = image.shape
    for j in range(ny):
        for i in range(nx):
            if not gone[j, i]:
                continue
            reach = count = 0
            total = 0.0
            while count == 0:
                reach += 1
                total = 0.0
                for y in range(max(0, j - reach), min(ny, j + reach + 1)):
                    for x in range(max(0, i - reach), min(nx, i + reach + 1)):
                        if not gone[y, x]:
                            total += image[y, x]
                            count += 1
            value = total / count
            if reach == 1 and count == 8:
                cross = image[j - 1, i] + image[j + 1, i] + image[j, i - 1] + image[j, i + 1]
                value = 0.5 * cross - 0.25 * (total - cross)
            out[j, i] = min(max(value, least), most)
