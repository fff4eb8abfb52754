"""Every second line, column or pixel brighter than the others: two converters, or two half fields.

What a probe of some width shows has next to nothing at the finest frequencies that there are. A
pattern of two pixels that is the same all over an image is its electronics': it is no noise, which
no restoration would take out, and it is taken for columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
What = Literal["lines", "columns", "pixels"]

SMALLEST_PX = 32
SURE = 8.0
"""Standard errors from which on every second one is brighter."""
EVERYWHERE = 3.0
"""The same in each quarter of the image: a single edge or shape is in some of them only."""
APART = 3.0
"""Deviations beyond which a pixel is an edge's, and says nothing."""
ROUNDS = 6
BINS = 8
"""Of brightness: where there is more there is more noise."""
NEIGHBOURS = 4.0
"""As often one pixel's noise counts: steps beside each other share pixels."""
SMALLEST_PART = 1e-3
"""Of an image's deviation that is worth a word."""
QUARTER_PX = 256
"""Of each quarter so many lines and columns say it."""


@dataclass(frozen=True, slots=True)
class Alternation:
    """`what` alternates: by `offset` + `gain` times the brightness, from one to the next."""

    what: What
    offset: float
    gain: float

    def mean(self, image: F32) -> float:
        """By how much the brighter ones of an image (ny, nx) are brighter, on average."""
        return abs(self.offset + self.gain * float(image.mean(dtype=np.float64)))

    def undone(self, image: F32) -> F32:
        """The image (ny, nx) without it, and with its mean."""
        half = 0.5 * (self.offset + self.gain * _between(image, self.what))
        out: F32 = image - (_signs(image.shape, self.what) * half).astype(np.float32)
        return out


def alternations(image: F32) -> tuple[F32, list[Alternation]]:
    """A finite image (ny, nx) without what alternates in it, and what that was: mostly nothing."""
    found: list[Alternation] = []
    if min(image.shape) < SMALLEST_PX:
        return image, found
    kinds: tuple[What, ...] = ("lines", "columns", "pixels")
    for what in kinds:
        one = _alternation(image, what)
        if one is not None:
            found.append(one)
            image = one.undone(image)
    return image, found


def _alternation(image: F32, what: What) -> Alternation | None:
    parts = [_steps(each, what) for each in _quarters(image)]
    steps, level = (np.concatenate(each) for each in zip(*parts, strict=True))
    middle = float(level.mean())
    apart = level - middle
    if np.ptp(apart) <= SMALLEST_PART * abs(middle):
        return None
    weight = np.zeros(steps.size)
    for each in np.array_split(np.argsort(apart, kind="stable"), BINS):
        kept = steps[each]
        for _ in range(ROUNDS):
            kept = kept[np.abs(kept - kept.mean()) <= APART * kept.std()]
        if kept.size < 2 or not (deviation := float(kept.std())):
            return None
        weight[each] = (np.abs(steps[each] - kept.mean()) <= APART * deviation) / deviation**2
    design = np.stack([np.ones(steps.size), apart])
    inverse = np.linalg.inv((design * weight) @ design.T)
    at_middle, gain = inverse @ (design @ (weight * steps))
    error = np.sqrt(NEIGHBOURS * np.diag(inverse))
    if abs(at_middle) <= max(SURE * error[0], SMALLEST_PART * float(image.std())):
        return None
    # an edge, or a shape, is in some quarters only
    ends = np.cumsum([len(each) for each, _ in parts])[:-1]
    for one, many in zip(np.split(steps, ends), np.split(weight, ends), strict=True):
        if (one @ many) * np.sign(at_middle) <= EVERYWHERE * (NEIGHBOURS * many.sum()) ** 0.5:
            return None
    if abs(gain) <= SURE * error[1]:
        gain = 0.0
    return Alternation(what, float(at_middle - gain * middle), float(gain))


def _quarters(image: F32) -> list[F32]:
    """The four quarters of an image, of a large one a part of each, from even places on."""
    parts = []
    for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
        here = []
        for half, size in zip((y, x), image.shape, strict=True):
            length = min(size // 4 * 2, QUARTER_PX)
            first = half * (size // 4 * 2) + (size // 4 * 2 - length) // 4 * 2
            here.append(slice(first, first + length))
        parts.append(image[tuple(here)])
    return parts


def _steps(part: F32, what: What) -> tuple[F64, F64]:
    """Steps from one to the next (n,) in a part of an image (ny, nx), and the brightness there.

    That two pixels aside, of other pixels, whose noise knows nothing of these steps.
    """
    between = _between(part, what)
    steps = (part - between) * (2.0 * _signs(part.shape, what))
    axis = 1 if what == "lines" else 0
    aside = 0.5 * (np.roll(between, 2, axis) + np.roll(between, -2, axis))
    inner = (slice(3, -3), slice(3, -3))
    return steps[inner].ravel(), aside[inner].ravel()


def _between(image: F32, what: What) -> F64:
    """The image averaged so that nothing is left of a pattern of two pixels."""
    out = image.astype(np.float64)
    axes = {"lines": (0,), "columns": (1,), "pixels": (0, 1)}[what]
    for axis in axes:
        padded = np.pad(out, [(1, 1) if n == axis else (0, 0) for n in (0, 1)], "reflect")
        size = out.shape[axis]
        shifted = [np.take(padded, range(first, first + size), axis) for first in (0, 1, 2)]
        out = 0.25 * shifted[0] + 0.5 * shifted[1] + 0.25 * shifted[2]
    return out


def _signs(shape: tuple[int, ...], what: What) -> F64:
    y, x = (np.where(np.arange(n) % 2 == 1, 1.0, -1.0) for n in shape)
    if what == "lines":
        return np.broadcast_to(y[:, None], shape)
    if what == "columns":
        return np.broadcast_to(x[None], shape)
    signs: F64 = y[:, None] * x[None]
    return signs
