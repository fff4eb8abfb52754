"""Single pixels that measured something else: hot and dead ones, and X-rays."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit

F32 = NDArray[np.float32]

REACH_PX = 2
"""Whatever is shown within so much may be at a pixel: lines move."""
CERTAIN = 3.0
"""Natural logarithm of how much rarer than once in the image an outlier is by chance."""
ALONE = 0.2
"""Part of its height that there may be in the pixels above and below; of the narrowest column that
is placed there is a half."""
LOOKS = 3
"""Each with the noise that the last one has left."""


def outliers(image: F32, shown: F32, variance: F32, electron: float) -> NDArray[np.bool_]:
    """Which pixels (ny, nx) of `image` are no evidence of what is `shown`, or of anything like it.

    They are further from all that is shown around them than chance takes them, and stand alone:
    next to nothing is in the lines above and below. A column is wider than that.
    `electron` is the value of one, by which `variance` (ny, nx) grows. Of x / electron, m
    expected, the chance of more is exp(-2 (sqrt x - sqrt m)^2) or less, even where pulses are
    exponentially distributed (Chernoff's bound), and that of less is below normal noise's.
    """
    least = math.log(image.size) + CERTAIN
    out = np.zeros(image.shape, np.bool_)
    _find(image, shown, variance, electron, least, out)
    return out


@njit(nogil=True, cache=True)
def _find(
    image: F32, shown: F32, variance: F32, electron: float, least: float, out: NDArray[np.bool_]
) -> None:
    ny, nx = image.shape
    for j in range(ny):
        for i in range(nx):
            noise = float(variance[j, i])
            # quick: what is within three deviations of what is shown here is none
            apart = float(image[j, i]) - float(shown[j, i])
            if apart * apart < 9.0 * noise:
                continue
            low = high = float(shown[j, i])
            for y in range(max(0, j - REACH_PX), min(ny, j + REACH_PX + 1)):
                for x in range(max(0, i - REACH_PX), min(nx, i + REACH_PX + 1)):
                    low, high = min(low, float(shown[y, x])), max(high, float(shown[y, x]))
                    noise = max(noise, float(variance[y, x]))
            value = float(image[j, i])
            beyond = value - high if value > high else value - low if value < low else 0.0
            if beyond == 0.0:
                continue
            # of counts as of normal noise the chance of so much less is exp(-z^2 / 2) or less
            unlikely = 0.5 * beyond * beyond / noise
            if beyond > 0.0 and electron > 1e-3 * math.sqrt(noise):
                expected = noise / (electron * electron)
                root = math.sqrt(expected + beyond / electron) - math.sqrt(expected)
                unlikely = 2.0 * root * root
            if unlikely < least:
                continue
            beside = lines = 0.0
            for y in (j - 1, j + 1):
                if 0 <= y < ny:
                    beside += (float(image[y, i]) - float(shown[y, i])) / apart
                    lines += 1.0
            out[j, i] = beside < ALONE * lines
