"""Whole lines that measured something else: a dead row, a blanked beam, a discharge, a jump.

A line of the scan (or a column of a camera) far from both beside it all along is no specimen's:
what a probe of some width shows has shoulders, as of single pixels (`spikes`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

THICK = 4
"""Lines side by side that may be lost together."""
SURE = 8.0
"""Standard errors of a line's mean that it is further from those beside it."""
USUAL, NEARLY_ALL = 4.0, 0.9
"""And as often what all but a tenth of the image's lines are from the next one: where all flicker,
or a lattice lies along them, none is lost."""
EVEN = 0.75
"""Of the height of the furthest that are lost together, that those at their borders have: else they
are a lattice's."""
SHOULDER = 0.25
"""Of a line's height, by which those beside it may differ from the next ones."""
ALL_ALONG = 0.75
"""Parts of a line, of `PARTS`, that must say the same."""
PARTS = 8
MANY = 0.04
"""Part of an image that may be lost. Of more, nothing tells which is the image."""
SMALLEST_PX = 32


def lost_lines(image: F32) -> Mask:
    """Which lines (ny,) of a finite `image` (ny, nx) are lost: none of most images."""
    ny, nx = image.shape
    lost = np.zeros(ny, np.bool_)
    if min(image.shape) < SMALLEST_PX:
        return lost
    means = np.stack([each.mean(axis=1) for each in np.array_split(image, PARTS, axis=1)], axis=1)
    means = means.astype(np.float64)
    second = np.diff(image[:, : nx // 2 * 2 : 2].astype(np.float64), axis=0)
    error = float(np.median(second.std(axis=1))) / np.sqrt(nx)
    line = means.mean(axis=1)
    usual = float(np.quantile(np.abs(np.diff(line)), NEARLY_ALL))
    least = max(SURE * error, USUAL * usual)
    for thick in range(1, THICK + 1):
        for first in range(1, ny - thick):
            here = slice(first, first + thick)
            if lost[here].any() or lost[first - 1] or lost[first + thick]:
                continue
            if _is_lost(means, line, here, least):
                lost[here] = True
    if lost.mean() > MANY:
        lost[:] = False
    return lost


def _is_lost(means: F64, line: F64, here: slice, least: float) -> bool:
    above, below = here.start - 1, here.stop
    steps = np.array([line[here.start] - line[above], line[here.stop - 1] - line[below]])
    height = float(np.abs(steps).min())
    if height <= least or steps[0] * steps[1] < 0.0:
        return False
    last = len(line) - 1
    beside = line[above] - line[max(0, above - 1)], line[below] - line[min(last, below + 1)]
    if max(np.abs(beside)) > SHOULDER * height:
        return False
    around = 0.5 * (means[above] + means[below])
    if height < EVEN * np.abs(line[here] - around.mean()).max():
        return False
    parts = (means[here] - around) * np.sign(steps[0])
    return bool(np.all((parts > 0.25 * height).mean(axis=1) >= ALL_ALONG))


def without_lost_lines(image: F32) -> tuple[F32, tuple[int, int]]:
    """The finite image (ny, nx) with lost lines and columns filled in from beside them.

    And how many of either were.
    """
    lines = lost_lines(image)
    image = _filled(image, lines)
    columns = lost_lines(np.ascontiguousarray(image.T))
    image = np.ascontiguousarray(_filled(image.T, columns).T) if columns.any() else image
    return image, (int(lines.sum()), int(columns.sum()))


def _filled(image: F32, lost: Mask) -> F32:
    """Straight from one line to the next that is there."""
    if not lost.any():
        return image
    kept = np.flatnonzero(~lost)
    out = image.copy()
    for n in np.flatnonzero(lost):
        place = int(np.searchsorted(kept, n))
        before, after = kept[max(0, place - 1)], kept[min(len(kept) - 1, place)]
        part = np.float32((n - before) / max(1, after - before))
        out[n] = (1 - part) * image[before] + part * image[after]
    return out
