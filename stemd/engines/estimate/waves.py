"""A crystal's image as a sum of plane waves: few numbers, so little of the noise stays.

Waves are found one group after the other, as peaks of the spectrum that stand out of the noise
and of their surroundings; amplitudes follow by least squares, frequencies by one step of Gauss
and Newton. What is not periodic over the image is left to others (`windows`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
C64 = NDArray[np.complex64]

CERTAIN = 11.0
"""Power of a peak over the noise's mean from which on it is a wave: one in 60,000 by chance."""
LIKELY = 3.0
"""The same for sums and differences of waves that are there, which are few."""
LOWEST = 2.6
"""Periods in the image below which a wave is not told from the background."""
GROUPS, AGAIN, MOST = 4, 2, 200
"""Rounds of the first search and of later ones, and waves altogether."""
QUIET = 0.2
"""Part of the frequencies along y that show noise alone, whatever the image."""
RING = 1.0
"""A peak stands `CERTAIN` times this above the mean of its surroundings, too: lines that are
displaced, and edges, smear power over many frequencies."""
RANGE = 0.003
"""Peaks below this part of a round's highest wait for the next: its side lobes are as high."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Power of white noise along the lines: variance a pixel at each frequency along x.

    `power` (nx // 2 + 1,) from frequency 0 to 0.5 cycles a pixel. Detectors that are slow smear
    noise along the line, so it depends on the frequency along x alone.
    """

    power: F64

    def at(self, frequency: F64) -> F64:
        """Variance a pixel at frequencies (any shape) in cycles a pixel."""
        known = np.linspace(0.0, 0.5, self.power.size)
        found: F64 = np.interp(np.abs(frequency), known, self.power)
        return found

    @property
    def variance(self) -> float:
        """Variance of a pixel."""
        return float(self.power.mean())


@dataclass(slots=True)
class Waves:
    """2 Re(sum over n of amplitude[n] exp(2 pi i (fy y + fx x))), y, x from the image's middle.

    `frequency` (n, 2) in cycles a pixel along y and x, `amplitude` (n,) complex.
    """

    shape: tuple[int, int]
    frequency: F64
    amplitude: NDArray[np.complex128]

    def image(self) -> F32:
        """The waves as an image (ny, nx)."""
        if not len(self.amplitude):
            return np.zeros(self.shape, np.float32)
        ey, ex = _phases(self.frequency, self.shape)
        ey = ey * (2.0 * self.amplitude).astype(np.complex64)[:, None]
        left = np.concatenate([ey.real, -ey.imag])
        right = np.concatenate([ex.real, ex.imag])
        out: F32 = left.T @ right
        return out


def find_waves(image: F32, known: F64 | None = None) -> tuple[Waves, float, Noise]:
    """Waves of an image (ny, nx), its mean, and the noise beside them.

    `known` frequencies (n, 2), from an earlier look at nearly the same image, are not searched
    again. Cost: a Fourier transform a round, and about 16 n multiplications a pixel.
    """
    ny, nx = image.shape
    mean = float(image.mean(dtype=np.float64))
    centred = image - np.float32(mean)
    taper = _taper(ny)[:, None] * _taper(nx)[None]
    scale = 1.0 / float(np.square(taper, dtype=np.float64).sum())
    waves = Waves((ny, nx), np.empty((0, 2)), np.empty(0, np.complex128))
    rest = centred
    if known is not None and len(known):
        waves.frequency = known.copy()
        rest = _fitted(waves, centred, Noise(np.zeros(1)))
    for _ in range(GROUPS if known is None else AGAIN):
        power, noise = spectrum(rest * taper, scale)
        found = _peaks(power, noise.power, MOST - len(waves.frequency))
        found = _new(found, waves)
        if not len(found):
            break
        waves.frequency = np.concatenate([waves.frequency, found])
        rest = _fitted(waves, centred, noise)
    power, noise = spectrum(rest * taper, scale)
    _add_sums(waves, rest, noise)
    return waves, mean, noise


def spectrum(tapered: F32, scale: float) -> tuple[F32, Noise]:
    """Power (ny, nx // 2 + 1) times `scale`, and the noise in it: low along y at every fx.

    The noise is what the lowest fifth of the powers along y says, if they were exponentially
    distributed as those of noise are: a crystal's peaks, and the edges' slopes, stand above.
    """
    f = np.fft.rfft2(tapered)
    power: F32 = ((f.real**2 + f.imag**2) * np.float32(scale)).astype(np.float32, copy=False)
    value = np.sort(power, axis=0)[int(QUIET * len(power))].astype(np.float64)
    low = _smoothed(value / -np.log1p(-QUIET), 4)
    return power, Noise(np.maximum(low, 1e-12 * float(power.mean()) + 1e-30))


def _smoothed(values: F64, reach: int) -> F64:
    padded = np.pad(values, reach, "reflect" if len(values) > reach else "edge")
    total = np.cumsum(np.concatenate([[0.0], padded]))
    width = 2 * reach + 1
    smooth: F64 = (total[width:] - total[:-width]) / width
    return smooth


def _taper(n: int) -> F32:
    return (0.5 - 0.5 * np.cos(2.0 * np.pi * (np.arange(n) + 0.5) / n)).astype(np.float32)


def _phases(frequency: F64, shape: tuple[int, int]) -> tuple[C64, C64]:
    """exp(2 pi i f y) (n, ny) and exp(2 pi i f x) (n, nx), from the image's middle."""
    parts = []
    for axis, size in enumerate(shape):
        part = np.empty((len(frequency), size), np.complex64)
        _turn(np.ascontiguousarray(frequency[:, axis]), part)
        parts.append(part)
    return parts[0], parts[1]


@njit(nogil=True, cache=True)
def _turn(frequency: F64, out: C64) -> None:
    """out[n, j] = exp(2 pi i frequency[n] (j - middle)) by repeated multiplication."""
    n, size = out.shape
    for k in range(n):
        step = np.exp(2j * np.pi * frequency[k])
        value = np.exp(-2j * np.pi * frequency[k] * 0.5 * (size - 1))
        for j in range(size):
            out[k, j] = value
            value *= step


def _projected(ey: C64, ex: C64, image: F32) -> NDArray[np.complex128]:
    """Sum of image times the conjugate of each wave (n,)."""
    n = len(ey)
    both = np.concatenate([ey.real, -ey.imag]) @ image
    part = (both[:n] + 1j * both[n:]) * ex.conj()
    total: NDArray[np.complex128] = part.sum(axis=1, dtype=np.complex128)
    return total


def _fitted(waves: Waves, image: F32, noise: Noise) -> F32:
    """Amplitudes by least squares, frequencies refined; returns what is left of the image."""
    _solve(waves, image)
    rest: F32 = image - waves.image()
    _refine(waves, rest, noise)
    _solve(waves, image)
    rest = image - waves.image()
    return rest


def _solve(waves: Waves, image: F32) -> None:
    """Least squares: with y, x from the middle, cosines and sines do not mix.

    <cos a, cos b> = (D(a - b) + D(a + b)) / 2, <sin a, sin b> with a minus, D the Dirichlet
    kernel sin(pi f n) / sin(pi f) of each axis.
    """
    ny, nx = waves.shape
    ey, ex = _phases(waves.frequency, waves.shape)
    b = _projected(ey, ex, image)
    count = len(b)
    cosine, sine = np.empty((count, count)), np.empty((count, count))
    _products(waves.frequency, ny, nx, 1e-3, cosine, sine)
    real = np.linalg.solve(cosine, b.real)
    imaginary = np.linalg.solve(sine, b.imag)
    waves.amplitude = np.asarray(0.5 * (real + 1j * imaginary), np.complex128)


@njit(nogil=True, cache=True)
def _products(frequency: F64, ny: int, nx: int, ridge: float, cosine: F64, sine: F64) -> None:
    """Scalar products of all cosines, and of all sines, over the image's pixels, with a ridge."""
    count = frequency.shape[0]
    s, c = np.sin(np.pi * frequency), np.cos(np.pi * frequency)
    sn, cn = np.empty((count, 2)), np.empty((count, 2))
    for n in range(count):
        for a in range(2):
            turns = np.pi * frequency[n, a] * (ny if a == 0 else nx)
            sn[n, a], cn[n, a] = np.sin(turns), np.cos(turns)
    for n in range(count):
        for m in range(n + 1):
            less, more = 1.0, 1.0
            for a in range(2):
                size = ny if a == 0 else nx
                over, under = sn[n, a] * cn[m, a], cn[n, a] * sn[m, a]
                over1, under1 = s[n, a] * c[m, a], c[n, a] * s[m, a]
                below = over1 - under1
                less *= (over - under) / below if abs(below) > 1e-7 else size
                below = over1 + under1
                more *= (over + under) / below if abs(below) > 1e-7 else size
            cosine[n, m] = cosine[m, n] = 0.5 * (less + more)
            sine[n, m] = sine[m, n] = 0.5 * (less - more)
        cosine[n, n] += ridge * ny * nx
        sine[n, n] += ridge * ny * nx


def _refine(waves: Waves, rest: F32, noise: Noise) -> None:
    """One step of Gauss and Newton for the frequencies of waves that are strong enough."""
    ny, nx = waves.shape
    a = waves.amplitude
    ey, ex = _phases(waves.frequency, waves.shape)
    y = (np.arange(ny) - 0.5 * (ny - 1)).astype(np.float32)
    x = (np.arange(nx) - 0.5 * (nx - 1)).astype(np.float32)
    along = _projected(ey * y, ex, rest), _projected(ey, ex * x, rest)
    strength = np.abs(a) ** 2 * ny * nx
    strong = strength > 10.0 * noise.at(waves.frequency[:, 1])
    for axis, (slope, n) in enumerate(zip(along, (ny, nx), strict=True)):
        spread = 2.0 * np.pi * strength * (n * n - 1) / 12.0
        step = np.imag(slope * a.conj()) / np.maximum(spread, 1e-30)
        waves.frequency[:, axis] += np.clip(step, -0.3 / n, 0.3 / n) * strong


def _peaks(power: F32, noise: F64, most: int) -> F64:
    """Frequencies (n, 2) of the strongest peaks, between the grid's points by parabolas."""
    if most < 1:
        return np.empty((0, 2))
    found = np.empty((4096, 3))
    count = _find_peaks(power, noise, CERTAIN, LOWEST, found)
    found = found[:count]
    if not count:
        return np.empty((0, 2))
    found = found[found[:, 2] > RANGE * found[:, 2].max()]
    order = np.argsort(-found[:, 2], kind="stable")[:most]
    return np.ascontiguousarray(found[order, :2])


@njit(nogil=True, cache=True)
def _find_peaks(power: F32, noise: F64, least: float, lowest: float, out: F64) -> int:
    """Local maxima `least` times above noise and half the mean of their surroundings (13 x 13
    without the middle 5 x 5), as (fy, fx, power); one of each pair of mirrored ones.
    """
    ny, half = power.shape
    nx = 2 * (half - 1)
    count = 0
    for j in range(ny):
        if 2 * j == ny:
            continue
        fy = j if 2 * j < ny else j - ny
        for i in range(half - 1):
            p = power[j, i]
            if p <= least * noise[i] or (i == 0 and fy <= 0) or fy * fy + i * i < lowest**2:
                continue
            highest = True
            ring = 0.0
            for dj in range(-6, 7):
                for di in range(-6, 7):
                    jj, ii = (j + dj) % ny, i + di
                    if ii < 0:
                        jj, ii = (ny - jj) % ny, -ii
                    if ii >= half:
                        jj, ii = (ny - jj) % ny, nx - ii
                    other = power[jj, ii]
                    if abs(dj) <= 1 and abs(di) <= 1 and other > p:
                        highest = False
                    if abs(dj) > 2 or abs(di) > 2:
                        ring += other
                if not highest and dj >= 1:
                    break
            if not highest or p <= least * RING * ring / 144.0 or count >= out.shape[0]:
                continue
            c = np.log(p + 1e-30)
            up, down = power[(j - 1) % ny, i], power[(j + 1) % ny, i]
            left = power[j, i - 1] if i > 0 else power[(ny - j) % ny, 1]
            right = power[j, i + 1]
            out[count, 0] = (fy + _vertex(np.log(up + 1e-30), c, np.log(down + 1e-30))) / ny
            out[count, 1] = (i + _vertex(np.log(left + 1e-30), c, np.log(right + 1e-30))) / nx
            out[count, 2] = p
            count += 1
    return count


@njit(nogil=True, cache=True)
def _vertex(a: float, b: float, c: float) -> float:
    bend = a - 2.0 * b + c
    if bend > -1e-9:
        return 0.0
    return min(0.6, max(-0.6, 0.5 * (a - c) / bend))


def _new(found: F64, waves: Waves, apart: float = 0.7) -> F64:
    """Those found frequencies that are `apart` bins from every known one and its mirror."""
    if not len(waves.frequency) or not len(found):
        return found
    near = np.zeros(len(found), np.bool_)
    _mark_near(found, waves.frequency, waves.shape, apart, near)
    return found[~near]


@njit(nogil=True, cache=True)
def _mark_near(
    found: F64, known: F64, shape: tuple[int, int], apart: float, near: NDArray[np.bool_]
) -> None:
    """near[n]: found[n] is within `apart` bins of a known frequency or its mirror image."""
    for n in range(found.shape[0]):
        for m in range(known.shape[0]):
            for sign in (1.0, -1.0):
                y = (found[n, 0] - sign * known[m, 0]) * shape[0]
                x = (found[n, 1] - sign * known[m, 1]) * shape[1]
                if y * y + x * x <= apart * apart:
                    near[n] = True


def _add_sums(waves: Waves, rest: F32, noise: Noise) -> None:
    """Add weak waves at sums and differences of the twelve strongest with all, if likely.

    Their amplitudes are drawn towards 0 by what noise adds to them.
    """
    if len(waves.frequency) < 2:
        return
    strongest = np.argsort(-np.abs(waves.amplitude), kind="stable")[:12]
    some = waves.frequency[strongest]
    both = np.concatenate([some, -some])
    sums = (waves.frequency[:, None] + both[None]).reshape(-1, 2)
    sums[sums[:, 1] < 0.0] *= -1.0
    bins = np.array(waves.shape)
    inside = (np.abs(sums) < 0.48).all(axis=1) & (np.hypot(*(sums * bins).T) > LOWEST)
    sums = sums[inside]
    _, first = np.unique(np.round(sums * bins).astype(int), axis=0, return_index=True)
    sums = _new(sums[np.sort(first)], waves, 1.2)
    if not len(sums):
        return
    ey, ex = _phases(sums, waves.shape)
    count = rest.size
    amplitude = _projected(ey, ex, rest) / count
    power = np.abs(amplitude) ** 2 * count / noise.at(sums[:, 1])
    keep = np.flatnonzero(power > LIKELY)
    keep = keep[np.argsort(-power[keep], kind="stable")]
    sums, amplitude, power = sums[keep], amplitude[keep], power[keep]
    # two neighbours may both have seen one wave
    lone = np.ones(len(sums), np.bool_)
    _mark_lone(sums, waves.shape, 1.2, lone)
    if not lone.any():
        return
    waves.frequency = np.concatenate([waves.frequency, sums[lone]])
    waves.amplitude = np.concatenate([waves.amplitude, amplitude[lone] * (1.0 - 1.0 / power[lone])])


@njit(nogil=True, cache=True)
def _mark_lone(
    frequency: F64, shape: tuple[int, int], apart: float, lone: NDArray[np.bool_]
) -> None:
    """lone[n]: no earlier frequency is within `apart` bins."""
    for n in range(frequency.shape[0]):
        for m in range(n):
            y = (frequency[n, 0] - frequency[m, 0]) * shape[0]
            x = (frequency[n, 1] - frequency[m, 1]) * shape[1]
            if y * y + x * x < apart * apart:
                lone[n] = False
                break
