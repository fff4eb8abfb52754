"""What a column would be at every pixel: its height, that height's error, where it stands out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


FAINT = 1e-6
"""Height of columns, as a part of the image's deviation, below which none are shown."""
HIGH = 0.9
"""Part of all columns that are lower than those that a column is compared with."""


def height_map(image: F32, profile: F64) -> F32:
    """Least-squares height of a column over its ground around every pixel, (ny, nx).

    sum g' x / sum g'^2, g' the square profile (n, n) = outer(line, line) without its mean.
    """
    line, ones, mean, square = _parts(profile)
    found = separable(image, line) - np.float32(mean) * separable(image, ones)
    return np.asarray(found / np.float32(square), np.float32)


def deviation_map(variance: F32, profile: F64) -> F32:
    """Standard deviation of `height_map` for the noise's variance."""
    line, ones, mean, square = _parts(profile)
    total = separable(variance, line**2) - np.float32(2.0 * mean) * separable(variance, line)
    total += np.float32(mean * mean) * separable(variance, ones)
    least = np.float32(1e-6 * variance.mean(dtype=np.float64))
    return np.asarray(np.sqrt(np.maximum(total, least)) / np.float32(square), np.float32)


def electron_of(variance: F32, shown: F32) -> float:
    """Value of one electron: how much variance grows with brightness; below 0 where it falls."""
    spread = float(shown.var(dtype=np.float64))
    if spread <= 0.0:
        return 0.0
    both = float(np.mean((variance - variance.mean()) * (shown - shown.mean()), dtype=np.float64))
    return both / spread


def squares(height: Any, deviation: Any, electron: float, profile: F64) -> Any:
    """Heights over their deviations, squared; were a column there, its electrons would bring noise.

    See `own_noise`.
    """
    own = np.float32(own_noise(electron, profile))
    return np.square(height) / (np.square(deviation) + np.maximum(own * height, 0.0))


def own_noise(electron: float, profile: F64) -> float:
    """Variance that a column's own electrons bring to its height, for each unit of height.

    `electron` sum g g'^2 / (sum g'^2)^2.
    """
    square = np.square(profile - profile.mean())
    return electron * float((profile * square).sum()) / float(square.sum()) ** 2


def peaks(image: F32, least: float, known: I64, apart: float) -> I64:
    """Local maxima (n, 2) above `least` that are no nearer than `apart` to a `known` place."""
    taken = np.zeros(image.shape, np.bool_)
    _mark(known, apart, taken)
    found = np.empty((image.size // 4 + 1, 2), np.int64)
    return found[: _peaks(image, least, taken, found)].copy()


def seen(image: F32, shown: F32, variance: F32, places: I64, profile: F64) -> F32:
    """Whether the recorded `image` has the columns that are `shown`, (ny, nx) from 0 to 1.

    Each of `places` (n, 2) by itself: a column that is high in the image, and by more than its
    noise. Around it the mean of those nearby, the higher ones first.
    """
    at = places[:, 0], places[:, 1]
    total, weight = np.zeros_like(image), np.zeros_like(image)
    if not len(places):
        return total
    height, high = height_map(image, profile)[at], np.maximum(height_map(shown, profile)[at], 0.0)
    clear = height / deviation_map(variance, profile)[at]
    usual = np.float32(np.quantile(high, HIGH))
    if not float(usual) > FAINT * float(image.std()):
        return total
    certain = np.clip(0.5 * clear - 1.0, 0.0, 1.0) * np.clip(5.0 * height / usual - 1.5, 0.0, 1.0)
    weight[at] = np.square(high / usual)
    total[at] = weight[at] * certain
    line = gaussian_line(0.25 * len(profile))
    least = np.float32(1e-3 * float(line.max()) ** 2)
    return np.asarray(separable(total, line) / (separable(weight, line) + least), np.float32)


def gaussian_line(width_px: float) -> F64:
    """A gaussian of sum 1, out to two and a half deviations."""
    reach = max(1, int(2.5 * width_px))
    line = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width_px) ** 2)
    even: F64 = line / line.sum()
    return even


def _parts(profile: F64) -> tuple[F64, F64, float, float]:
    """Line and ones along an axis, the profile's mean, and sum g'^2."""
    line = np.ascontiguousarray(profile[len(profile) // 2])
    return line, np.ones_like(line), float(profile.mean()), float(profile.var() * profile.size)


@njit(nogil=True, cache=True)
def _mark(places: I64, radius: float, out: NDArray[np.bool_]) -> None:
    reach = int(np.ceil(radius))
    for n in range(places.shape[0]):
        for j in range(max(0, places[n, 0] - reach), min(out.shape[0], places[n, 0] + reach + 1)):
            for i in range(
                max(0, places[n, 1] - reach), min(out.shape[1], places[n, 1] + reach + 1)
            ):
                dy, dx = j - places[n, 0], i - places[n, 1]
                if dy * dy + dx * dx < radius * radius:
                    out[j, i] = True


@njit(nogil=True, cache=True)
def _peaks(image: F32, least: float, taken: NDArray[np.bool_], out: I64) -> int:
    ny, nx = image.shape
    count = 0
    for j in range(1, ny - 1):
        for i in range(1, nx - 1):
            c = image[j, i]
            top = c > least and not taken[j, i] and count < out.shape[0]
            for dj in range(-1, 2):
                for di in range(-1, 2):
                    other = image[j + dj, i + di]
                    if other > c or (other == c and (dj < 0 or (dj == 0 and di < 0))):
                        top = False
            if top:
                out[count, 0], out[count, 1] = j, i
                count += 1
    return count


@njit(nogil=True, cache=True)
def separable(image: F32, line: F64) -> F32:
    """The image convolved with an even line along both axes; it goes on as in a mirror."""
    ny, nx = image.shape
    reach = line.size // 2
    weights = line.astype(np.float32)
    out = np.empty((ny, nx), np.float32)
    total = np.empty(nx + 2 * reach, np.float32)
    for j in range(ny):
        total[:] = np.float32(0.0)
        for k in range(-reach, reach + 1):
            add_line(image[_mirrored(j + k, ny)], weights[k + reach], total[reach : reach + nx])
        for i in range(reach):
            total[i] = total[reach + _mirrored(i - reach, nx)]
            total[reach + nx + i] = total[reach + _mirrored(nx + i, nx)]
        out[j] = np.float32(0.0)
        for k in range(2 * reach + 1):
            add_line(total[k : k + nx], weights[k], out[j])
    return out


@njit(nogil=True, cache=True)
def add_line(line: F32, weight: float, out: F32) -> None:
    """out += weight line, (n,) each: without a step or a bound the compiler takes many at once."""
    for i in range(out.size):
        out[i] += weight * line[i]


@njit(inline="always")
def _mirrored(n: int, size: int) -> int:
    n = -1 - n if n < 0 else n
    n = 2 * size - 1 - n if n >= size else n
    return min(max(n, 0), size - 1)
