"""How much of an image lies at the ends of what its detector's electronics could tell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.engines.restoration.blank import LEAST_LEFT, blank_parts

MANY = 0.005
"""Part of the pixels at one end that is worth a word."""
PILED = 3.0
"""How many more there are at an end than at the levels beside it: a tail of noise has fewer."""
LEVELS = 32
"""Different values below which an image is of counted electrons, where none is none."""


def cut_off(pixels: NDArray[np.float32]) -> tuple[float, float]:
    """Parts of finite pixels (ny, nx) that pile up at the lowest and at the highest value, or 0.

    Labels and other parts that were not recorded do not count.
    """
    ends = max(np.mean(pixels == pixels.min()), np.mean(pixels == pixels.max()))
    if ends <= MANY * LEAST_LEFT:
        return 0.0, 0.0  # sooner than all values are put in order
    values, number = np.unique(pixels[~blank_parts(pixels)], return_counts=True)
    if values.size < LEVELS:
        return 0.0, 0.0
    low, high = (_piled(each) for each in (number, number[::-1]))
    return low, high


def _piled(number: NDArray[np.intp]) -> float:
    """Part of all at the first level, if that is many more than at those that follow."""
    part = float(number[0] / number.sum())
    beside = float(number[1 : 1 + LEVELS // 4].max())
    return part if part > MANY and number[0] > PILED * beside else 0.0
