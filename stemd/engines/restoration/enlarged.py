"""Images that were enlarged (interpolated) before they were stored, restored at their own size.

Interpolated noise is smooth: there is next to none at the finest frequencies, where noise is
learnt, so all of it would pass for the specimen's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.engines.restoration.estimate.noise import taper

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

LARGEST = 4
"""Times that an image was enlarged, along either axis."""
SMALLEST_PX = 64
"""Of the image at its own size."""
BANDS = 25
"""Of the larger of the two frequencies, from `SLOW` to half a cycle a pixel, equally wide."""
SLOW = 0.08
"""Cycles a pixel: below is what the image shows, mostly."""
FALLEN, EMPTY = 1.0, 2.5
"""Decades of power below the slowest bands: where what was interpolated ends, and nothing is."""
ROUNDED = 0.55
"""Interpolation along straight lines falls a little sooner than others."""
FLAT = 0.5
"""The same at 1.6 times `SLOW`: what falls sooner is the specimen's own smoothness."""
LOST = 0.3
"""Variance of what reducing takes from an image, over that of what restoration takes, at most."""


def times_enlarged(image: F32) -> int:
    """How many times larger a finite image (ny, nx) is than what was recorded; 1 of most."""
    if min(image.shape) < 2 * SMALLEST_PX:
        return 1
    frequency, power = _powers(image)
    below = power[:3].mean() - power
    usual = frequency > 1.4 * SLOW
    if below[usual & (frequency < 1.8 * SLOW)].mean() > FLAT or below.max() < EMPTY:
        return 1
    fallen = int(np.argmax(below > FALLEN))
    times = int(0.5 / float(frequency[fallen]) + ROUNDED)
    most = min(LARGEST, min(image.shape) // SMALLEST_PX)
    return min(times, most) if times > 1 else 1


def reduced(image: F32, times: int) -> F32:
    """The means of squares of `times` pixels of an image (ny, nx), repeated at its end."""
    missing = [(0, -size % times) for size in image.shape]
    padded = np.pad(image, missing, "edge") if any(n for _, n in missing) else image
    ny, nx = (size // times for size in padded.shape)
    squares = padded.reshape(ny, times, nx, times)
    means: F64 = squares.mean(axis=(1, 3), dtype=np.float64)
    return means.astype(np.float32)


def enlarged(image: F32, times: int, shape: tuple[int, ...]) -> F32:
    """The smooth image of this `shape` that is `image` (ny, nx) when it is `reduced`."""
    down, across = (_cosines(size, times) for size in image.shape)
    out = (down @ image @ across.T)[: shape[0], : shape[1]]
    return np.ascontiguousarray(out, np.float32)


def keeps_all(image: F32, restored: F32, times: int) -> bool:
    """Whether next to nothing of an image (ny, nx) but noise is lost where it is reduced.

    `restored`: from what it was reduced to, enlarged again.
    """
    lost = image - enlarged(reduced(image, times), times, image.shape)
    return float(lost.var()) < LOST * float((image - restored).var())


def _powers(image: F32) -> tuple[F64, F64]:
    """Frequencies (n,) and the logarithm (10) of the median power there."""
    ny, nx = image.shape
    centred: F64 = (image - image.mean(dtype=np.float64)) * taper((ny, nx)).astype(np.float64)
    power = np.square(np.abs(np.fft.rfft2(centred)))
    y, x = np.abs(np.fft.fftfreq(ny))[:, None], np.fft.rfftfreq(nx)[None]
    band = np.floor((np.maximum(y, x) - SLOW) / (0.5 - SLOW) * BANDS).astype(np.int64)
    medians = [np.median(power[band == n]) for n in range(BANDS)]
    frequency = SLOW + (np.arange(BANDS) + 0.5) * (0.5 - SLOW) / BANDS
    return frequency, np.log10(np.array(medians) + 1e-30)


def _cosines(size: int, times: int) -> F32:
    """The matrix (times size, size) that takes means of `times` pixels back to these.

    A sum of cosines, as of an image that goes on as in a mirror; a mean lowers each of them by a
    known factor.
    """
    number = np.arange(size)
    coarse = np.cos(np.pi * number[:, None] * (number[None] + 0.5) / size) * (2.0 / size)
    coarse[0] *= 0.5
    pixel = np.arange(size * times) + 0.5
    fine = np.cos(np.pi * number[None] * pixel[:, None] / (size * times))
    half = np.pi * number / (2.0 * size * times)
    mean = np.ones(size)
    mean[1:] = np.sin(times * half[1:]) / (times * np.sin(half[1:]))
    matrix: F64 = (fine / mean) @ coarse
    return matrix.astype(np.float32)
