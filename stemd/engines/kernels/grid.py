"""Compiled binning of patterns and hits to a small diffraction grid."""

from __future__ import annotations

import numba
import numpy as np

from stemd.engines.kernels.intrinsics import byte_swap, prefetch
from stemd.engines.kernels.runs import sum_runs

ACROSS = 8
"""Points across a detector pixel."""
_MOST = np.int64(2**31 - 1)
_CACHE_LINE = 64


@numba.njit(nogil=True, cache=True)
def grid_entries(height, width, y0, x0, flip, cosine, sine, scale, half, place, entries):
    """Cut each detector pixel into 8 x 8 points and see which grid pixel each falls in.

    (y0, x0): the zero angle; scale: grid pixels a detector pixel; place: int64 (side * side,),
    number of the grid pixel or -1; entries: int32 (n, 3), written as (detector pixel, grid pixel,
    points), by ascending pixels, as far as there is room. Returns how many there are.
    """
    side = 2 * half + 1
    count = 0
    seen = np.empty(ACROSS * ACROSS, np.int64)
    points = np.empty(ACROSS * ACROSS, np.int64)
    for row in range(height):
        for column in range(width):
            found = 0
            for i in range(ACROSS):
                for j in range(ACROSS):
                    v = row + ((i + 0.5) / ACROSS - 0.5) - y0
                    u = column + ((j + 0.5) / ACROSS - 0.5) - x0
                    if flip:
                        v, u = u, v
                    y = np.int64(np.rint((v * cosine - u * sine) * scale)) + half
                    x = np.int64(np.rint((v * sine + u * cosine) * scale)) + half
                    if y < 0 or y >= side or x < 0 or x >= side or place[y * side + x] < 0:
                        continue
                    target = place[y * side + x]
                    at = found
                    while at > 0 and seen[at - 1] > target:
                        at -= 1
                    if at > 0 and seen[at - 1] == target:
                        points[at - 1] += 1
                        continue
                    for k in range(found, at, -1):
                        seen[k] = seen[k - 1]
                        points[k] = points[k - 1]
                    seen[at] = target
                    points[at] = 1
                    found += 1
            for k in range(found):
                if count < entries.shape[0]:
                    entries[count, 0] = row * width + column
                    entries[count, 1] = seen[k]
                    entries[count, 2] = points[k]
                count += 1
    return count


@numba.njit(nogil=True, cache=True)
def bin_frames(wire, like, swap, offset, stride, frames, source, target, share, out):
    """Add the pattern of frame frames[i] to out[i], by the entries of a `GridTable`.

    wire, like, swap, offset, stride: as for `reduce_frames`; frames: int64 (n,); source, target,
    share: int32 (entries,); out: int32 (n, grid pixels), in SHARES of a count. One to two
    nanoseconds an entry. The caller guarantees that sums stay below 2^31.
    """
    size = 0
    if source.size:
        size = (source[-1] + 1) * like.itemsize
    for i in range(frames.size):
        begin = offset + frames[i] * stride
        values = wire[begin : begin + size].view(like.dtype)
        sums = out[i]
        if swap:
            for e in range(source.size):
                sums[target[e]] += share[e] * np.int32(byte_swap(values[source[e]]))
        else:
            for e in range(source.size):
                sums[target[e]] += share[e] * np.int32(values[source[e]])


@numba.njit(nogil=True, cache=True)
def bin_runs(wire, like, swap, offset, stride, size, frames, runs, starts, shares, out, places):
    """Write the pattern of frame frames[i] to out[places[i]], by the runs of a `GridTable`.

    wire, like, swap, offset, stride: as for `reduce_frames`; size: bytes of a pattern; frames,
    places: int64 (n,); runs: int32 (grid pixels + 1,), those of grid pixel k are
    runs[k]..runs[k+1]-1; starts: int32 (runs,); shares: uint8 (runs, 16); out: int32 (m, grid
    pixels), in SHARES of a count, at most 2^31 - 1: returns how many sums were cut off there.
    The same integers as `bin_frames` gives, in a tenth of the time: about one nanosecond a run.
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


@numba.njit(nogil=True, cache=True)
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
