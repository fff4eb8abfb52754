"""Parts of an image that were not recorded: frames, labels, scale bars, masked and missing parts.

They are flat, every pixel of one value. No noise is in them, their edges are sharp, and the lines'
displacements do not move them: all that is learnt from noise and shapes is learnt wrongly there.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit

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
LETTER_PX = 80
"""Islands of at most so many pixels inside of a part are written in it."""
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
        elsewhere = np.count_nonzero(image == value) - np.count_nonzero(inside)
        often = (elsewhere + 1.0) / (image.size - np.count_nonzero(inside) + 1.0)
        counts = np.count_nonzero(_regions(~inside, 1.0, COUNT_PX, True))
        if often < MOSTLY and counts < COUNTS:
            least = (CERTAIN + math.log(image.size)) / -math.log(often)
            found |= _regions(inside, least, image.size, False)
    if not found.any():
        return found
    # what is written in a part was not recorded either
    found |= _regions(~found, 1.0, LETTER_PX, True)
    if np.count_nonzero(~found) < LEAST_LEFT * image.size:
        found[:] = False
    return found


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
def _regions(mask: Mask, least: float, most: float, islands: bool) -> Mask:
    """Those connected regions of a mask (ny, nx) that have from `least` to `most` pixels.

    `islands`: and do not touch the image's edges.
    """
    ny, nx = mask.shape
    seen = np.zeros((ny, nx), np.bool_)
    out = np.zeros((ny, nx), np.bool_)
    at = np.empty(mask.size, np.int64)
    for start in range(mask.size):
        if seen[start // nx, start % nx] or not mask[start // nx, start % nx]:
            continue
        seen[start // nx, start % nx] = True
        at[0] = start
        count, done = 1, 0
        edge = False
        while done < count:
            y, x = at[done] // nx, at[done] % nx
            done += 1
            edge |= y == 0 or x == 0 or y == ny - 1 or x == nx - 1
            for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                j, i = y + dy, x + dx
                if 0 <= j < ny and 0 <= i < nx and mask[j, i] and not seen[j, i]:
                    seen[j, i] = True
                    at[count] = j * nx + i
                    count += 1
        if least <= count <= most and not (islands and edge):
            for k in range(count):
                out[at[k] // nx, at[k] % nx] = True
    return out


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
