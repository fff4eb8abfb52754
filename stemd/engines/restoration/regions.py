"""Connected regions of masks (ny, nx): which there are, and what lies around them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit

I64 = NDArray[np.int64]
Mask = NDArray[np.bool_]

LEAST_RING = 4
"""Pixels of a region, which hang together side by side, that can have one between them."""


def grown(mask: Mask, reach: int) -> Mask:
    """A mask (ny, nx) and all within `reach` pixels of it along either axis."""
    out = mask.copy()
    for _ in range(reach):
        for axis in (0, 1):
            before = np.moveaxis(out.copy(), axis, 0)
            after = np.moveaxis(out, axis, 0)
            after[1:] |= before[:-1]
            after[:-1] |= before[1:]
    return out


@njit(nogil=True, cache=True)
def _walk(mask: Mask, seen: Mask, at: I64, start: int) -> int:
    """Put the flat places of the region that has `start` into `at`; their number.

    0 where the mask has nothing there, or it was `seen` before.
    """
    ny, nx = mask.shape
    if seen[start // nx, start % nx] or not mask[start // nx, start % nx]:
        return 0
    seen[start // nx, start % nx] = True
    at[0] = start
    count, done = 1, 0
    while done < count:
        y, x = at[done] // nx, at[done] % nx
        done += 1
        for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            j, i = y + dy, x + dx
            if 0 <= j < ny and 0 <= i < nx and mask[j, i] and not seen[j, i]:
                seen[j, i] = True
                at[count] = j * nx + i
                count += 1
    return count


@njit(nogil=True, cache=True)
def regions_of(mask: Mask, least: float, most: float, islands: bool) -> Mask:
    """Those connected regions of a mask (ny, nx) that have from `least` to `most` pixels.

    `islands`: and do not touch the image's edges.
    """
    ny, nx = mask.shape
    seen = np.zeros((ny, nx), np.bool_)
    out = np.zeros((ny, nx), np.bool_)
    at = np.empty(mask.size, np.int64)
    for start in range(mask.size):
        count = _walk(mask, seen, at, start)
        edge = False
        for k in range(count):
            y, x = at[k] // nx, at[k] % nx
            edge |= y == 0 or x == 0 or y == ny - 1 or x == nx - 1
        if count > 0 and least <= count <= most and not (islands and edge):
            for k in range(count):
                out[at[k] // nx, at[k] % nx] = True
    return out


@njit(nogil=True, cache=True)
def _enclose(mask: Mask, left: I64, right: I64, top: I64, bottom: I64, out: Mask) -> None:
    """Add to `out` what a region encloses: what is open to what lies around it is none of that."""
    ny, nx = mask.shape
    inside = np.zeros((ny, nx), np.bool_)
    for y in range(ny):
        for x in range(left[y], right[y] + 1):
            inside[y, x] = top[x] <= y <= bottom[x] and not mask[y, x]
    at = np.empty(np.count_nonzero(inside), np.int64)
    count = done = 0
    for y in range(ny):
        for x in range(left[y], right[y] + 1):
            if not inside[y, x]:
                continue
            for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                j, i = y + dy, x + dx
                if not (0 <= j < ny and 0 <= i < nx and inside[y, x]):
                    continue
                if not (left[j] <= i <= right[j] and top[i] <= j <= bottom[i]):
                    inside[y, x] = False
                    at[count] = y * nx + x
                    count += 1
    while done < count:
        y, x = at[done] // nx, at[done] % nx
        done += 1
        for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            j, i = y + dy, x + dx
            if 0 <= j < ny and 0 <= i < nx and inside[j, i]:
                inside[j, i] = False
                at[count] = j * nx + i
                count += 1
    for y in range(ny):
        for x in range(left[y], right[y] + 1):
            if inside[y, x]:
                out[y, x] = True


@njit(nogil=True, cache=True)
def with_enclosed(mask: Mask, filled: float, most: float) -> Mask:
    """A mask (ny, nx) with what its regions enclose between their pixels, along lines and columns.

    Of those that have the part `filled` of all between them, which are at `most` as many pixels.
    """
    ny, nx = mask.shape
    seen = np.zeros((ny, nx), np.bool_)
    out = mask.copy()
    at = np.empty(mask.size, np.int64)
    for start in range(mask.size):
        count = _walk(mask, seen, at, start)
        if count < LEAST_RING:
            continue
        left, right = np.full(ny, nx), np.full(ny, -1)
        top, bottom = np.full(nx, ny), np.full(nx, -1)
        for k in range(count):
            y, x = at[k] // nx, at[k] % nx
            left[y], right[y] = min(left[y], x), max(right[y], x)
            top[x], bottom[x] = min(top[x], y), max(bottom[x], y)
        between = 0
        for y in range(ny):
            for x in range(left[y], right[y] + 1):
                between += top[x] <= y <= bottom[x]
        if count < between <= most and count >= filled * between:
            _enclose(mask, left, right, top, bottom, out)
    return out


@njit(nogil=True, cache=True)
def reached(mask: Mask, seeds: Mask) -> Mask:
    """All of a mask (ny, nx) that is connected to its `seeds`."""
    ny, nx = mask.shape
    out = seeds.copy()
    at = np.empty(mask.size, np.int64)
    count = 0
    for start in range(mask.size):
        if seeds[start // nx, start % nx]:
            at[count] = start
            count += 1
    done = 0
    while done < count:
        y, x = at[done] // nx, at[done] % nx
        done += 1
        for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            j, i = y + dy, x + dx
            if 0 <= j < ny and 0 <= i < nx and mask[j, i] and not out[j, i]:
                out[j, i] = True
                at[count] = j * nx + i
                count += 1
    return out


@njit(nogil=True, cache=True)
def thin_boxes(mask: Mask, least: int, thick_px: int) -> I64:
    """Thin regions of a mask (ny, nx), connected also at corners, of `least` pixels and more.

    (n, 5): first and last line, first and last column, number of pixels.
    """
    ny, nx = mask.shape
    seen = np.zeros((ny, nx), np.bool_)
    at = np.empty(np.count_nonzero(mask), np.int64)
    boxes = np.empty((len(at) // least, 5), np.int64)
    number = 0
    for start in range(mask.size):
        if seen[start // nx, start % nx] or not mask[start // nx, start % nx]:
            continue
        seen[start // nx, start % nx] = True
        at[0] = start
        count, done = 1, 0
        top, bottom, left, right = ny, 0, nx, 0
        thick = False
        while done < count:
            j, i = at[done] // nx, at[done] % nx
            done += 1
            thick |= mask[j : j + thick_px, i : i + thick_px].sum() == thick_px**2
            top, bottom, left, right = min(top, j), max(bottom, j), min(left, i), max(right, i)
            for y in range(max(0, j - 1), min(ny, j + 2)):
                for x in range(max(0, i - 1), min(nx, i + 2)):
                    if mask[y, x] and not seen[y, x]:
                        seen[y, x] = True
                        at[count] = y * nx + x
                        count += 1
        if count >= least and not thick:
            boxes[number] = top, bottom, left, right, count
            number += 1
    return boxes[:number]
