"""What is so bright, or so dark, that it needs no restoration and spoils that of its surroundings.

A particle a hundred deviations above what surrounds it is further from the rest than anything that
a network has seen, and noise is nothing there: it is cut down before and put back as it was.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.engines.restoration.robust_scale import normalise

F32 = NDArray[np.float32]

LIMIT = 8.0
"""Deviations from the mean beyond which several pixels together are cut down."""
NEAR_PX = 4
"""Lines are displaced, and images sharpened, by less."""
LINES = 256
"""That are looked at at once."""
ROUNDS = 20
"""In which the deviation becomes that of an image that is cut down; a few suffice."""


def beyond(image: F32) -> F32 | None:
    """What the finite `image` (ny, nx) has beyond `LIMIT` deviations of what is left of it.

    None where that is nothing, as in most images. Spikes, which single pixels are, do not belong
    to it: they are no evidence, and are looked for afterwards.
    """
    seen = normalise(image)
    values, mean, deviation = seen.values, 0.0, 1.0
    if max(-float(values.min()), float(values.max())) <= LIMIT:
        return None
    kept = values
    for _ in range(ROUNDS):
        low, high = (np.float32(mean + sign * LIMIT * deviation) for sign in (-1.0, 1.0))
        before, kept = kept, np.clip(values, low, high)
        if np.array_equal(before, kept):
            break
        mean, deviation = (float(each) for each in (kept.mean(dtype=np.float64), kept.std()))
    more: F32 = (values - kept) * np.float32(seen.deviation)
    y, x = np.nonzero(more)
    beside = np.pad(more, 1)
    near = np.stack([beside[y + line, x + n] for line in (0, 2) for n in range(3)])
    more[y, x] = np.clip(more[y, x], near.min(axis=0), near.max(axis=0))
    return more


def keep_within(image: F32, recorded: F32, more: float) -> None:
    """Make `image` (ny, nx) no brighter and no darker than what was `recorded` nearby, but `more`.

    What a network makes of shapes that it has never seen has no other bound.
    """
    for first in range(0, len(image), LINES):
        last = min(first + LINES, len(image))
        start = max(0, first - NEAR_PX)
        low = high = recorded[start : last + NEAR_PX]
        for axis in (0, 1):
            low, high = _farthest(low, np.minimum, axis), _farthest(high, np.maximum, axis)
        here = slice(first - start, last - start)
        bounds = low[here] - np.float32(more), high[here] + np.float32(more)
        np.clip(image[first:last], *bounds, out=image[first:last])


def _farthest(values: F32, choose: np.ufunc, axis: int) -> F32:
    """The lowest, or highest, value within `NEAR_PX` along an axis."""
    found = values.copy()
    size = values.shape[axis]
    for shift in range(1, min(NEAR_PX, size - 1) + 1):
        near, far = ([slice(None)] * 2 for _ in range(2))
        near[axis], far[axis] = slice(0, size - shift), slice(shift, size)
        here, there = tuple(near), tuple(far)
        choose(found[here], values[there], out=found[here])
        choose(found[there], values[here], out=found[there])
    return found
