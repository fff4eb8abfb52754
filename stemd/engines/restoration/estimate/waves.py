"""A crystal's image as a sum of plane waves: few numbers, so little of the noise stays.

Waves are found one group after the other, as peaks of the spectrum that stand out of the noise
and of their surroundings (`peaks`), and fitted (`least_squares`). What is not periodic over the
image is left to others (`windows`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemd.engines.restoration.estimate.least_squares import Waves, fit
from stemd.engines.restoration.estimate.noise import Noise, spectrum, taper
from stemd.engines.restoration.estimate.nonuniform import Sums
from stemd.engines.restoration.estimate.peaks import LOWEST, lone, new, peaks

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

LIKELY = 3.0
"""Power over the noise's mean from which on a sum or difference of waves is one: they are few."""
GROUPS, AGAIN = 4, 2
"""Rounds of the first search and of later ones."""
STRONGEST = 12
"""Waves whose sums and differences with all are looked at."""
APART = 1.2
"""Bins between a sum and its neighbours."""


class Found(NamedTuple):
    """Waves of an image, its mean, and the noise beside them."""

    waves: Waves
    mean: float
    noise: Noise


def find_waves(image: F32, most: int, known: F64 | None = None) -> Found:
    """Waves of an image (ny, nx), `most` of them, its mean, and the noise beside them.

    `known` frequencies (n, 2), from an earlier look at nearly the same image, are not searched
    again. Cost: a few Fourier transforms a round, and what `fit` costs.
    """
    mean = float(image.mean(dtype=np.float64))
    centred = image - np.float32(mean)
    window = taper(image.shape)
    scale = 1.0 / float(np.square(window, dtype=np.float64).sum())
    waves = Waves(image.shape, np.empty((0, 2)), np.empty(0, np.complex128))
    rest = centred
    sums: Sums | None = None
    if known is not None and len(known):
        waves.frequency = known.copy()
        sums = Sums(centred)
        fit(waves, sums, Noise(np.zeros(1)))
        rest = centred - waves.image()
    power, noise = spectrum(rest * window, scale)
    for _ in range(GROUPS if known is None else AGAIN):
        found = peaks(power, noise.power, most - len(waves.frequency))
        found = new(found, waves.frequency, waves.shape)
        if not len(found):
            break
        sums = sums or Sums(centred)
        waves.frequency = np.concatenate([waves.frequency, found])
        fit(waves, sums, noise)
        rest = centred - waves.image()
        power, noise = spectrum(rest * window, scale)
    _add_sums(waves, rest, noise, most)
    return Found(waves, mean, noise)


def _add_sums(waves: Waves, rest: F32, noise: Noise, most: int) -> None:
    """Add weak waves at sums and differences of the strongest with all, if likely, up to `most`.

    Their amplitudes are drawn towards 0 by what noise adds to them.
    """
    room = most - len(waves.frequency)
    if len(waves.frequency) < 2 or room < 1:
        return
    sums = _sums(waves)
    if not len(sums):
        return
    count = rest.size
    amplitude = Sums(rest).at(sums) / count
    power = np.abs(amplitude) ** 2 * count / noise.at(sums[:, 1])
    keep = np.flatnonzero(power > LIKELY)
    keep = keep[np.argsort(-power[keep], kind="stable")]
    # two neighbours may both have seen one wave
    keep = keep[lone(sums[keep], waves.shape, APART)][:room]
    drawn = amplitude[keep] * (1.0 - 1.0 / power[keep])
    waves.frequency = np.concatenate([waves.frequency, sums[keep]])
    waves.amplitude = np.concatenate([waves.amplitude, drawn])


def _sums(waves: Waves) -> F64:
    """Sums and differences of the strongest waves with all that are no waves yet: (n, 2)."""
    strongest = np.argsort(-np.abs(waves.amplitude), kind="stable")[:STRONGEST]
    some = waves.frequency[strongest]
    both = np.concatenate([some, -some])
    sums = (waves.frequency[:, None] + both[None]).reshape(-1, 2)
    sums[sums[:, 1] < 0.0] *= -1.0
    bins = np.array(waves.shape)
    inside = (np.abs(sums) < 0.48).all(axis=1) & (np.hypot(*(sums * bins).T) > LOWEST)
    sums = sums[inside]
    y, x = np.round(sums * bins).astype(np.int64).T
    _, first = np.unique(y * (2 * bins[1]) + x, return_index=True)
    return new(sums[np.sort(first)], waves.frequency, waves.shape, APART)
