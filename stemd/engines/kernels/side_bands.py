"""Compiled parts of single side-band ptychography: filling the store, adding up overlaps."""

from __future__ import annotations

import numpy as np

from stemd.compilation import njit
from stemd.engines.kernels.overlaps import aberration


@njit(nogil=True, cache=True)
def keep_binned(binned, shift, probe, low, most, chunk, begin):
    """Add binned patterns begin.. to rows probe - low of the chunk, where they belong to it.

    binned: int32 (n, cells) in 2^shift parts of a count, divisible by them; probe: int64 (n,);
    chunk: unsigned (positions, cells), whose largest value is `most`. Returns the number of the
    first pattern that would not fit, of which nothing was added, or n. 0.1 ns a cell.
    """
    for i in range(begin, probe.size):
        row = probe[i] - low
        if row < 0 or row >= chunk.shape[0]:
            continue
        values, sums = binned[i], chunk[row]
        high = np.int64(0)
        for k in range(values.size):
            high = max(high, np.int64(sums[k]) + (values[k] >> shift))
        if high > most:
            return i
        for k in range(values.size):
            sums[k] += values[k] >> shift
    return probe.size


@njit(nogil=True, cache=True)
def keep_hits(
    probe, yx, dwell_ns, count, acceptance_ns, width, first, target, low, most, chunk, begin
):
    """Add hits begin.. to rows probe - low of the chunk, where they belong to it.

    probe, yx, dwell_ns, count, acceptance_ns: as for `kernels.events.accumulate`; width: of the
    detector; first: int32 (detector pixels + 1,), target: int32 (entries,): cell of each detector
    pixel, at most one; chunk, most: as for `keep_binned`. Returns the number of the first hit
    that would not fit, or `count`. The caller guarantees that hits are on the detector.
    """
    for i in range(begin, count):
        row = probe[i] - low
        if row < 0 or row >= chunk.shape[0]:
            continue
        if acceptance_ns > 0.0 and dwell_ns[i] >= acceptance_ns:
            continue
        pixel = np.int64(yx[i] >> np.uint32(16)) * width + np.int64(yx[i] & np.uint32(0xFFFF))
        entry = first[pixel]
        if entry < first[pixel + 1]:
            if chunk[row, target[entry]] >= most:
                return i
            chunk[row, target[entry]] += 1
    return count


@njit(nogil=True, cache=True)
def add_side_bands(spectrum, ky, kx, qy, qx, c, total, number):
    """Add the single side bands of one detector cell, K = (ky, kx), at all scan frequencies Q.

    With I(K, r) the counts of the cell, G(K, Q) = sum I exp(-2 pi i Q r) and A(k) the aperture
    times exp(-i chi(k)): where |K - Q| < 1 and |K + Q| >= 1, G = A*(K) A(K - Q) i phi(Q), and
    where it is the other way round its conjugate at -Q (Rodenburg, McCallum, Nellist,
    Ultramicroscopy 48 (1993) 304). total gets A(K) A*(K - Q) G / i, the same of the other band,
    and number is raised by 1.

    spectrum: complex64 (ny, nx // 2 + 1), half of the plane; K and Q in semi-angles, qy (ny,) as
    `fftfreq` and qx (nx // 2 + 1,) as `rfftfreq` order them; c: float64 (8,),
    `Aberrations.coefficients`; total: complex128 and number: int32, both of the spectrum's shape.
    3 ns a frequency, 25 with aberrations.
    """
    own = aberration(c, ky, kx)
    aberrated = np.any(c != 0.0)
    for row in range(qy.size):
        minus_y, plus_y = (ky - qy[row]) ** 2, (ky + qy[row]) ** 2
        if minus_y >= 1.0 and plus_y >= 1.0:
            continue
        for column in range(qx.size):
            if qx[column] >= 2.0:
                break
            minus = minus_y + (kx - qx[column]) ** 2
            plus = plus_y + (kx + qx[column]) ** 2
            if (minus < 1.0) == (plus < 1.0):
                continue
            sign = 1.0 if minus < 1.0 else -1.0
            seen = spectrum[row, column]
            if aberrated:
                y, x = ky - sign * qy[row], kx - sign * qx[column]
                angle = sign * (own - aberration(c, y, x))
                seen = seen * complex(np.cos(angle), -np.sin(angle))
            total[row, column] += complex(sign * seen.imag, -sign * seen.real)
            number[row, column] += 1
