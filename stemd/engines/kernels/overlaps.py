"""Compiled sums over overlapping discs: how each bright-field cell sees each scan frequency."""

from __future__ import annotations

import numpy as np

from stemd.compilation import njit


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
    float64 (n,). 40 ns a frequency and point.
    """
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
                continue
            if kind == MOMENT:
                im += (ky * qy[n] + kx * qx[n]) / (qy[n] ** 2 + qx[n] ** 2)
                continue
            minus = (ky - qy[n]) ** 2 + (kx - qx[n]) ** 2 < 1.0
            plus = (ky + qy[n]) ** 2 + (kx + qx[n]) ** 2 < 1.0
            if not (minus or plus) or (kind == ONE_OVERLAP and minus == plus):
                continue
            own = aberration(c, ky, kx)
            if minus:
                angle = own - aberration(c, ky - qy[n], kx - qx[n])
                re -= np.sin(angle)
                im += np.cos(angle)
            if plus:
                angle = aberration(c, ky + qy[n], kx + qx[n]) - own
                re += np.sin(angle)
                im -= np.cos(angle)
        if re != 0.0 or im != 0.0:
            re *= share
            im *= share
            seen = spectrum[n]
            numerator[n] += weight * complex(
                re * seen.real + im * seen.imag, re * seen.imag - im * seen.real
            )
            denominator[n] += weight * (re * re + im * im)


@njit(nogil=True, cache=True)
def add_both(
    spectrum, points, weight, qy, qx, c, numerator, denominator, absorbed, absorbing, mixed
):
    """Add one cell's part of the phase, as `add_overlaps` with GAMMA, and of the absorption.

    A specimen exp(i phi - mu) has G(k, q) = phi(q) Gamma(k, q) + mu(q) M(k, q), with
    M = -[A*(k) A(k - q) + A(k) A*(k + q)]. absorbed: complex128 (n,) gets weight M* G; absorbing:
    float64 (n,), weight |M|^2; mixed: complex128 (n,), weight Gamma* M. The rest as there.
    """
    share = 1.0 / points.shape[0]
    for n in range(qy.size):
        low, high = 0.0j, 0.0j
        for p in range(points.shape[0]):
            ky, kx = points[p, 0], points[p, 1]
            minus = (ky - qy[n]) ** 2 + (kx - qx[n]) ** 2 < 1.0
            plus = (ky + qy[n]) ** 2 + (kx + qx[n]) ** 2 < 1.0
            if not (minus or plus):
                continue
            own = aberration(c, ky, kx)
            if minus:
                angle = own - aberration(c, ky - qy[n], kx - qx[n])
                low += complex(np.cos(angle), np.sin(angle))
            if plus:
                angle = aberration(c, ky + qy[n], kx + qx[n]) - own
                high += complex(np.cos(angle), np.sin(angle))
        gamma, other = 1j * (low - high) * share, -(low + high) * share
        seen = complex(spectrum[n].real, spectrum[n].imag)
        numerator[n] += weight * np.conj(gamma) * seen
        denominator[n] += weight * (gamma.real**2 + gamma.imag**2)
        absorbed[n] += weight * np.conj(other) * seen
        absorbing[n] += weight * (other.real**2 + other.imag**2)
        mixed[n] += weight * np.conj(gamma) * other
