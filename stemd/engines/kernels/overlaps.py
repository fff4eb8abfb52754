"""Compiled sums over overlapping discs: how each bright-field cell sees each scan frequency."""

from __future__ import annotations

import numpy as np

from stemd.compilation import njit

_TURN, _TURNS = 2.0 * np.pi, 0.5 / np.pi
_PART = 256
"""Frequencies that are worked on together: their waves stay in the nearest cache."""


@njit(nogil=True, cache=True, inline="always")
def aberration(c, y, x):
    """The aberration function, radian, at (y, x) in apertures; c: `Aberrations.coefficients`."""
    yy, xx = y * y, x * x
    r = yy + xx
    return (
        c[0] * r
        + c[1] * (xx - yy)
        + c[2] * 2.0 * x * y
        + r * (c[3] * x + c[4] * y)
        + c[5] * x * (xx - 3.0 * yy)
        + c[6] * y * (3.0 * xx - yy)
        + c[7] * r * r
    )


@njit(nogil=True, cache=True, inline="always")
def sine_of_turns(turns):
    """sin(2 pi turns) for -1/4..1/4, to 1e-9: a polynomial, so that loops are vectorised."""
    x = turns * _TURN
    xx = x * x
    return x * (
        1.0 + xx * (-1 / 6 + xx * (1 / 120 + xx * (-1 / 5040 + xx * (
            1 / 362880 + xx * (-1 / 39916800 + xx * (1 / 6227020800))
        ))))
    )  # fmt: skip


@njit(nogil=True, cache=True, fastmath={"contract"})
def waves_of(points, qy, qx, c, alone, low_y, low_x, high_y, high_x):
    """How one cell's two overlaps carry the waves scattered by -q and by q.

    low = A*(k) A(k - q) and high = A(k) A*(k + q) = exp(i angle) where both are open, else 0,
    averaged over points k of the cell; of each the real part goes to ..._x and the imaginary one
    to ..._y, float64 (n,). points, qy, qx, c: as for `add_overlaps`. alone: bool, count only where
    one of the two is open. 3 ns a frequency and point: no branches, so that the loop is vectorised.
    """
    share = 1.0 / points.shape[0]
    low_y[:], low_x[:], high_y[:], high_x[:] = 0.0, 0.0, 0.0, 0.0
    for p in range(points.shape[0]):
        ky, kx = points[p, 0], points[p, 1]
        own = aberration(c, ky, kx)
        for n in range(qy.size):
            minus_y, minus_x = ky - qy[n], kx - qx[n]
            plus_y, plus_x = ky + qy[n], kx + qx[n]
            minus = share if minus_y * minus_y + minus_x * minus_x < 1.0 else 0.0
            plus = share if plus_y * plus_y + plus_x * plus_x < 1.0 else 0.0
            keep = 0.0 if alone and minus == plus else 1.0
            for_low = (own - aberration(c, minus_y, minus_x)) * _TURNS
            for_high = (aberration(c, plus_y, plus_x) - own) * _TURNS
            for_low -= np.floor(for_low + 0.5)
            for_high -= np.floor(for_high + 0.5)
            near, far = 0.25 - abs(for_low), 0.25 - abs(for_high)
            low_x[n] += keep * minus * sine_of_turns(near)
            low_y[n] += keep * minus * np.copysign(sine_of_turns(0.25 - abs(near)), for_low)
            high_x[n] += keep * plus * sine_of_turns(far)
            high_y[n] += keep * plus * np.copysign(sine_of_turns(0.25 - abs(far)), for_high)


GAMMA, ONE_OVERLAP, SHIFT, MOMENT = range(4)
"""What a cell is weighted by; see `add_overlaps`."""
_NEAR = 1e-3


@njit(nogil=True, cache=True)
def add_overlaps(spectrum, points, weight, qy, qx, c, kind, numerator, denominator):
    """Add one cell's part of a linear estimate of the phase at the scan frequencies.

    In the weak-phase approximation the transform of the relative intensity of cell k is
    G(k, q) = phi(q) Gamma(k, q), Gamma = i [A*(k) A(k - q) - A(k) A*(k + q)], A the aperture
    times exp(-i chi) (Rodenburg, McCallum, Nellist, Ultramicroscopy 48 (1993) 304). numerator
    gets weight W* G, denominator weight |W|^2, with W by `kind`:

    GAMMA: Gamma. ONE_OVERLAP: Gamma where A(k - q) or A(k + q) is open, and not both. SHIFT:
    what Gamma is for a lens that is no more than a slope about k and an aperture that is open
    everywhere, without its size: exp(i grad chi(k) q) sign(sin chi(q)), chi(q) its even part
    (parallax, tilt-corrected bright field). MOMENT: i k q / |q|^2, the integrated centre of mass.

    spectrum: complex64 (n,) of the cell; points: float64 (m, 2), y and x of points of the cell in
    apertures, over which W is averaged; weight: its mean counts a position; qy, qx: float64
    (n,) in apertures; c: float64 (8,); kind: int; numerator: complex128 (n,); denominator:
    float64 (n,). 5 ns a frequency and point.
    """
    if kind in (GAMMA, ONE_OVERLAP):
        waves = np.empty((4, _PART))
        for first in range(0, qy.size, _PART):
            count = min(_PART, qy.size - first)
            low_y, low_x, high_y, high_x = (
                waves[0, :count], waves[1, :count], waves[2, :count], waves[3, :count]
            )  # fmt: skip
            waves_of(
                points, qy[first : first + count], qx[first : first + count], c,
                kind == ONE_OVERLAP, low_y, low_x, high_y, high_x,
            )  # fmt: skip
            for n in range(count):
                # i times the difference
                re, im = high_y[n] - low_y[n], low_x[n] - high_x[n]
                seen_x, seen_y = np.float64(spectrum[first + n].real), spectrum[first + n].imag
                numerator[first + n] += complex(
                    weight * (re * seen_x + im * seen_y), weight * (re * seen_y - im * seen_x)
                )
                denominator[first + n] += weight * (re * re + im * im)
        return
    share = 1.0 / points.shape[0]
    for n in range(qy.size):
        re, im = 0.0, 0.0
        for p in range(points.shape[0]):
            ky, kx = points[p, 0], points[p, 1]
            if kind == SHIFT:
                y, x = _NEAR * qy[n], _NEAR * qx[n]
                slope = aberration(c, ky + y, kx + x) - aberration(c, ky - y, kx - x)
                even = aberration(c, qy[n], qx[n]) + aberration(c, -qy[n], -qx[n])
                sign = np.sign(np.sin(0.5 * even))
                re += sign * np.cos(slope * 0.5 / _NEAR)
                im += sign * np.sin(slope * 0.5 / _NEAR)
            else:
                im += (ky * qy[n] + kx * qx[n]) / (qy[n] ** 2 + qx[n] ** 2)
        re *= share
        im *= share
        seen = spectrum[n]
        numerator[n] += weight * complex(
            re * seen.real + im * seen.imag, re * seen.imag - im * seen.real
        )
        denominator[n] += weight * (re * re + im * im)


@njit(nogil=True, cache=True)
def add_cells(spectra, points, weights, qy, qx, c, numerator, denominator):
    """Add the parts of many cells, as `add_overlaps` with GAMMA, by one call.

    spectra: complex64 (cells, n); points: float64 (cells, m, 2); weights: float64 (cells,).
    """
    for cell in range(weights.size):
        add_overlaps(
            spectra[cell], points[cell], weights[cell], qy, qx, c, GAMMA, numerator, denominator
        )


@njit(nogil=True, cache=True)
def add_both(
    spectrum, points, weight, qy, qx, c, numerator, denominator, absorbed, absorbing, mixed
):
    """Add one cell's part of the phase, as `add_overlaps` with GAMMA, and of the absorption.

    A specimen exp(i phi - mu) has G(k, q) = phi(q) Gamma(k, q) + mu(q) M(k, q), with
    M = -[A*(k) A(k - q) + A(k) A*(k + q)]. absorbed: complex128 (n,) gets weight M* G; absorbing:
    float64 (n,), weight |M|^2; mixed: complex128 (n,), weight Gamma* M. The rest as there.
    """
    waves = np.empty((4, _PART))
    for first in range(0, qy.size, _PART):
        count = min(_PART, qy.size - first)
        low_y, low_x, high_y, high_x = (
            waves[0, :count], waves[1, :count], waves[2, :count], waves[3, :count]
        )  # fmt: skip
        waves_of(
            points, qy[first : first + count], qx[first : first + count], c, False,
            low_y, low_x, high_y, high_x,
        )  # fmt: skip
        for n in range(count):
            at = first + n
            re, im = high_y[n] - low_y[n], low_x[n] - high_x[n]
            other_re, other_im = -low_x[n] - high_x[n], -low_y[n] - high_y[n]
            seen_x, seen_y = np.float64(spectrum[at].real), np.float64(spectrum[at].imag)
            numerator[at] += complex(
                weight * (re * seen_x + im * seen_y), weight * (re * seen_y - im * seen_x)
            )
            denominator[at] += weight * (re * re + im * im)
            absorbed[at] += complex(
                weight * (other_re * seen_x + other_im * seen_y),
                weight * (other_re * seen_y - other_im * seen_x),
            )
            absorbing[at] += weight * (other_re * other_re + other_im * other_im)
            mixed[at] += complex(
                weight * (re * other_re + im * other_im), weight * (re * other_im - im * other_re)
            )
