"""The scale on which restoration networks see an image: mean and deviation, spikes apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]

LIMIT = 12.0
"""Deviations from the mean beyond which a pixel must be confirmed by the lines beside its own.

One electron in a pixel where 0.007 are expected is still within; a hot pixel is not."""

LINES = 128
"""That are looked at at once."""


@dataclass(frozen=True, slots=True)
class Normalised:
    """An image as networks take it: `values` = (image without spikes - mean) / deviation."""

    values: Image
    mean: float
    deviation: float

    def undone(self, values: Image) -> Image:
        """The network's output (any shape) back in the image's unit."""
        image = values * np.float32(self.deviation)
        image += np.float32(self.mean)
        return image


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
    # a few lines after the other: of a large image a copy in float64 would be most of the memory
    square = 0.0
    for first in range(0, len(values), LINES):
        apart = values[first : first + LINES] - np.float64(mean)
        square += float(np.vdot(apart, apart))
    deviation = float(np.sqrt(square / values.size))
    return mean, deviation if deviation > 1e-6 * abs(mean) else 1.0


def _cut(values: Image, mean: float, deviation: float, sign: float) -> bool:
    """Cut the spikes of one sign in place; whether there were any."""
    beyond = np.float32(mean + sign * LIMIT * deviation)
    y, x = np.nonzero(values > beyond if sign > 0.0 else values < beyond)
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
