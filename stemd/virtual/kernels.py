"""The hot loops of the virtual microscope: patterns from waves, counts from patterns."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit
from stemd.virtual.fft import LANES, Plane, Size, transform

WAVE_STEPS = 64
"""Samples of the radial aperture function a pixel."""


@njit(nogil=True, fastmath=True, cache=True)
def _turn(out: NDArray[np.float32], rows: NDArray[np.float32], count: int) -> None:
    """Transpose: the first `count` rows of LANES values each become columns of out (LANES, .)."""
    for i in range(count):
        for lane in range(LANES):
            out[lane, i] = rows[i * LANES + lane]


@njit(nogil=True, fastmath=True, cache=True)
def _gather(
    rows: NDArray[np.float32], at: int, source: NDArray[np.float32], first: int, count: int
) -> None:
    """Row i of source, LANES columns from `first`, becomes row at + i of the LANES columns."""
    to = at * LANES
    for i in range(count):
        for lane in range(LANES):
            rows[to + i * LANES + lane] = source[i, first + lane]


@njit(nogil=True, cache=True, inline="always")
def not_round(c, y, x):  # type: ignore[no-untyped-def]
    """chi of what is not round, radian, at (y, x) in apertures; c: `Aberrations.coefficients`."""
    yy, xx = y * y, x * x
    return (
        c[1] * (xx - yy)
        + c[2] * 2.0 * x * y
        + (yy + xx) * (c[3] * x + c[4] * y)
        + c[5] * x * (xx - 3.0 * yy)
        + c[6] * y * (3.0 * xx - yy)
    )


@njit(nogil=True, fastmath=True, cache=True)
def _aperture(
    re: NDArray[np.float32],
    im: NDArray[np.float32],
    wave: NDArray[np.complex64],
    fraction: NDArray[np.float64],
    shift: NDArray[np.float64],
    n: int,
    lens: NDArray[np.float64],
    axes: NDArray[np.float64],
    radius: float,
) -> None:
    """The tilted, moved aperture function on the rows and columns re, im cover, normalised."""
    size = re.shape[0]
    origin = n // 2 - size // 2
    turn_r, turn_i = np.empty((2, size), np.float32), np.empty((2, size), np.float32)
    for axis in range(2):
        for i in range(size):
            angle = -2 * math.pi * (i - size // 2) * (n // 2 + fraction[axis]) / n
            turn_r[axis, i], turn_i[axis, i] = math.cos(angle), math.sin(angle)
    step = np.float32(WAVE_STEPS)
    aberrated = np.any(lens != 0.0)
    total = np.float32(0.0)
    for i in range(size):
        y = np.float32(i + origin - n // 2 - shift[0])
        for j in range(size):
            x = np.float32(j + origin - n // 2 - shift[1])
            place = math.sqrt(y * y + x * x) * step
            index = int(place)
            if index + 1 < wave.size:
                value = wave[index] + np.float32(place - index) * (wave[index + 1] - wave[index])
                total += value.real * value.real + value.imag * value.imag
                if aberrated:
                    # from the detector to the scan
                    sy = (axes[0, 0] * y + axes[0, 1] * x) / radius
                    sx = (axes[1, 0] * y + axes[1, 1] * x) / radius
                    chi = not_round(lens, sy, sx)
                    value *= np.complex64(complex(math.cos(chi), -math.sin(chi)))
                cr = turn_r[0, i] * turn_r[1, j] - turn_i[0, i] * turn_i[1, j]
                ci = turn_r[0, i] * turn_i[1, j] + turn_i[0, i] * turn_r[1, j]
                re[i, j] = value.real * cr - value.imag * ci
                im[i, j] = value.real * ci + value.imag * cr
            else:
                re[i, j] = im[i, j] = 0
    scale = np.float32(1 / (n * n * math.sqrt(total)))
    for i in range(size):
        for j in range(size):
            re[i, j] *= scale
            im[i, j] *= scale


@njit(nogil=True, fastmath=True, cache=True)
def render(
    field_re: NDArray[np.float32],
    field_im: NDArray[np.float32],
    base: NDArray[np.int64],
    fraction: NDArray[np.float64],
    shift: NDArray[np.float64],
    wave: NDArray[np.complex64],
    disc: int,
    size: Size,
    cos: Plane,
    sin: Plane,
    lens: NDArray[np.float64],
    axes: NDArray[np.float64],
    radius: float,
    out: NDArray[np.float32],
) -> None:
    """Phase-object patterns |F(psi(r - rp) t(r))|^2, one a position.

    field_re, field_im: transmission t on the (column, row) grid, that is transposed. base (m, 2):
    row and column of the grid at which the window of n x n samples begins (`size_of(n)`);
    fraction (m, 2): where the probe is, in samples from the window's middle, 0..1; shift (m, 2):
    (y, x) in pixels of `out` by which the beam is tilted. wave: the round aperture function
    every 1 / WAVE_STEPS pixel of radius; `disc`: side in pixels, a multiple of LANES, of a
    square about k = 0 that holds it when tilted. lens (8,): `Aberrations.coefficients` of what is
    not round, at `radius` pixels of `out`, in scan axes, into which `axes` (2, 2) turns (y, x) of
    the detector. out (m, h, w), h, w <= n: k = 0 falls on pixel
    (h // 2, w // 2) + shift; a pattern of all n x n pixels sums to 1. The windows must lie in
    the field. The beam is tilted, not the pattern moved: no interpolation, no ringing.
    """
    n = cos.size
    m, h, w = out.shape
    origin = n // 2 - disc // 2
    xr, xi = np.empty(n * LANES, np.float32), np.empty(n * LANES, np.float32)
    yr, yi = np.empty(n * LANES, np.float32), np.empty(n * LANES, np.float32)
    pr, pi = np.empty((disc, disc), np.float32), np.empty((disc, disc), np.float32)
    ar, ai = np.empty((disc, n), np.float32), np.empty((disc, n), np.float32)
    columns = (w + LANES - 1) // LANES * LANES
    br, bi = np.zeros((n, columns), np.float32), np.zeros((n, columns), np.float32)
    for k in range(m):
        _aperture(pr, pi, wave, fraction[k], shift[k], n, lens, axes, radius)
        # With k = 0 in the middle of the aperture, not at the edge, the probe comes multiplied
        # by (-1)^(y + x), which puts the k = 0 of the pattern in the middle too.
        for first in range(0, disc, LANES):
            xr[:] = 0
            xi[:] = 0
            _gather(xr, origin, pr, first, disc)
            _gather(xi, origin, pi, first, disc)
            gi, gr = transform(size, xi, xr, yi, yr, cos, sin)
            _turn(ar[first : first + LANES], gr, n)
            _turn(ai[first : first + LANES], gi, n)
        for first in range(0, n, LANES):
            xr[:] = 0
            xi[:] = 0
            _gather(xr, origin, ar, first, disc)
            _gather(xi, origin, ai, first, disc)
            gi, gr = transform(size, xi, xr, yi, yr, cos, sin)
            at = base[k, 0] + first
            for j in range(n):
                re = field_re[base[k, 1] + j, at : at + LANES]
                im = field_im[base[k, 1] + j, at : at + LANES]
                sr, si = gr[j * LANES : (j + 1) * LANES], gi[j * LANES : (j + 1) * LANES]
                tr, ti = xr[j * LANES : (j + 1) * LANES], xi[j * LANES : (j + 1) * LANES]
                for lane in range(LANES):
                    vr, vi = sr[lane], si[lane]
                    tr[lane] = vr * re[lane] - vi * im[lane]
                    ti[lane] = vr * im[lane] + vi * re[lane]
            gr, gi = transform(size, xr, xi, yr, yi, cos, sin)
            start = (n // 2 - w // 2) * LANES
            _turn(br[first : first + LANES], gr[start:], w)
            _turn(bi[first : first + LANES], gi[start:], w)
        for first in range(0, w, LANES):
            _gather(xr, 0, br, first, n)
            _gather(xi, 0, bi, first, n)
            gr, gi = transform(size, xr, xi, yr, yi, cos, sin)
            for i in range(h):
                at = (n // 2 - h // 2 + i) * LANES
                sr, si = gr[at : at + LANES], gi[at : at + LANES]
                to_row = out[k, i, first : min(w, first + LANES)]
                for lane in range(to_row.size):
                    to_row[lane] = sr[lane] * sr[lane] + si[lane] * si[lane]


@njit(nogil=True, cache=True)
def bin_patterns(core: NDArray[np.float32], factor: int, out: NDArray[np.float32]) -> None:
    """Sum `factor` x `factor` pixels: core (m, h * factor, w * factor) into out (m, h, w)."""
    m, h, w = out.shape
    for k in range(m):
        for i in range(h):
            for j in range(w):
                total = np.float32(0.0)
                for a in range(factor):
                    for b in range(factor):
                        total += core[k, i * factor + a, j * factor + b]
                out[k, i, j] = total


@njit(nogil=True, fastmath=True, cache=True)
def enlarge_patterns(core: NDArray[np.float32], factor: int, out: NDArray[np.float32]) -> None:
    """Bilinear interpolation of core (m, hc, wc) into out (m, h, w), `factor` pixels for one.

    The middles of both coincide; the sum is kept, and so is the centre of mass.
    """
    m, h, w = out.shape
    hc, wc = core.shape[1:]
    share = np.float32(1.0 / factor**2)
    column = np.empty(w, np.int64)
    part = np.empty(w, np.float32)
    for j in range(w):
        x = (j - 0.5 * (w - 1)) / factor + 0.5 * (wc - 1)
        column[j] = math.floor(x)
        part[j] = np.float32(x - column[j])
    for k in range(m):
        for i in range(h):
            y = (i - 0.5 * (h - 1)) / factor + 0.5 * (hc - 1)
            row = math.floor(y)
            lower = np.float32(y - row) * share
            upper = share - lower
            for j in range(w):
                c, p = column[j], part[j]
                top = core[k, row, c] + p * (core[k, row, c + 1] - core[k, row, c])
                below = core[k, row + 1, c] + p * (core[k, row + 1, c + 1] - core[k, row + 1, c])
                out[k, i, j] = upper * top + lower * below


@njit(nogil=True, cache=True)
def _mix(z: np.uint64) -> np.uint64:
    """The output function of splitmix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(nogil=True, cache=True)
def _large_poisson(mean: float, state: np.uint64) -> tuple[int, np.uint64]:
    """One Poisson number of mean >= 10 by transformed rejection with squeeze: PTRS of
    W. Hoermann, Insurance: Mathematics and Economics 12 (1993) 39.
    """
    gamma = np.uint64(0x9E3779B97F4A7C15)
    scale = 1.0 / 9007199254740992.0
    b = 0.931 + 2.53 * math.sqrt(mean)
    a = -0.059 + 0.02483 * b
    inverse = 1.1239 + 1.1328 / (b - 3.4)
    vr = 0.9277 - 3.6224 / (b - 2)
    log_mean = math.log(mean)
    while True:
        state += gamma
        u = float(_mix(state) >> np.uint64(11)) * scale - 0.5
        state += gamma
        v = (float(_mix(state) >> np.uint64(11)) + 0.5) * scale
        us = 0.5 - abs(u)
        k = math.floor((2 * a / max(us, 1e-300) + b) * u + mean + 0.43)
        if us >= 0.07 and v <= vr:
            return k, state
        if k < 0 or (us < 0.013 and v > us):
            continue
        if math.log(v * inverse / (a / (us * us) + b)) <= k * log_mean - mean - math.lgamma(k + 1):
            return k, state


@njit(nogil=True, cache=True)
def sample_counts(
    expected: NDArray[np.float32],
    dose: float,
    seed: int,
    scan_number: int,
    frame: NDArray[np.int64],
    limit: int,
    out: NDArray[np.unsignedinteger],
) -> None:
    """Poisson counts of mean dose * expected, both (m, h, w), clipped to `limit`.

    Pattern i's numbers follow from (seed, scan_number, frame[i]) alone: any order and any split
    gives the same. 1 to 2 ns for a dark pixel, 10 to 100 ns for a bright one.
    """
    gamma = np.uint64(0x9E3779B97F4A7C15)
    scale = 1.0 / 9007199254740992.0
    m, h, w = expected.shape
    for k in range(m):
        state = _mix(np.uint64(seed) + gamma)
        state = _mix(state ^ (np.uint64(scan_number) + gamma))
        state = _mix(state ^ (np.uint64(frame[k]) + gamma))
        for i in range(h):
            for j in range(w):
                mean = dose * expected[k, i, j]
                count = 0
                if mean >= 10.0:
                    count, state = _large_poisson(mean, state)
                else:
                    state += gamma
                    u = float(_mix(state) >> np.uint64(11)) * scale
                    # exp(-mean) >= 1 - mean: most dark pixels need no exponential
                    if u >= 1.0 - mean:
                        part = math.exp(-mean)
                        while u >= part and part > 1e-300 and count < 200:
                            u -= part
                            count += 1
                            part *= mean / count
                out[k, i, j] = min(count, limit)
