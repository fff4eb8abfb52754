"""What was written over an image: a thin scale bar, letters without a box around them.

They have the highest or the lowest value of all, in strokes of one value that chance does not make,
and end at once: a saturated particle falls off from pixel to pixel, and what noise has taken to the
end of the scale lies scattered.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stemd.engines.restoration.regions import grown, thin_boxes

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Mask = NDArray[np.bool_]

LEVELS = 32
"""Different values below which an image is of single electrons, or a drawing."""
CERTAIN = 40.0
"""Natural logarithm of how much rarer than once a stroke is by chance."""
LEAST_PX = 5
THICK_PX = 5
"""As wide as this at its widest it is no stroke: see `blank`."""
SHARP = 0.75
"""How far from a stroke's value those beside it are, over how far the image's middle is."""
SCATTERED = 0.05
"""Part of the pixels beside a stroke that may have its value, too."""
RARE = 1e-4
"""Part of the pixels far from all strokes that may have their value."""
FAR_PX = 16
FILLED = 0.7
"""Of its box: noise at its edge may belong to a bar."""
BAR_PX = 20
"""A filled rectangle as long as this is a bar. What is not is a part of a letter."""
LETTER_PX = 12
"""Other strokes of a letter, and other letters, lie within its size, and within this."""
SOFT_PX = 1
"""Around a stroke, where it is mixed with what is beneath."""
MANY = 0.2
"""Part of an image that may be written over."""
SMALLEST_PX = 16


def written(image: F32, apart_from: Mask) -> Mask:
    """Which pixels (ny, nx) of a finite `image` were written over, with some around letters.

    What is `apart_from` them, in labels, is known.
    """
    out = np.zeros(image.shape, np.bool_)
    if min(image.shape) < SMALLEST_PX:
        return out
    if np.unique(image[:: max(1, len(image) // 64)]).size < LEVELS:
        return out
    middle = float(np.median(image))
    for value in (image.max(), image.min()):
        same = (image == value) & ~apart_from
        if np.count_nonzero(same) < LEAST_PX:
            continue
        boxes = thin_boxes(same, LEAST_PX, THICK_PX)
        if not len(boxes):
            continue
        around = np.zeros(image.shape, np.bool_)
        for top, bottom, left, right, _ in boxes:
            lines = slice(max(0, top - FAR_PX), bottom + FAR_PX)
            around[lines, max(0, left - FAR_PX) : right + FAR_PX] = True
        elsewhere = np.count_nonzero(~around) + 1.0
        often = (np.count_nonzero(same & ~around) + 1.0) / elsewhere
        if often > max(RARE, 2.0 / elsewhere) or elsewhere < 0.2 * image.size:
            continue
        least = (CERTAIN + math.log(image.size)) / -math.log(often)
        for box in boxes[boxes[:, 4] >= max(LEAST_PX, least)]:
            _mark(image, same, box, middle, out)
    if out.mean() > MANY:
        out[:] = False
    return out


def _mark(image: F32, same: Mask, box: I64, middle: float, out: Mask) -> None:
    """Add a stroke in its `box` (first and last line, first and last column, pixels) to `out`."""
    top, bottom, left, right, number = (int(each) for each in box)
    height, width = bottom - top + 1, right - left + 1
    if height == image.shape[0] or width == image.shape[1]:
        return  # a line that was lost

    def within(reach: int) -> tuple[slice, slice]:
        return (
            slice(max(0, top - reach), bottom + 1 + reach),
            slice(max(0, left - reach), right + 1 + reach),
        )

    part = within(3)
    here = same[part]
    near = grown(here, 1)
    beside = grown(near, 1) & ~near
    value = float(image[part][here][0])
    if not beside.any():
        return
    apart = np.abs(image[part][beside] - value)
    if np.median(apart) < SHARP * abs(middle - value) or np.mean(apart == 0.0) > SCATTERED:
        return
    if number >= FILLED * height * width and max(height, width) >= BAR_PX:
        out[within(SOFT_PX)] = True
    else:
        out[within(min(LETTER_PX, max(height, width)))] = True
