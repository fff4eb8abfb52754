"""Parts of an image that were not recorded: frames, labels, scale bars, masked and missing parts.

They are flat, every pixel of one value. No noise is in them, their edges are sharp, and the lines'
displacements do not move them: all that is learnt from noise and shapes is learnt wrongly there.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit
from stemd.engines.restoration.regions import grown, reached, regions_of, with_enclosed
from stemd.engines.restoration.written import written

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Mask = NDArray[np.bool_]

SIDE_PX = 5
"""A part is as wide as this at its narrowest, or it is not found."""
CERTAIN = 40.0
"""Natural logarithm of how much rarer than once a part is by chance."""
MOSTLY = 0.7
"""Part of the pixels that were recorded that may have a part's value: of few electrons, most pixels
have the value of none."""
COUNT_PX, COUNTS = 2, 2
"""Islands of at most so many pixels, and so many in all, are single electrons in a vacuum."""
LIKE = 0.5
"""How far the pixels at its edge are from its value, over how far others are, where it was cut off.
"""
LETTERS_PX = 3
"""But not those beside larger ones, which are dots of letters."""
NEAR_PX, FAR_PX = (1, 3), (6, 9)
"""From a part, along either axis, where its value is looked for."""
FADING, SCATTERED = 1.5, 0.03
"""How much more often it may occur near the part than further away, and be a label."""
LETTER_PX = 80
"""Islands of at most so many pixels inside of a part are written in it."""
FILLED, LABEL = 0.6, 0.5
"""How much of what it encloses, along lines as along columns, a part must fill to be a label, and
how much of an image a label may be: larger letters are its own, too."""
LEAST_LEFT = 0.05
"""Part of an image that must have been recorded."""
VALUES = 16
"""That parts may have, the most frequent ones first."""
FAR = 1 << 24
"""Further than any pixel."""
TURNS = 8
"""Mirrors behind each other that are looked through, at most."""


def blank_parts(image: F32) -> Mask:
    """Which pixels (ny, nx) of a finite `image` were not recorded: none of another image.

    A part is connected, has one value, and a size that chance does not explain by how often that
    value occurs elsewhere. Nothing is found where next to nothing would be left.
    """
    found = np.zeros(image.shape, np.bool_)
    if min(image.shape) < SIDE_PX:
        return found
    found = _boxes(image)
    found |= written(image, found)
    if np.count_nonzero(~found) < LEAST_LEFT * image.size:
        found[:] = False
    return found


def _boxes(image: F32) -> Mask:
    """Parts `SIDE_PX` wide and wider, with what is written in them."""
    found = np.zeros(image.shape, np.bool_)
    windows = np.lib.stride_tricks.sliding_window_view(image, (SIDE_PX, SIDE_PX))
    corner = image[: 1 - SIDE_PX, : 1 - SIDE_PX]
    flat = np.ones(corner.shape, np.bool_)
    for y in range(SIDE_PX):
        for x in range(SIDE_PX):
            flat &= windows[..., y, x] == corner
    if not flat.any():
        return found
    values, times = np.unique(corner[flat], return_counts=True)
    for value in values[np.argsort(-times, kind="stable")[:VALUES]]:
        inside = np.zeros(image.shape, np.bool_)
        here = flat & (corner == value)
        for y in range(SIDE_PX):
            for x in range(SIDE_PX):
                inside[y : y + here.shape[0], x : x + here.shape[1]] |= here
        number = int(np.count_nonzero(inside))
        elsewhere = int(np.count_nonzero(image == value)) - number
        often = (elsewhere + 1.0) / (image.size - number + 1.0)
        letters = regions_of(~inside, COUNT_PX + 1.0, LETTER_PX, True)
        islands = regions_of(~inside, 1.0, COUNT_PX, True) & ~grown(letters, LETTERS_PX)
        counts = np.count_nonzero(islands)
        beside, fading = _beside(image, value, inside)
        often = max(often, beside)
        if often < MOSTLY and counts < COUNTS and not fading:
            least = (CERTAIN + math.log(image.size)) / -math.log(often)
            found |= regions_of(inside, least, image.size, False)
    if not found.any():
        return found
    # what is written in a part was not recorded either
    found |= regions_of(~found, 1.0, LETTER_PX, True)
    whole: Mask = with_enclosed(found, FILLED, LABEL * image.size)
    return whole


def _beside(image: F32, value: np.float32, inside: Mask) -> tuple[float, bool]:
    """How often a part's value occurs just beyond what is `inside` it, and if it was cut off there.

    Where the black level or saturation cut an image off, its end becomes rarer little by little,
    and what is next to it is next to it in value, too.
    """
    same = image == value
    near = grown(inside, NEAR_PX[0])
    beside = grown(near, NEAR_PX[1] - NEAR_PX[0])
    between = grown(beside, FAR_PX[0] - NEAR_PX[1])
    beyond = grown(between, FAR_PX[1] - FAR_PX[0])
    parts = (same[beside & ~near], same[beyond & ~between])
    one, other = (float(each.mean()) if each.size else 0.0 for each in parts)
    if one <= FADING * other + SCATTERED:
        return 0.0 if other == 0.0 else one, False
    apart = np.abs(image - value)
    edge = grown(reached(same, inside), 1) & ~same
    rest = ~same & ~edge
    if not (edge.any() and rest.any()):
        return 0.0, False
    # beside what was drawn the value may be in narrow gaps, as between letters
    return 0.0, bool(np.median(apart[edge]) < LIKE * np.median(apart[rest]))


def mirrored_into(image: F32, blank: Mask) -> F32:
    """The image with its `blank` pixels filled from what was recorded beside them.

    As in mirrors at the parts' edges, one behind the other: with the structure and the noise of
    what is beside them.
    """
    ny, nx = image.shape
    y, x = np.nonzero(blank)
    nearest = _nearest(~blank)
    edge_y, edge_x = nearest[:, y, x]
    for _ in range(TURNS):
        inside = blank[y, x]
        if not inside.any():
            break
        near_y, near_x = nearest[:, y, x]
        # the image's own edges are mirrors too
        y = np.where(inside, _within(2 * near_y - y, ny), y)
        x = np.where(inside, _within(2 * near_x - x, nx), x)
    lost = blank[y, x]
    y, x = np.where(lost, edge_y, y), np.where(lost, edge_x, x)
    filled = image.copy()
    filled[blank] = image[y, x]
    return filled


def _within(at: I64, size: int) -> I64:
    turned = np.abs(at)
    turned = np.where(turned >= size, 2 * size - 2 - turned, turned)
    return np.asarray(np.clip(turned, 0, size - 1), np.int64)


@njit(nogil=True, cache=True)
def _nearest(known: Mask) -> I64:
    """The `known` pixel (2, ny, nx), y and x, that is nearest to each pixel (ny, nx), or nearly.

    Neighbours hand on what is nearest to them, once down and once up (Danielsson, Comput. Graph.
    Image Process. 14 (1980) 227): a time that does not grow with the parts.
    """
    ny, nx = known.shape
    out = np.empty((2, ny, nx), np.int64)
    for j in range(ny):
        for i in range(nx):
            out[0, j, i] = j if known[j, i] else FAR
            out[1, j, i] = i if known[j, i] else FAR
    for step in (1, -1):
        for a in range(ny):
            j = a if step == 1 else ny - 1 - a
            for b in range(nx):
                i = b if step == 1 else nx - 1 - b
                _take(out, j, i, j - step, i - 1, ny, nx)
                _take(out, j, i, j - step, i, ny, nx)
                _take(out, j, i, j - step, i + 1, ny, nx)
                _take(out, j, i, j, i - step, ny, nx)
            for b in range(nx):
                i = nx - 1 - b if step == 1 else b
                _take(out, j, i, j, i + step, ny, nx)
    return out


@njit(inline="always")
def _take(out: I64, j: int, i: int, y: int, x: int, ny: int, nx: int) -> None:
    """What is nearest to (y, x), if it is nearer to (j, i) than what was known there."""
    if 0 <= y < ny and 0 <= x < nx:
        before = (out[0, j, i] - j) ** 2 + (out[1, j, i] - i) ** 2
        if (out[0, y, x] - j) ** 2 + (out[1, y, x] - i) ** 2 < before:
            out[0, j, i], out[1, j, i] = out[0, y, x], out[1, y, x]
