"""Compiled binning of patterns and hits to a small diffraction grid."""

from __future__ import annotations

import numba
import numpy as np

from stemd.engines.kernels.intrinsics import byte_swap


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
