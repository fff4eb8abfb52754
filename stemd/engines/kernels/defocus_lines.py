"""Compiled: the evidence along a line of lenses that differ in their defocus alone."""

from __future__ import annotations

import numpy as np

from stemd.compilation import njit
from stemd.engines.kernels.overlaps import aberration, sine_of_turns

_TURNS = 0.5 / np.pi
_SIDE = 16
"""Lenses that are worked out together."""
_ROUNDING = 1e-13
"""Of the cells' counts: what is left of less where a lens makes two overlaps cancel."""


@njit(nogil=True, cache=True, fastmath={"contract"})
def _add_turning(x, y, turn_x, turn_y, wave_x, wave_y, sums_x, sums_y):
    """Add a wave to each of a line of sums, turned on by so much from one to the next.

    sums: (rows, side), one row after the other; wave: room, (side,), a power of 2. The waves of
    a row are those of the first, turned on together: no wave waits for the one before.
    """
    side = wave_x.size
    wave_x[0], wave_y[0] = x, y
    done = 1
    while done < side:
        for i in range(done):
            wave_x[done + i] = turn_x * wave_x[i] - turn_y * wave_y[i]
            wave_y[done + i] = turn_x * wave_y[i] + turn_y * wave_x[i]
        turn_x, turn_y = turn_x * turn_x - turn_y * turn_y, 2.0 * turn_x * turn_y
        done *= 2
    x, y = 1.0, 0.0
    for row in range(sums_x.shape[0]):
        to_x, to_y = sums_x[row], sums_y[row]
        for i in range(side):
            to_x[i] += x * wave_x[i] - y * wave_y[i]
            to_y[i] += x * wave_y[i] + y * wave_x[i]
        x, y = x * turn_x - y * turn_y, x * turn_y + y * turn_x


@njit(nogil=True, cache=True, inline="always")
def _wave(angle):
    """Cosine and sine of -1/2 turn to 1/2, or beyond."""
    angle -= np.floor(angle + 0.5)
    near = 0.25 - abs(angle)
    return sine_of_turns(near), np.copysign(sine_of_turns(0.25 - abs(near)), angle)


@njit(nogil=True, cache=True)
def line_sums(spectra, points, weights, qy, qx, c, step, turns, powers, denominators):
    """|numerator|^2 and denominator of `overlaps.add_cells` for lenses along a line.

    The lens of row i has the coefficients c, and i step more of the first of them. As that is
    quadratic, the waves scattered by q and -q that come to a cell k turn by 2 k q step from one
    lens to the next, and by q^2 step with or against each other, so that no sines are needed but
    for the first. The turning adds 1e-16 of error a lens.

    spectra: complex64 (cells, n); points: float64 (cells, 2), one a cell, y and x in apertures;
    weights: float64 (cells,); qy, qx: float64 (n,) in apertures; c: float64 (8,); turns: complex128
    (cells, n), exp(-2 i step k q); powers, denominators: float64 (lenses, n), overwritten. 2 ns
    a frequency within an overlap, cell and lens.
    """
    rows = -(-powers.shape[0] // _SIDE)
    sums_x, sums_y = np.empty((rows, _SIDE)), np.empty((rows, _SIDE))
    wave_x, wave_y, own = np.empty(_SIDE), np.empty(_SIDE), np.empty(weights.size)
    for cell in range(weights.size):
        own[cell] = aberration(c, points[cell, 0], points[cell, 1])
    for n in range(qy.size):
        square = (qy[n] * qy[n] + qx[n] * qx[n]) * step
        cos, sin = np.cos(square), np.sin(square)
        alone, together, mixed_x, mixed_y = 0.0, 0.0, 0.0, 0.0
        sums_x[:], sums_y[:] = 0.0, 0.0
        for cell in range(weights.size):
            ky, kx, weight = points[cell, 0], points[cell, 1], weights[cell]
            minus_y, minus_x, plus_y, plus_x = ky - qy[n], kx - qx[n], ky + qy[n], kx + qx[n]
            minus = minus_y * minus_y + minus_x * minus_x < 1.0
            plus = plus_y * plus_y + plus_x * plus_x < 1.0
            if not (minus or plus):
                continue
            x, y = np.float64(spectra[cell, n].real), np.float64(spectra[cell, n].imag)
            turn_x, turn_y = turns[cell, n].real, turns[cell, n].imag
            low_x, low_y, high_x, high_y = 0.0, 0.0, 0.0, 0.0
            if minus:
                low_x, low_y = _wave((own[cell] - aberration(c, minus_y, minus_x)) * _TURNS)
                _add_turning(
                    weight * (x * low_x + y * low_y), weight * (y * low_x - x * low_y),
                    turn_x * cos - turn_y * sin, turn_x * sin + turn_y * cos,
                    wave_x, wave_y, sums_x, sums_y,
                )  # fmt: skip
            if plus:
                high_x, high_y = _wave((aberration(c, plus_y, plus_x) - own[cell]) * _TURNS)
                _add_turning(
                    -weight * (x * high_x + y * high_y), -weight * (y * high_x - x * high_y),
                    turn_x * cos + turn_y * sin, turn_y * cos - turn_x * sin,
                    wave_x, wave_y, sums_x, sums_y,
                )  # fmt: skip
            if minus and plus:
                mixed_x += weight * (low_x * high_x + low_y * high_y)
                mixed_y += weight * (low_y * high_x - low_x * high_y)
                both = low_x * low_x + low_y * low_y + high_x * high_x + high_y * high_y
                together += 0.5 * weight * both
            else:
                alone += weight
        for lens in range(powers.shape[0]):
            x, y = sums_x[lens // _SIDE, lens % _SIDE], sums_y[lens // _SIDE, lens % _SIDE]
            powers[lens, n] = x * x + y * y
        sums_x[:], sums_y[:] = 0.0, 0.0
        _add_turning(
            mixed_x, mixed_y, cos * cos - sin * sin, -2.0 * cos * sin,
            wave_x, wave_y, sums_x, sums_y,
        )  # fmt: skip
        for lens in range(powers.shape[0]):
            left = together - sums_x[lens // _SIDE, lens % _SIDE]
            if left < _ROUNDING * together:
                left = 0.0
            denominators[lens, n] = alone + 2.0 * left


@njit(nogil=True, cache=True)
def ring_sums(powers, denominators, ring, twice, positions, share, sums):
    """Add up for `lens.rings.ring_powers` what it takes of each ring: float64 (4, lenses, rings).

    ring: int64 (n,); twice: float64 (n,), of `lens.estimate.Frequencies`, as are positions and
    share.
    """
    for lens in range(powers.shape[0]):
        for n in range(ring.size):
            noise, at = positions * denominators[lens, n], ring[n]
            sums[0, lens, at] += twice[n] * (powers[lens, n] - noise)
            sums[1, lens, at] += twice[n] * twice[n] * noise * noise / share
            sums[2, lens, at] += twice[n] * denominators[lens, n] * denominators[lens, n]
            sums[3, lens, at] += twice[n] * noise


@njit(nogil=True, cache=True)
def line_evidence(powers, denominators, ring, twice, positions, share, specimen, evidence):
    """`lens.estimate.Linear.evidence` of each lens: float64 (lenses,), added to.

    specimen: float64 (lenses, rings), its power; the rest as for `ring_sums`.
    """
    for lens in range(powers.shape[0]):
        total = 0.0
        for n in range(ring.size):
            power = specimen[lens, ring[n]] / positions
            gain = power * denominators[lens, n]
            each = powers[lens, n] / positions * power / (1.0 + gain) - np.log1p(gain)
            total += each * twice[n]
        evidence[lens] += 0.5 * share * total
