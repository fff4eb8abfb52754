"""A Fourier transform for the pattern renderer: many short columns at once, inside one kernel.

Numba has no FFT, and NumPy's needs a call (and the GIL) for each batch. Here LANES columns are
transformed side by side, so that every butterfly is a vector instruction; the sizes are written
out as literals because the compiler vectorises only loops whose strides it knows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit

Size = tuple[int, ...]
"""A length n as a tuple of n / 32 zeros: the one way to tell a number to numba's compiler, which
then compiles the code for that length alone (a second instead of ten) and caches it."""
LANES = 16
"""Columns transformed together: one 512-bit register of float32."""
SIZES = (64, 96, 128, 192, 384)
"""Lengths that `transform` knows, all even."""

Plane = NDArray[np.float32]


def size_of(n: int) -> Size:
    """The tuple that stands for a length of SIZES."""
    return (0,) * (n // 32)


def twiddles(n: int) -> tuple[Plane, Plane]:
    """Real and imaginary part of exp(-2 pi i t / n), t = 0..n-1, float32."""
    turn = np.exp(-2j * np.pi * np.arange(n) / n)
    return turn.real.astype(np.float32), turn.imag.astype(np.float32)


@njit(fastmath=True, inline="always")
def _radix4(
    xr: Plane, xi: Plane, yr: Plane, yi: Plane, n: int, s: int, cos: Plane, sin: Plane
) -> None:
    w = s * LANES
    f = n // 4 * w
    for p in range(n // 4):
        w1r, w1i = cos[p * s], sin[p * s]
        w2r, w2i = cos[2 * p * s], sin[2 * p * s]
        w3r, w3i = cos[3 * p * s], sin[3 * p * s]
        i, o = p * w, 4 * p * w
        for q in range(w):
            ar, ai = xr[i + q], xi[i + q]
            br, bi = xr[i + f + q], xi[i + f + q]
            cr, ci = xr[i + 2 * f + q], xi[i + 2 * f + q]
            dr, di = xr[i + 3 * f + q], xi[i + 3 * f + q]
            acr, aci, amr, ami = ar + cr, ai + ci, ar - cr, ai - ci
            bdr, bdi, bmr, bmi = br + dr, bi + di, br - dr, bi - di
            yr[o + q] = acr + bdr
            yi[o + q] = aci + bdi
            ur, ui = amr + bmi, ami - bmr
            yr[o + w + q] = ur * w1r - ui * w1i
            yi[o + w + q] = ur * w1i + ui * w1r
            ur, ui = acr - bdr, aci - bdi
            yr[o + 2 * w + q] = ur * w2r - ui * w2i
            yi[o + 2 * w + q] = ur * w2i + ui * w2r
            ur, ui = amr - bmi, ami + bmr
            yr[o + 3 * w + q] = ur * w3r - ui * w3i
            yi[o + 3 * w + q] = ur * w3i + ui * w3r


@njit(fastmath=True, inline="always")
def _radix3(
    xr: Plane, xi: Plane, yr: Plane, yi: Plane, n: int, s: int, cos: Plane, sin: Plane
) -> None:
    w = s * LANES
    f = n // 3 * w
    half = np.float32(0.5)
    height = np.float32(0.8660254037844386)
    for p in range(n // 3):
        w1r, w1i = cos[p * s], sin[p * s]
        w2r, w2i = cos[2 * p * s], sin[2 * p * s]
        i, o = p * w, 3 * p * w
        for q in range(w):
            ar, ai = xr[i + q], xi[i + q]
            br, bi = xr[i + f + q], xi[i + f + q]
            cr, ci = xr[i + 2 * f + q], xi[i + 2 * f + q]
            sr, si = br + cr, bi + ci
            dr, di = height * (br - cr), height * (bi - ci)
            yr[o + q] = ar + sr
            yi[o + q] = ai + si
            tr, ti = ar - half * sr, ai - half * si
            ur, ui = tr + di, ti - dr
            yr[o + w + q] = ur * w1r - ui * w1i
            yi[o + w + q] = ur * w1i + ui * w1r
            ur, ui = tr - di, ti + dr
            yr[o + 2 * w + q] = ur * w2r - ui * w2i
            yi[o + 2 * w + q] = ur * w2i + ui * w2r


@njit(fastmath=True, inline="always")
def _radix2_last(xr: Plane, xi: Plane, yr: Plane, yi: Plane, s: int) -> None:
    w = s * LANES
    for q in range(w):
        ar, ai = xr[q], xi[q]
        br, bi = xr[w + q], xi[w + q]
        yr[q] = ar + br
        yi[q] = ai + bi
        yr[w + q] = ar - br
        yi[w + q] = ai - bi


@njit(nogil=True, fastmath=True, cache=True)
def transform(
    size: Size, xr: Plane, xi: Plane, yr: Plane, yi: Plane, cos: Plane, sin: Plane
) -> tuple[Plane, Plane]:
    """Forward transform sum_t x[t] exp(-2 pi i t k / n) of LANES columns, in place or nearly so.

    Stockham's algorithm. xr, xi, yr, yi: n * LANES float32, row t of all columns contiguous;
    `cos`, `sin` from `twiddles(n)`. Overwrites all four; returns the two that hold the result.
    Exchange real and imaginary parts of input and output for the inverse (not normalised).
    `size` from `size_of(n)`.
    """
    if len(size) == 2:
        _radix4(xr, xi, yr, yi, 64, 1, cos, sin)
        _radix4(yr, yi, xr, xi, 16, 4, cos, sin)
        _radix4(xr, xi, yr, yi, 4, 16, cos, sin)
        return yr, yi
    if len(size) == 3:
        _radix4(xr, xi, yr, yi, 96, 1, cos, sin)
        _radix4(yr, yi, xr, xi, 24, 4, cos, sin)
        _radix3(xr, xi, yr, yi, 6, 16, cos, sin)
        _radix2_last(yr, yi, xr, xi, 48)
        return xr, xi
    if len(size) == 4:
        _radix4(xr, xi, yr, yi, 128, 1, cos, sin)
        _radix4(yr, yi, xr, xi, 32, 4, cos, sin)
        _radix4(xr, xi, yr, yi, 8, 16, cos, sin)
        _radix2_last(yr, yi, xr, xi, 64)
        return xr, xi
    if len(size) == 6:
        _radix4(xr, xi, yr, yi, 192, 1, cos, sin)
        _radix4(yr, yi, xr, xi, 48, 4, cos, sin)
        _radix4(xr, xi, yr, yi, 12, 16, cos, sin)
        _radix3(yr, yi, xr, xi, 3, 64, cos, sin)
        return xr, xi
    _radix4(xr, xi, yr, yi, 384, 1, cos, sin)
    _radix4(yr, yi, xr, xi, 96, 4, cos, sin)
    _radix4(xr, xi, yr, yi, 24, 16, cos, sin)
    _radix3(yr, yi, xr, xi, 6, 64, cos, sin)
    _radix2_last(xr, xi, yr, yi, 192)
    return yr, yi
