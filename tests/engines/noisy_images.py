"""Images of known truth for the tests of what is estimated of them."""

from __future__ import annotations

from typing import Any

import numpy as np

Image = np.ndarray[Any, np.dtype[np.float32]]


def crystal(shape: tuple[int, int], sigma: float = 2.2) -> Image:
    """Two sets of columns on an oblique lattice, the period no whole number of pixels."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.zeros(shape)
    for n in range(-4, 30):
        for m in range(-20, 30):
            for dy, dx, height in ((0.0, 0.0, 1.0), (0.5, 0.4, 0.5)):
                py, px = 11.3 * (n + dy) + 1.7 * (m + dx), -3.1 * (n + dy) + 12.6 * (m + dx)
                if -9 < py < shape[0] + 9 and -9 < px < shape[1] + 9:
                    image += height * np.exp(-((y - py) ** 2 + (x - px) ** 2) / (2 * sigma**2))
    return image.astype(np.float32)


def noise(shape: tuple[int, int], sigma: float, seed: int = 0) -> Image:
    return np.random.default_rng(seed).normal(0.0, sigma, shape).astype(np.float32)


def rms(values: Any) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
