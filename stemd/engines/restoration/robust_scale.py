"""The scale on which restoration networks see an image: mean and deviation, spikes apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]

LIMIT = 12.0
"""Deviations from the mean beyond which a pixel must be confirmed by the lines beside its own.

One electron in a pixel where 0.007 are expected is still within; a hot pixel is not."""


@dataclass(frozen=True, slots=True)
class Normalised:
    """An image as networks take it: `values` = (image without spikes - mean) / deviation."""

    values: Image
    mean: float
    deviation: float

    def undone(self, values: Image) -> Image:
        """The network's output (any shape) back in the image's unit."""
        return values * np.float32(self.deviation) + np.float32(self.mean)


def normalise(image: Image) -> Normalised:
    """Normalise one image (ny, nx), finite, in any unit; it is not written to.

    A spike is a pixel further than `LIMIT` deviations from the mean and further than all six
    neighbours in the lines above and below: a hot pixel, or an X-ray's streak along its line.
    It is cut down to whichever of the two is further, mean and deviation are taken again, until
    nothing changes. What is bright over several lines stays as it is. A flat image has
    deviation 1.
    """
    values = np.array(image, np.float32)
    mean, deviation = _statistics(values)
    for _ in range(20):
        changed = _cut(values, mean, deviation, 1.0) | _cut(values, mean, deviation, -1.0)
        if not changed:
            break
        mean, deviation = _statistics(values)
    values -= np.float32(mean)
    values /= np.float32(deviation)
    return Normalised(values, mean, deviation)


def _statistics(values: Image) -> tuple[float, float]:
    mean = float(values.mean(dtype=np.float64))
    deviation = float(values.std(dtype=np.float64))
    return mean, deviation if deviation > 1e-6 * abs(mean) else 1.0


def _cut(values: Image, mean: float, deviation: float, sign: float) -> bool:
    """Cut the spikes of one sign in place; whether there were any."""
    y, x = np.nonzero(sign * (values - np.float32(mean)) > np.float32(LIMIT * deviation))
    if not len(y):
        return False
    ny, nx = values.shape
    furthest = np.full(len(y), mean + sign * LIMIT * deviation)
    if ny > 1:
        for line in (np.where(y > 0, y - 1, 1), np.where(y < ny - 1, y + 1, ny - 2)):
            for column in (np.maximum(x - 1, 0), x, np.minimum(x + 1, nx - 1)):
                furthest = sign * np.maximum(sign * furthest, sign * values[line, column])
    before = values[y, x]
    after = sign * np.minimum(sign * before, sign * furthest)
    values[y, x] = after
    return bool(np.any(np.abs(before - after) > 1e-3 * deviation))
