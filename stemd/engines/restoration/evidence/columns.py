"""Columns of a restored image, and how high the recorded image says that they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit
from stemd.engines.restoration.evidence.everywhere import add_line
from stemd.engines.restoration.evidence.ground import over_ground

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

NARROWEST_PX, USUAL_PX, WIDEST_PX = 0.8, 2.5, 8.0
REACH = 4.0
DARK = 0.2
"""Skewness of an image's bends from which on the other way its columns are dark."""
TURNS = 12
"""Steps of conjugate gradients: neighbouring columns overlap, but not by much."""
RIDGE = 2e-3


@dataclass(frozen=True, slots=True)
class Columns:
    """Places (n, 2), whole pixels (y, x), of columns of one `profile` (2 r + 1, 2 r + 1).

    Heights are those over the ground, a mean over `ground_px` (deviation of a gaussian) around a
    column: where too much of all columns is shown, the ground is shown too low, as means are kept.
    """

    places: I64
    profile: F64
    ground_px: float

    def heights(self, residual: F32) -> F64:
        """Heights (n,) of the columns that fit a residual (ny, nx) best, all at once.

        Least squares: sum over m of <g n, g m> a[m] = <g n, residual>, of each image what it has
        over its ground, by conjugate gradients.
        """
        profile = self.profile
        b = gathered(over_ground(residual, self.ground_px), self.places, profile)
        a = np.zeros(len(b))
        rest, step = b.copy(), b.copy()
        before = float(rest @ rest)
        first = max(before, 1e-300)
        ridge = RIDGE * float(np.square(profile).sum())
        image = np.empty(residual.shape, np.float32)
        for _ in range(TURNS):
            if before <= 1e-8 * first:
                break
            image[:] = 0.0
            spread(step, self.places, profile, image)
            seen = gathered(over_ground(image, self.ground_px), self.places, profile)
            seen += ridge * step
            share = before / max(float(step @ seen), 1e-300)
            a += share * step
            rest -= share * seen
            now = float(rest @ rest)
            step = rest + now / before * step
            before = now
        return a

    def drawn(self, heights: F64, shape: tuple[int, ...]) -> F32:
        """The columns of these heights as an image (ny, nx)."""
        image = np.zeros(shape, np.float32)
        spread(heights, self.places, self.profile, image)
        return image

    def deviations(self, variance: F32) -> F64:
        """Standard deviation (n,) of each column by itself for the noise's `variance` (ny, nx)."""
        square = np.square(self.profile)
        total: F64 = np.sqrt(gathered(variance, self.places, square)) / float(square.sum())
        return total

    def own_noise(self, electron: float) -> float:
        """Variance that a column's own electrons bring to its height, for each unit of height."""
        square = np.square(self.profile)
        return electron * float((self.profile * square).sum()) / float(square.sum()) ** 2


def profile_of(width_px: float) -> F64:
    """A round gaussian of height 1, out to `REACH` deviations."""
    reach = int(np.ceil(REACH * width_px))
    axis = np.arange(-reach, reach + 1)
    bell = np.exp(-0.5 * (axis / width_px) ** 2)
    return np.outer(bell, bell)


def maxima(image: F32) -> tuple[I64, F64, F64]:
    """Local maxima of an image: places (n, 2), heights over the ground around, and widths (n,).

    The ground is the lowest value on the way to where the image rises again, or eight pixels, the
    lower median of eight directions. Of a gaussian the second derivative at its top is minus
    height / width^2.
    """
    most = image.size // 4 + 1
    places = np.empty((most, 2), np.int64)
    height, width = np.empty(most), np.empty(most)
    n = _maxima(image, places, height, width)
    return places[:n].copy(), height[:n].copy(), width[:n].copy()


def usual_width(height: F64, width: F64) -> float:
    """Width of columns in pixels: the median, each column by its height."""
    if not len(height):
        return USUAL_PX
    by_width = np.argsort(width, kind="stable")
    share = np.cumsum(np.square(height[by_width]))
    middle = by_width[min(int(np.searchsorted(share, 0.5 * share[-1])), len(width) - 1)]
    return float(np.clip(width[middle], NARROWEST_PX, WIDEST_PX))


def dark(image: F32) -> bool:
    """Whether the columns of an image (ny, nx) are darker than their ground, as in bright field.

    Columns are narrow and ground is wide, so the sharpest bends are those of columns: their mean
    cube, over their mean square, has the sign of the columns.
    """
    bend = 4.0 * image[1:-1, 1:-1]
    for part in (image[:-2, 1:-1], image[2:, 1:-1], image[1:-1, :-2], image[1:-1, 2:]):
        bend = bend - part
    square = float(np.mean(np.square(bend), dtype=np.float64))
    cube = float(np.mean(np.square(bend) * bend, dtype=np.float64))
    return bool(cube < -DARK * square**1.5)


@njit(nogil=True, cache=True)
def _maxima(image: F32, places: I64, height: F64, width: F64) -> int:
    ny, nx = image.shape
    count = 0
    falls = np.empty(8)
    for j in range(1, ny - 1):
        for i in range(1, nx - 1):
            c = image[j, i]
            top = True
            for dj in range(-1, 2):
                for di in range(-1, 2):
                    other = image[j + dj, i + di]
                    # of equal neighbours the first one is the top
                    if other > c or (other == c and (dj < 0 or (dj == 0 and di < 0))):
                        top = False
            if not top:
                continue
            k = 0
            for dj in range(-1, 2):
                for di in range(-1, 2):
                    if dj == 0 and di == 0:
                        continue
                    low = c
                    for step in range(1, 9):
                        y, x = j + dj * step, i + di * step
                        if y < 0 or x < 0 or y >= ny or x >= nx or image[y, x] > low:
                            break
                        low = image[y, x]
                    # by size, as it comes: a call to sort takes longer to compile than the rest
                    at = k
                    while at > 0 and falls[at - 1] > c - low:
                        falls[at] = falls[at - 1]
                        at -= 1
                    falls[at] = c - low
                    k += 1
            bend = 4.0 * c - image[j - 1, i] - image[j + 1, i] - image[j, i - 1] - image[j, i + 1]
            if bend <= 0.0 or count >= height.size:
                continue
            places[count, 0], places[count, 1] = j, i
            height[count] = falls[4]
            # the second difference of a narrow gaussian is less than its derivative
            width[count] = np.sqrt(max(2.0 * falls[4] / bend - 0.25, 0.1))
            count += 1
    return count


@njit(nogil=True, cache=True)
def gathered(image: F32, places: I64, profile: F64) -> F64:
    """Scalar products (n,) of the image with the profile at each place; nothing beyond edges."""
    ny, nx = image.shape
    reach = profile.shape[0] // 2
    out = np.zeros(places.shape[0])
    for n in range(places.shape[0]):
        j0, i0 = places[n, 0] - reach, places[n, 1] - reach
        total = 0.0
        for j in range(max(0, -j0), min(profile.shape[0], ny - j0)):
            for i in range(max(0, -i0), min(profile.shape[1], nx - i0)):
                total += profile[j, i] * image[j0 + j, i0 + i]
        out[n] = total
    return out


@njit(nogil=True, cache=True)
def spread(heights: F64, places: I64, profile: F64, image: F32) -> None:
    """Add the profile times its height at each place to the image."""
    ny, nx = image.shape
    reach = profile.shape[0] // 2
    lines = profile.astype(np.float32)
    for n in range(places.shape[0]):
        j0, i0 = places[n, 0] - reach, places[n, 1] - reach
        first, stop = max(0, -i0), min(profile.shape[1], nx - i0)
        for j in range(max(0, -j0), min(profile.shape[0], ny - j0)):
            row = image[j0 + j]
            add_line(lines[j, first:stop], np.float32(heights[n]), row[i0 + first : i0 + stop])
