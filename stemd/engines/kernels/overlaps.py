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


@njit(nogil=True, cache=True)
def add_overlaps(spectrum, points, weight, qy, qx, c, numerator, denominator):
    """Add one cell's part of the best linear estimate of the phase at the scan frequencies.

    In the weak-phase approximation the transform of the relative intensity of cell k is
    G(k, q) = phi(q) Gamma(k, q), Gamma = i [A*(k) A(k - q) - A(k) A*(k + q)], A the aperture
    times exp(-i chi) (Rodenburg, McCallum, Nellist, Ultramicroscopy 48 (1993) 304). numerator
    gets weight Gamma* G, denominator weight |Gamma|^2.

    spectrum: complex64 (n,) of the cell; points: float64 (m, 2), y and x of points of the cell in
    apertures, over which Gamma is averaged; weight: its mean counts a position; qy, qx: float64
    (n,) in apertures; c: float64 (8,); numerator: complex128 (n,); denominator: float64 (n,).
    40 ns a frequency and point.
    """
    share = 1.0 / points.shape[0]
    for n in range(qy.size):
        re, im = 0.0, 0.0
        for p in range(points.shape[0]):
            ky, kx = points[p, 0], points[p, 1]
            own = aberration(c, ky, kx)
            y, x = ky - qy[n], kx - qx[n]
            if y * y + x * x < 1.0:
                angle = own - aberration(c, y, x)
                re -= np.sin(angle)
                im += np.cos(angle)
            y, x = ky + qy[n], kx + qx[n]
            if y * y + x * x < 1.0:
                angle = aberration(c, y, x) - own
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
