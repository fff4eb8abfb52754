"""Parts of an image that are too dim beside the rest of it to be restored with that.

A network sees an image on the scale of all of it, and knows it to some thousandths of that; noise,
too, is learnt mostly from what is bright. What is dimmer by more than that was lost. Such parts
are restored once more, without the rest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

BLOCK_PX, BOX_PX = 8, 4
"""Squares that are judged, and those over which what is missing is averaged."""
STRIP_PX = 32 * BLOCK_PX
"""Lines that are looked at at once."""
DIM = 0.05
"""Deviation of a square's pixels, as a part of the image's, below which it is dim."""
LOST = 2.0
"""Variance of what is missing in boxes, over that of the noise's mean, from which on a dim part is
lost. Of those that are restored well it is about 1."""
BETTER = 0.5
"""What must be left of that when a part is restored by itself; displaced lines leave all of it."""
LEAST = 0.02
"""Part of an image that must be lost for all of its dim parts to be restored again."""
LEAST_SEEN = 0.1
"""Part of an image that must be dim: of less nothing is learnt."""


class Squares:
    """How well squares of `BLOCK_PX` of a `recorded` image (ny, nx) are restored.

    `dim` (n, m): of little contrast, with noise. `variance` (n, m) of a pixel's noise.
    """

    def __init__(self, recorded: F32) -> None:
        deviation = float(recorded.std(dtype=np.float64))
        self._recorded = recorded
        strips = [_noise_and_contrast(recorded, first) for first in self._firsts()]
        self.variance, self._mean, self._contrast = (
            np.concatenate(each) for each in zip(*strips, strict=True)
        )
        self._least = (DIM * deviation) ** 2
        self.dim: Mask = (self._contrast < self._least) & (self.variance > 0.0)

    def alike(self, lost: Mask) -> Mask:
        """Squares (n, m) that may be restored with those that are `lost`: as dim, and as bright."""
        level = float(np.median(self._mean[lost]))
        return self.dim & (self._contrast + np.square(self._mean - level) < self._least)

    def misses(self, restored: F32) -> F64:
        """What is missing (n, m) in a restored image, over what noise lets miss; 0 if not dim."""
        missing = np.concatenate(
            [_missing(self._recorded, restored, first) for first in self._firsts()]
        )
        over = _beside(np.where(self.dim, missing, 0.0))
        under = _beside(np.where(self.dim, self.variance, 0.0))
        return np.where(self.dim, over / np.where(self.dim, under, 1.0), 0.0)

    def pixels(self, squares: Mask) -> Mask:
        """A mask (n, m) of squares as one of pixels (ny, nx)."""
        size = self._recorded.shape
        y, x = (
            np.minimum(np.arange(n) // BLOCK_PX, m - 1)
            for n, m in zip(size, squares.shape, strict=True)
        )
        mask: Mask = squares[np.ix_(y, x)]
        return mask

    def weights(self, squares: Mask, alike: Mask) -> F32:
        """How much each pixel (ny, nx) is of `squares`: 1 in them, falling to 0 in `alike` ones.

        In others it is 0.
        """
        grown = _beside(squares.astype(np.float64)) > 0.0
        centres = [BLOCK_PX * (np.arange(n) + 0.5) for n in squares.shape]
        size = self._recorded.shape
        along = np.array(
            [np.interp(np.arange(size[1]) + 0.5, centres[1], row) for row in grown.astype(float)]
        )
        place = np.interp(np.arange(size[0]) + 0.5, centres[0], np.arange(squares.shape[0]))
        below = np.minimum(place.astype(int), max(0, squares.shape[0] - 2))
        part = (place - below)[:, None]
        above = np.minimum(below + 1, squares.shape[0] - 1)
        smooth = (1.0 - part) * along[below] + part * along[above]
        return np.where(self.pixels(alike), smooth, 0.0).astype(np.float32)

    def _firsts(self) -> range:
        return range(0, self._recorded.shape[0] // BLOCK_PX * BLOCK_PX, STRIP_PX)


def _strip(image: F32, first: int) -> F64:
    nx = image.shape[1] // BLOCK_PX * BLOCK_PX
    last = min(first + STRIP_PX, len(image) // BLOCK_PX * BLOCK_PX)
    return image[first:last, :nx].astype(np.float64)


def _noise_and_contrast(recorded: F32, first: int) -> tuple[F64, F64, F64]:
    """Variance of the noise (by second differences), mean, and variance of all in each square."""
    image = _strip(recorded, first)
    second = np.diff(np.diff(image, 2, axis=0), 2, axis=1)
    noise = _means(np.pad(np.square(second), 1, "edge") / 36.0, BLOCK_PX)
    middle = image.mean()
    image -= middle
    mean = _means(image, BLOCK_PX)
    return noise, mean + middle, _means(np.square(image), BLOCK_PX) - np.square(mean)


def _missing(recorded: F32, restored: F32, first: int) -> F64:
    boxes = _means(_strip(recorded, first) - _strip(restored, first), BOX_PX)
    return _means(np.square(boxes), BLOCK_PX // BOX_PX) * BOX_PX**2


def _means(values: F64, size: int) -> F64:
    ny, nx = values.shape
    means: F64 = values.reshape(ny // size, size, nx // size, size).mean(axis=(1, 3))
    return means


def _beside(values: F64) -> F64:
    """Sum of each value (n, m) and its eight neighbours, of the edge's as often as there are."""
    padded = np.pad(values, 1)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    sums: F64 = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    return sums
