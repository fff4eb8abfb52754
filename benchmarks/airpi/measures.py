"""How near a phase image is to the true phase."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from benchmarks.airpi.scan4d import Picture, Scan4D
from benchmarks.airpi.specimens import ATOM_SPACING

F64 = NDArray[np.float64]

COMMON_PIXEL = 0.1
"""Angstrom; the grid on which images of different sampling meet."""
MARGIN_RADII = 1.7
"""Of the probe (Airy radii), 1 angstrom at 300 kV and 20 mrad: the rim of the scan that is not
scored, where every method lacks neighbours."""
BANDS = ((0.0, 1.0), (1.0, 2.0), (2.0, 3.0), (3.0, 4.0))
"""Spatial frequencies in convergence semi-angles."""
ATOM_RADIUS = 0.5


def margin(scan: Scan4D) -> float:
    """What is left out of the score on every side of the scanned area, angstrom."""
    return max(MARGIN_RADII * scan.beam.airy_radius, scan.step)


def correlation(a: F64, b: F64) -> float:
    """Normalised cross-correlation of two images without their means (thesis eq. 4.14)."""
    a, b = a - a.mean(), b - b.mean()
    norm = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return float((a * b).sum()) / norm if norm > 0 else 0.0


def low_pass(image: F64, cutoff: float) -> F64:
    """Frequencies below `cutoff` (cycles a pixel) only; the image is mirrored at its edges."""
    size = [3 * n for n in image.shape]
    spectrum = np.fft.rfft2(np.pad(image, [(n, n) for n in image.shape], mode="symmetric"))
    k = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None, :])
    back = np.fft.irfft2(np.where(k < cutoff, spectrum, 0.0), size)
    return np.asarray(back[image.shape[0] : 2 * image.shape[0], image.shape[1] : -image.shape[1]])


def truth_at(scan: Scan4D, y: F64, x: F64, pixel: float) -> F64:
    """The true phase at y (n,) and x (m,) angstrom from the first position, for pixels so large.

    Band-limited to half a cycle of such a pixel, then read off by a cubic spline.
    """
    truth = low_pass(scan.truth.astype(np.float64), 0.5 * scan.truth_pixel / pixel)
    return _read(truth, (y + scan.truth_margin) / scan.truth_pixel,
                 (x + scan.truth_margin) / scan.truth_pixel)  # fmt: skip


class Ruler:
    """The truth at the pixels of `like` in the scored area, to hold images of its kind against.

    The truth is brought to the image's sampling, by the same rule for all methods: `truth_at`.
    """

    def __init__(self, like: Picture, scan: Scan4D) -> None:
        low, high = _area(scan)
        places, kept = [], []
        for axis in (0, 1):
            at = like.origin[axis] + like.pixel * np.arange(like.values.shape[axis])
            inside = (at >= low[axis] - 1e-9) & (at <= high[axis] + 1e-9)
            places.append(at[inside])
            kept.append(np.flatnonzero(inside))
        self._kept = np.ix_(*kept)
        self._truth = truth_at(scan, *places, like.pixel)

    def score(self, values: NDArray[np.floating]) -> float:
        """Correlation of an image (y, x) with the true phase."""
        return correlation(values[self._kept].astype(np.float64), self._truth)


def score(picture: Picture, scan: Scan4D) -> float:
    """Correlation with the true phase on the image's own pixels, see `Ruler`."""
    return Ruler(picture, scan).score(picture.values)


def common_score(picture: Picture, scan: Scan4D) -> float:
    """Correlation with the whole truth on pixels of 0.1 angstrom.

    The image is brought there by a cubic spline: what a coarse image lacks counts against it.
    """
    seen, truth = on_common(picture, scan)
    return correlation(seen, truth)


def on_common(picture: Picture, scan: Scan4D) -> tuple[F64, F64]:
    """Image and truth in the scored area on the common grid."""
    y, x = _common(scan)
    seen = _read(picture.values.astype(np.float64), *_pixels(picture, y, x))
    return seen, truth_at(scan, y, x, COMMON_PIXEL)


def read_on_common(picture: Picture, scan: Scan4D) -> F64:
    """A map that is nowhere below 0, such as an uncertainty, likewise: linear between pixels."""
    at = np.meshgrid(*_pixels(picture, *_common(scan)), indexing="ij")
    return np.asarray(ndimage.map_coordinates(
        picture.values.astype(np.float64), at, order=1, mode="nearest"))  # fmt: skip


def ring_correlations(picture: Picture, scan: Scan4D) -> list[float]:
    """Fourier correlation with the truth in each of `BANDS`, 1 where all is as it should be.

    sum Re(F T*) / sqrt(sum |F|^2 sum |T|^2) over rings a quarter of a semi-angle wide, averaged
    over the band with the truth's power as weight; a Hann window keeps the border out.
    """
    seen, truth = on_common(picture, scan)
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in seen.shape))
    a = np.fft.fft2((seen - seen.mean()) * window)
    b = np.fft.fft2((truth - truth.mean()) * window)
    k = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n, COMMON_PIXEL) for n in seen.shape),
                              indexing="ij"))  # fmt: skip
    ring = np.floor(k / scan.beam.aperture * 4).astype(int).ravel()
    cross = np.bincount(ring, (a * b.conj()).real.ravel())
    mine = np.bincount(ring, (np.abs(a) ** 2).ravel())
    theirs = np.bincount(ring, (np.abs(b) ** 2).ravel())
    rings = cross / np.sqrt(np.maximum(mine * theirs, 1e-300))
    return [
        float(np.average(rings[round(4 * low) : round(4 * high)],
                         weights=theirs[round(4 * low) : round(4 * high)]))
        for low, high in BANDS
    ]  # fmt: skip


def best_low_pass(picture: Picture, scan: Scan4D) -> Picture:
    """The image after that gaussian or sharp low-pass which brings it nearest to the truth.

    An oracle: the most that filtering can do, not what a user would get.
    """
    k = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in picture.values.shape), indexing="ij"))
    spectrum = np.fft.fft2(picture.values)
    ruler = Ruler(picture, scan)
    best, highest = picture.values, ruler.score(picture.values)
    for cutoff in np.geomspace(0.02, 0.5, 24):
        for passed in (np.exp(-0.5 * (k / cutoff) ** 2), k < cutoff):
            values = np.fft.ifft2(spectrum * passed).real
            if (reached := ruler.score(values)) > highest:
                best, highest = values, reached
    return Picture(best, picture.pixel, picture.origin)


def deviation(picture: Picture, scan: Scan4D) -> float:
    """Standard deviation in the scored area, in the image's unit."""
    return float(on_common(picture, scan)[0].std())


def atom_ranks(picture: Picture, scan: Scan4D) -> float:
    """Rank correlation (Spearman) of the single atoms' brightness with the true one's.

    Brightness: mean within 0.5 angstrom of the atom, less the median of the ring from 1.2 to
    1.9 angstrom around it. 1: the response is monotonic.
    """
    y, x = (np.arange(0.0, scan.step * (n - 1), COMMON_PIXEL) for n in scan.shape)
    seen = _read(picture.values.astype(np.float64), (y - picture.origin[0]) / picture.pixel,
                 (x - picture.origin[1]) / picture.pixel)  # fmt: skip
    truth = truth_at(scan, y, x, COMMON_PIXEL)
    middle = [scan.step * (n - 1) / 2 for n in scan.shape]
    bright = []
    for image in (seen, truth):
        for row in range(4):
            for column in range(4):
                r = np.hypot(
                    y[:, None] - middle[0] - (row - 1.5) * ATOM_SPACING,
                    x[None, :] - middle[1] - (column - 1.5) * ATOM_SPACING,
                )
                around = float(np.median(image[(r > 1.2) & (r < 1.9)]))
                bright.append(float(image[r < ATOM_RADIUS].mean()) - around)
    return float(stats.spearmanr(bright[:16], bright[16:]).statistic)


def _common(scan: Scan4D) -> tuple[F64, F64]:
    low, high = _area(scan)
    y, x = (np.arange(low[n], high[n] + 1e-9, COMMON_PIXEL) for n in (0, 1))
    return y, x


def _pixels(picture: Picture, y: F64, x: F64) -> tuple[F64, F64]:
    return (y - picture.origin[0]) / picture.pixel, (x - picture.origin[1]) / picture.pixel


def _area(scan: Scan4D) -> tuple[F64, F64]:
    rim = margin(scan)
    last = scan.step * (np.array(scan.shape) - 1.0)
    return np.full(2, rim), last - rim


def _read(image: F64, y: F64, x: F64) -> F64:
    """Cubic spline at pixel coordinates y (n,) and x (m,): (n, m)."""
    return np.asarray(ndimage.map_coordinates(image, np.meshgrid(y, x, indexing="ij"), order=3,
                                              mode="nearest"))  # fmt: skip
