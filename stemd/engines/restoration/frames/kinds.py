"""Whether frames that lie upon each other show one thing, or two.

Frames of two places, or of a specimen that changed under the beam, fit a sum of both well: a
crystal lies on any crystal. But frames of one kind are more alike each other than those of the
other, and that shows however noisy each is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.engines.restoration.frames.places import add_frame

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

LEAST_FRAMES = 4
UNLIKE = 0.9
"""Likeness of what both kinds show, free of noise, below which they are two."""
SURE = 5.0
"""Standard errors by which frames of one kind are more alike than those of both."""
BAND = 16
MOST_VALUES = 1 << 25
"""Lines are left out beyond so many values of all frames."""


@dataclass(frozen=True, slots=True)
class Kinds:
    """`second` (n,): frames that are of the other kind than most, or than the first one.

    `likeness`: correlation of what the two kinds show, free of noise: 1 where it is the same.
    """

    second: Mask
    likeness: float


def kinds_of(frames: Sequence[F32], lines: F64, used: Mask) -> Kinds | None:
    """The two kinds of the frames (ny, nx) that are used; None where they may be of one.

    `lines` (n, ny, 2): as of `aligned.Aligned`. The kinds are found in one half of the image, and
    judged in the other: noise divides any frames in two, but not alike in both halves.
    """
    chosen = np.flatnonzero(used)
    if chosen.size < LEAST_FRAMES:
        return None
    halves = [_products(part) for part in _halves(frames, lines, chosen)]
    judged = []
    for found, other in (halves, halves[::-1]):
        second = _divided(found)
        if not 2 <= second.sum() <= chosen.size - 2:
            return None
        judged.append((_likeness(other, second), second))
    if max(likeness for likeness, _ in judged) > UNLIKE:
        return None
    second = np.zeros_like(used)
    second[chosen] = _divided(halves[0] + halves[1])
    if second.sum() * 2 > chosen.size or (second.sum() * 2 == chosen.size and second[chosen[0]]):
        second[chosen] = ~second[chosen]
    return Kinds(second, float(np.mean([likeness for likeness, _ in judged])))


def _halves(frames: Sequence[F32], lines: F64, chosen: NDArray[np.int64]) -> tuple[F32, F32]:
    """What all chosen frames show, frame by frame, in every other band of lines: (n, pixels)."""
    ny, nx = frames[0].shape
    every = -(-chosen.size * ny * nx // MOST_VALUES)
    rows = np.arange(0, ny, every)
    values = np.empty((chosen.size, rows.size, nx), np.float32)
    shown = np.ones((rows.size, nx), np.bool_)
    for at, n in enumerate(map(int, chosen)):
        total, counts = np.zeros((ny, nx)), np.zeros((ny, nx), np.int32)
        add_frame(frames[n], lines[n], total, counts)
        shown &= counts[rows] > 0
        values[at] = (total / np.maximum(counts, 1))[rows]
    even = (rows // BAND % 2 == 0)[:, None]
    return values[:, shown & even], values[:, shown & ~even]


def _products(values: F32) -> F64:
    """Mean products (n, n) of what frames (n, pixels) show about their means."""
    about = values - values.mean(axis=1, keepdims=True)
    products: F64 = (about @ about.T).astype(np.float64) / max(1, values.shape[1])
    return products


def _divided(products: F64) -> Mask:
    """The frames of one of two kinds: the sign of what the products vary by most."""
    own = ~np.eye(len(products), dtype=np.bool_)
    filled = products.copy()
    # of a frame with itself the noise counts too
    np.fill_diagonal(filled, products.mean(axis=1, where=own))
    centred = filled - filled.mean(axis=0) - filled.mean(axis=1)[:, None] + filled.mean()
    _, vectors = np.linalg.eigh(centred)
    found: Mask = vectors[:, -1] > 0.0
    return found


def _likeness(products: F64, second: Mask) -> float:
    """How alike the two kinds are; 1 where their frames are not surely more alike among them.

    Whatever their doses: each product is in units of what the other frame's own kind shows.
    """
    own = ~np.eye(len(products), dtype=np.bool_)
    same = (second[:, None] == second) & own
    apart = second[:, None] != second
    within = [float(products[same & kind[:, None]].mean()) for kind in (~second, second)]
    if min(within) <= 0.0:
        return 1.0
    scaled = products / np.sqrt(np.where(second, within[1], within[0]))
    nearer = scaled.mean(axis=1, where=same) - scaled.mean(axis=1, where=apart)
    nearer /= np.sqrt(np.where(second, within[1], within[0]))
    if float(nearer.mean()) < SURE * float(nearer.std(ddof=1)) / np.sqrt(len(nearer)):
        return 1.0
    return float(products[apart].mean() / np.sqrt(within[0] * within[1]))
