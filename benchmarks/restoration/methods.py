"""Classical filters for the score table, each given its best parameter by the truth itself.

Each takes an image in electrons (y, x) and gives candidates; the score takes the one nearest to
the truth, so what is compared is the most that the method can do, not what a user would get.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float32]
Method = Callable[[Image], Iterator[Image]]


def anscombe(electrons: Image) -> Image:
    """Counts to values of about unit variance: 2 sqrt(n + 3/8) (Anscombe 1948)."""
    return np.float32(2.0) * np.sqrt(np.maximum(electrons, 0.0) + np.float32(0.375))


def unbiased_inverse(values: Image) -> Image:
    """Mean count of a mean Anscombe value (Makitalo and Foi 2011, closed form)."""
    d = np.maximum(values, 2.0 * np.sqrt(0.375)).astype(np.float64)
    root = np.sqrt(1.5)
    counts = d**2 / 4 + root / (4 * d) - 11 / (8 * d**2) + 5 * root / (8 * d**3) - 1 / 8
    inverse: Image = np.maximum(counts, 0.0).astype(np.float32)
    return inverse


def raw(image: Image) -> Iterator[Image]:
    """The image itself."""
    yield image


def gaussian(image: Image) -> Iterator[Image]:
    """Gaussian filters of every useful width."""
    for sigma in (0.5, 0.7, 1.0, 1.4, 1.9, 2.5, 3.3, 4.5, 6.0, 9.0):
        yield ndimage.gaussian_filter(image, sigma)


def wiener(image: Image) -> Iterator[Image]:
    """Wiener filter in Fourier space of the stabilised image; white noise, spectrum from itself.

    The power of the signal is the spectrum, averaged over a few frequencies, less the noise.
    """
    stable = anscombe(image)
    mean = float(stable.mean())
    spectrum = np.fft.fft2(stable - mean)
    power = np.abs(spectrum) ** 2 / stable.size
    for width in (0.0, 0.7, 1.5, 3.0):
        seen = ndimage.gaussian_filter(power, width, mode="wrap")
        for noise in (1.0, 1.5, 2.5, 4.0):
            gain = np.maximum(0.0, 1.0 - noise / np.maximum(seen, 1e-9))
            yield unbiased_inverse((np.fft.ifft2(spectrum * gain).real + mean).astype(np.float32))


def noise_deviation(stable: Image) -> float:
    """Deviation of a stabilised image's noise: from line to line, 1 at most.

    Where electrons are few, stabilising leaves less than 1, and filters told 1 see only noise.
    """
    between = float(np.diff(stable, axis=0).std()) / np.sqrt(2.0)
    return min(1.0, between)


def nonlocal_means(image: Image) -> Iterator[Image]:
    """Non-local means of the stabilised image."""
    from skimage.restoration import denoise_nl_means

    stable = anscombe(image)
    noise = noise_deviation(stable)
    for strength in (0.4, 0.6, 0.8, 1.1, 1.6):
        for known in (0.0, 0.9):
            filtered = denoise_nl_means(
                stable, patch_size=7, patch_distance=11, h=strength * noise, sigma=known * noise,
                fast_mode=True,
            )  # fmt: skip
            yield unbiased_inverse(filtered.astype(np.float32))


def bm3d(image: Image) -> Iterator[Image]:
    """BM3D of the stabilised image."""
    from bm3d import bm3d as filtered

    stable = anscombe(image)
    for strength in (1.0, 1.6):
        values = np.asarray(filtered(stable, strength * noise_deviation(stable)), np.float32)
        yield unbiased_inverse(values)


METHODS: dict[str, Method] = {
    "raw": raw,
    "gaussian": gaussian,
    "wiener": wiener,
    "non-local means": nonlocal_means,
    "BM3D": bm3d,
}
