"""Wiener's filter for textures, with one gain for all coefficients of a spatial frequency.

A texture's coefficients all have the power of their spatial frequency, and none of them is more
certain than the others; the filter of least error gives all of them one gain.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
C64 = NDArray[np.complex64]
I64 = NDArray[np.int64]

SIDE = 64
HOP = SIDE // 2
RINGS = 46
EVEN, UNEVEN = 2.15, 2.5
"""Mean square of a ring's powers over their mean's square. It is 2 for a texture, whose powers are
exponentially distributed; shapes with edges have few high ones."""
FEW, BY_CHANCE = 300.0, 0.2
"""Coefficients with a signal up to which both of these are higher by so much, and from twice which
on no more: of few powers the mean square is more by chance, and of shapes it is far more."""
ENOUGH = 30.0
"""Coefficients with a signal that a window must have to be judged."""
COARSEST = 3
"""Rings below this hold the image's slow changes, of which nothing is judged."""
DOUBT = 0.3
"""Deviations of a ring's mean power that may be chance, and are no signal."""
ALIKE = 0.5
"""How much like a texture a window is that tells of all others."""
FINE, FINEST, BROAD = 10, 31, 6
"""Rings from one of which on an image may have noise alone; those beyond the finest are missing
where a window goes on as in a mirror. So many rings at least must say it."""
CAREFUL, UNSURE = 1.0, 0.12
"""Standard errors by which the noise may be more than they say, and the part by which its variance
may be told wrongly: it is an estimate itself, and a restored image shows some of the noise."""
COLOURED, WHITE = 0.65, 0.8
"""Lowest power of the finest frequencies along y, along x, and along both, over the highest, up to
which noise certainly is not white, and from which on it passes for it."""
INDEPENDENT = 1.25
"""Coefficients of neighbouring windows that count, a coefficient of one window: windows overlap,
and coefficients beside each other have the same noise."""


def texture(image: F32, variance: F32) -> tuple[F32, F32, float]:
    """The image (ny, nx) by Wiener's filter, how much like a texture it is, how white its noise.

    Both from 0 to 1. Nothing is a texture as far as noise is not white.

    `variance` (ny, nx) of its white noise. In windows of 64 x 64, half overlapping, the power of
    each ring of spatial frequencies, averaged over neighbouring windows and rings, and over all
    that are no less alike than chance lets them be, gives the ring's gain 1 - noise / power, which
    falls from ring to ring. Cost: four Fourier transforms of 4 times
    the image, a row of windows after the other.
    """
    ny, nx = image.shape
    widths = [(HOP, HOP + -side % HOP + max(0, SIDE - side)) for side in (ny, nx)]
    middle = np.float32(image.mean(dtype=np.float64))
    padded = np.pad(image - middle, widths, "symmetric")
    noise = np.pad(variance, widths, "symmetric")
    taper = np.sin(np.pi * (np.arange(SIDE) + 0.5) / SIDE)
    window = (taper[:, None] * taper[None]).astype(np.float32)
    ring = _rings()
    rows, across = (side // HOP - 1 for side in padded.shape)
    level, square = np.empty((2, rows, across, RINGS))
    mean_power = np.zeros((SIDE, SIDE // 2 + 1))
    for row in range(rows):
        power = _power(_transformed(padded, row, window), _noise(noise, row, window))
        mean_power += power.sum(axis=0, dtype=np.float64)
        _means(power, ring, level[row], square[row])
    count = np.maximum(np.bincount(ring.ravel(), minlength=RINGS), 1.0)
    chance = 1.0 + DOUBT / np.sqrt(INDEPENDENT * count)
    inside, square = (_even(_even(_from_inside(each))) for each in (level, square))
    gain = np.maximum(0.0, 1.0 - chance / np.maximum(inside, 1e-6))
    white = _white(mean_power)
    like = white * _like_texture(inside, square, gain * count)
    level = _even(_even(level))
    level /= _quiet(level, like, count)
    level = _together(level, like, 1.0 / (INDEPENDENT * count))
    gain = _falling(np.maximum(0.0, 1.0 - chance / np.maximum(_between(level), 1e-6)))
    total, known, share = (np.zeros_like(padded) for _ in range(3))
    for row in range(rows):
        lines = np.s_[row * HOP : row * HOP + SIDE]
        f = _transformed(padded, row, window) * gain[row][:, ring].astype(np.float32)
        parts = np.fft.irfft2(f, s=(SIDE, SIDE)).astype(np.float32)
        _add(parts, like[row], window, total[lines], known[lines], share[lines])
    inner = np.s_[HOP : HOP + ny, HOP : HOP + nx]
    filtered = total[inner] / share[inner] + middle
    textured = (known[inner] / share[inner]).astype(np.float32)
    return filtered.astype(np.float32), textured, white


def _rings() -> I64:
    """Number of the ring of each coefficient (64, 33), from 0 to RINGS - 1."""
    y = np.fft.fftfreq(SIDE) * SIDE
    x = np.arange(SIDE // 2 + 1)
    radius = np.round(np.hypot(y[:, None], x[None])).astype(np.int64)
    return np.asarray(np.minimum(radius, RINGS - 1), np.int64)


def _windows(image: F32, row: int) -> F32:
    lines = image[row * HOP : row * HOP + SIDE]
    views = np.lib.stride_tricks.sliding_window_view(lines, SIDE, axis=1)[:, ::HOP]
    found: F32 = views.transpose(1, 0, 2)
    return found


def _transformed(image: F32, row: int, window: F32) -> C64:
    f: C64 = np.fft.rfft2(_windows(image, row) * window).astype(np.complex64, copy=False)
    return f


def _noise(variance: F32, row: int, window: F32) -> F64:
    """Mean power of the noise in each window of a row."""
    found: F64 = (_windows(variance, row) * window**2).sum(axis=(1, 2), dtype=np.float64)
    return np.asarray(np.maximum(found, 1e-30), np.float64)


def _power(f: C64, noise: F64) -> F32:
    power = (f.real**2 + f.imag**2) / noise[:, None, None]
    return np.asarray(np.minimum(power, 1e15), np.float32)


def _from_inside(values: F64) -> F64:
    """Windows (rows, across, ...) at the image's edges take the values of those beside them.

    They are half a mirror image, whose powers are as uneven as those of shapes; all of their pixels
    are in the next window too.
    """
    inside = values.copy()
    for turned in (inside, inside.swapaxes(0, 1)):
        if len(turned) > 2:
            turned[0], turned[-1] = turned[1], turned[-2]
    return inside


def _white(power: F64) -> float:
    """How certainly the noise is white, 0 to 1, by the mean power (64, 33) of all windows.

    Noise that is not (of an image that was interpolated, or computed from patterns) may look like
    a texture at every frequency, and nothing here could tell it from one.
    """
    folded = power[: SIDE // 2 + 1].copy()
    folded[1:-1] = 0.5 * (folded[1:-1] + power[: SIDE // 2 : -1])
    fine, middle = slice(3 * SIDE // 8, None), slice(COARSEST, 3 * SIDE // 16)
    corner = slice(5 * SIDE // 16, None)
    means = folded[fine, middle].mean(), folded[middle, fine].mean(), folded[corner, corner].mean()
    ratio = min(means) / max(*means, 1e-30)
    return float(np.clip((ratio - COLOURED) / (WHITE - COLOURED), 0.0, 1.0))


def _quiet(level: F64, like: F64, count: F64) -> float:
    """Level of the noise in textures (rows, across, RINGS), over what is told: about 1.

    Beyond some ring there is nothing else. The mean of all finer rings, and its standard error, is
    no less than the noise; the least of these knows it best. Too little noise would cost far more
    than too much, since it is shown in all rings that have no more.
    """
    if not like.sum() > 0.0:
        return 1.0
    mean = (like[..., None] * level).sum(axis=(0, 1)) / like.sum()
    finer, of = (np.cumsum(each[FINE:FINEST][::-1])[::-1] for each in (mean * count, count))
    # windows overlap by half along both axes
    error = 1.0 / np.sqrt(of * np.maximum(like.sum() / 4.0, 1.0))
    least = (finer / of * (1.0 + CAREFUL * error))[: FINEST - FINE - BROAD]
    return float(np.clip(least.min(), 1.0 - UNSURE, 1.0 + UNSURE))


def _between(level: F64) -> F64:
    """The level of each ring beside its neighbours', weights 1 2 1: textures have no sharp ring."""
    wide = np.pad(level, ((0, 0), (0, 0), (1, 1)), "edge")
    even: F64 = 0.25 * wide[..., :-2] + 0.5 * wide[..., 1:-1] + 0.25 * wide[..., 2:]
    even[..., :COARSEST] = level[..., :COARSEST]
    return even


def _together(level: F64, like: F64, chance: F64) -> F64:
    """Levels of rings (rows, across, RINGS) drawn to those of all textures of the image.

    As much as they differ by chance, whose variance of a level over its mean is `chance` (RINGS,):
    chance / (chance + what they differ by beyond it), over all rings in which there is a signal.
    """
    some = like > ALIKE
    if np.count_nonzero(some) < 2:
        return level
    mean = level[some].mean(axis=0)
    weight = np.maximum(mean - 1.0, 0.0) / mean / chance
    weight[:COARSEST] = 0.0
    apart = np.square(level / mean - 1.0)
    # each window by itself: a small field of another texture has its own filter
    beyond = (weight * (apart - chance)).sum(axis=-1) / max(float(weight.sum()), 1e-30)
    part = chance / (chance + np.maximum(beyond, 0.0)[..., None])
    drawn: F64 = level + part * like[..., None] * (mean - level)
    return drawn


def _falling(gain: F64) -> F64:
    """No finer ring of a texture has more gain than a coarser one: what seems so is chance."""
    gain[..., COARSEST:] = np.minimum.accumulate(gain[..., COARSEST:], axis=-1)
    return gain


def _like_texture(level: F64, square: F64, signal: F64) -> F64:
    """How much like a texture each window is, 0 to 1; `signal` is the weight of each ring."""
    weight = signal.copy()
    weight[..., :COARSEST] = 0.0
    total = weight.sum(axis=-1)
    uneven = (weight * square / np.maximum(level, 1e-6) ** 2).sum(axis=-1)
    uneven /= np.maximum(total, 1e-30)
    highest = UNEVEN + BY_CHANCE * np.clip(2.0 - total / FEW, 0.0, 1.0)
    like = np.clip((highest - uneven) / (UNEVEN - EVEN), 0.0, 1.0)
    return np.asarray(like * np.clip(total / ENOUGH, 0.0, 1.0), np.float64)


@njit(nogil=True, cache=True)
def _means(power: F32, ring: I64, level: F64, square: F64) -> None:
    """Mean power of each ring, and mean of its square, (windows, RINGS) each."""
    n, ny, nx = power.shape
    count = np.zeros(RINGS)
    level[:] = 0.0
    square[:] = 0.0
    for j in range(ny):
        for i in range(nx):
            count[ring[j, i]] += 1.0
    for k in range(n):
        for j in range(ny):
            for i in range(nx):
                level[k, ring[j, i]] += power[k, j, i]
                square[k, ring[j, i]] += power[k, j, i] * power[k, j, i]
        for r in range(RINGS):
            level[k, r] /= max(count[r], 1.0)
            square[k, r] /= max(count[r], 1.0)


def _even(values: F64) -> F64:
    """Means over each window and its neighbours, (rows, across, ...), weights 1 2 1."""
    for axis in (0, 1):
        widths = [(1, 1) if a == axis else (0, 0) for a in range(values.ndim)]
        wide = np.pad(values, widths, "edge")
        n = values.shape[axis]
        first, middle, last = (wide.take(range(k, k + n), axis) for k in range(3))
        values = 0.25 * first + 0.5 * middle + 0.25 * last
    return values


@njit(nogil=True, cache=True)
def _add(parts: F32, like: F64, window: F32, total: F32, known: F32, share: F32) -> None:
    """Add a row of windows, and what they are like, to their lines (64, width)."""
    for k in range(parts.shape[0]):
        x0 = k * HOP
        for j in range(SIDE):
            for i in range(SIDE):
                weight = window[j, i] * window[j, i]
                total[j, x0 + i] += window[j, i] * parts[k, j, i]
                known[j, x0 + i] += np.float32(like[k]) * weight
                share[j, x0 + i] += weight
