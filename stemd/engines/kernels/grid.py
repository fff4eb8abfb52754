"""Compiled binning of patterns and hits to a small diffraction grid."""

from __future__ import annotations

import math

import numpy as np

from stemd.compilation import njit
from stemd.engines.kernels.intrinsics import prefetch
from stemd.engines.kernels.runs import sum_runs

SHARES = 64
"""Binned counts are in these parts of a count: whole numbers, so sums do not depend on order."""
_MOST = np.int64(2**31 - 1)
_CACHE_LINE = 64
_CORNERS, _Y, _X = np.int64(4), np.int64(0), np.int64(1)
"""Typed: for each plain number that is handed on numba compiles another version."""


@njit(nogil=True, cache=True)
def _clip(polygon, count, axis, sign, limit, out):
    """The part of a convex polygon (count, 2) with sign * coordinate <= sign * limit."""
    found = 0
    for i in range(count):
        j = (i + 1) % count
        a, b = sign * (limit - polygon[i, axis]), sign * (limit - polygon[j, axis])
        if a >= 0.0:
            for k in range(2):
                out[found, k] = polygon[i, k]
            found += 1
        if (a > 0.0 and b < 0.0) or (a < 0.0 and b > 0.0):
            part = a / (a - b)
            for k in range(2):
                out[found, k] = polygon[i, k] + part * (polygon[j, k] - polygon[i, k])
            found += 1
    return found


@njit(nogil=True, cache=True)
def _area(polygon, count):
    """Area of a polygon (count, 2)."""
    twice = 0.0
    for i in range(count):
        j = (i + 1) % count
        twice += polygon[i, 0] * polygon[j, 1] - polygon[j, 0] * polygon[i, 1]
    return abs(twice) / 2.0


@njit(nogil=True, cache=True)
def grid_entries(height, width, y0, x0, flip, cosine, sine, scale, half, place, entries):
    """Which part of each detector pixel's area lies in which grid pixel.

    (y0, x0): the zero angle; scale: grid pixels a detector pixel; place: int64 (side * side,),
    number of the grid pixel or -1; entries: int32 (n, 3), written as (detector pixel, grid pixel,
    SHARES of the detector pixel), by ascending pixels, as far as there is room. Parts are rounded
    such that those of a detector pixel add up to the rounded whole. Returns how many there are.
    """
    side = 2 * half + 1
    count = 0
    corners = np.empty((4, 2))
    low, high = np.empty(2), np.empty(2)
    one, two = np.empty((9, 2)), np.empty((9, 2))
    for row in range(height):
        for column in range(width):
            for n in range(4):
                v = row - y0 + (-0.5 if n < 2 else 0.5)
                u = column - x0 + (-0.5 if n == 0 or n == 3 else 0.5)
                if flip:
                    v, u = u, v
                corners[n, 0] = (v * cosine - u * sine) * scale + half
                corners[n, 1] = (v * sine + u * cosine) * scale + half
            for axis in range(2):
                low[axis] = high[axis] = corners[0, axis]
                for n in range(1, 4):
                    low[axis] = min(low[axis], corners[n, axis])
                    high[axis] = max(high[axis], corners[n, axis])
            first_y, last_y = math.floor(low[0] + 0.5), math.ceil(high[0] - 0.5)
            first_x, last_x = math.floor(low[1] + 0.5), math.ceil(high[1] - 0.5)
            total, given = 0.0, 0
            for y in range(max(0, first_y), min(side - 1, last_y) + 1):
                for x in range(max(0, first_x), min(side - 1, last_x) + 1):
                    target = place[y * side + x]
                    if target < 0:
                        continue
                    if first_y == last_y and first_x == last_x:
                        total += SHARES
                    else:
                        n = _clip(corners, _CORNERS, _Y, 1.0, y + 0.5, one)
                        n = _clip(one, n, _Y, -1.0, y - 0.5, two)
                        n = _clip(two, n, _X, 1.0, x + 0.5, one)
                        n = _clip(one, n, _X, -1.0, x - 0.5, two)
                        total += SHARES * _area(two, n) / scale**2
                    share = np.int64(np.rint(total)) - given
                    if share <= 0:
                        continue
                    given += share
                    if count < entries.shape[0]:
                        entries[count, 0] = row * width + column
                        entries[count, 1] = target
                        entries[count, 2] = share
                    count += 1
    return count


@njit(nogil=True, cache=True)
def bin_runs(wire, like, swap, offset, stride, size, frames, runs, starts, shares, out, places):
    """Write the pattern of frame frames[i] to out[places[i]], by the runs of a `GridTable`.

    wire, like, swap, offset, stride: as for `reduce_frames`; size: bytes of a pattern; frames,
    places: int64 (n,); runs: int32 (grid pixels + 1,), those of grid pixel k are
    runs[k]..runs[k+1]-1; starts: int32 (runs,); shares: uint8 (runs, 16); out: int32 (m, grid
    pixels), in SHARES of a count, at most 2^31 - 1: returns how many sums were cut off there.
    The same integers as adding entry by entry gives, in a tenth of the time: about one nanosecond
    a run.
    """
    cut = 0
    pixels = runs.size - 1
    lines = size // _CACHE_LINE
    for i in range(frames.size):
        begin = offset + frames[i] * stride
        sums = out[places[i]]
        # the next pattern is fetched meanwhile: runs jump about, which no processor foresees
        following = offset + frames[min(i + 1, frames.size - 1)] * stride
        for k in range(pixels):
            for line in range(k * lines // pixels, (k + 1) * lines // pixels):
                prefetch(wire, following + line * _CACHE_LINE)
            if swap:
                total = sum_runs(wire, like, True, begin, starts, shares, runs[k], runs[k + 1])
            else:
                total = sum_runs(wire, like, False, begin, starts, shares, runs[k], runs[k + 1])
            if total > _MOST or total < 0:
                total = _MOST
                cut += 1
            sums[k] = np.int32(total)
    return cut


@njit(nogil=True, cache=True)
def bin_hits(probe, yx, dwell_ns, count, acceptance_ns, width, low, first, target, share, out):
    """Add hits of positions low..low + len(out) - 1 to `out`, by the entries of a `GridTable`.

    probe, yx, dwell_ns, count, acceptance_ns: as for `kernels.events.accumulate`; width: of the
    detector; first: int32 (detector pixels + 1,); out: int32 (positions, grid pixels), in SHARES
    of a count. Hits of other positions are left out; returns the hits counted.
    """
    counted = 0
    for i in range(count):
        place = probe[i] - low
        if probe[i] < 0 or place < 0 or place >= out.shape[0]:
            continue
        if acceptance_ns > 0.0 and dwell_ns[i] >= acceptance_ns:
            continue
        pixel = np.int64(yx[i] >> np.uint32(16)) * width + np.int64(yx[i] & np.uint32(0xFFFF))
        for e in range(first[pixel], first[pixel + 1]):
            out[place, target[e]] += share[e]
        counted += 1
    return counted
