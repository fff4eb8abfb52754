"""A stitched phase held to the centre of mass of the same patterns.

A network that was trained on many specimens says too little of slopes where it is not sure: at
low dose, of light atoms, of structure coarser than its patches. The centre of mass is the mean
slope under the probe whatever the specimen, <k> = (|psi_in|^2 * grad phi) / 2 pi for a thin one
(thesis eq. 3.2), but it is noisy where waves are fine. Both are compared where they speak of the
same: the image, blurred by the probe's intensity, and the integrated centre of mass, wave by wave
of the spatial frequency k, in rings of `RING` semi-angles.

What is missing is added by a Wiener filter. Noise is measured: the part of the centre of mass
that is not the slope of anything, its rotation, has as much noise as the other part and nothing
else. How wrong the image is follows from how much more than noise the two differ (`compromise`).

All constants were chosen on the scans of `benchmarks/airpi`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.beam import Beam
from stemd.engines.airpi.blurs import blurring
from stemd.engines.airpi.patch_offsets import image_of, mirrored
from stemd.engines.airpi.slopes import Frame, Slopes
from stemd.engines.splines import read_at, spline_response

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
C64 = NDArray[np.complex64]
C128 = NDArray[np.complex128]

RING = 0.25
"""Semi-angles."""
LEAST_BLUR = 0.15
"""Waves of which the probe leaves less are not compared."""
DOUBT = 0.1
"""Part of the image by which a centre of mass may differ from a thin specimen's."""
KNEES = (0.15, 0.25, 0.4, 0.6, 1.0, 1.6)
"""Semi-angles from which on the image's error may fall."""
ALIKE = (0.0, 0.05, 0.2, 0.6, 2.0, 6.0)
"""Parts of the image's own power that its error may have."""
PARTS = (0.1, 0.2, 0.4, 0.8, 1.5)
"""Of the strength that would explain all of the difference: no image is without error."""
ENOUGH = 1000
"""Waves of a ring that are looked at for it."""
STEADY = 8
"""Waves in a ring that noise is measured from are mixed with so many of all rings."""
TINY = 1e-150


class Rings:
    """Waves sorted by the amount of their frequency, `k` (ny, nx) in semi-angles."""

    def __init__(self, k: F64) -> None:
        self._of = np.floor(k / RING).astype(np.int64)
        self._flat = self._of.ravel()
        self.waves = np.bincount(self._flat).astype(np.float64)
        self.middle = RING * (np.arange(self.waves.size) + 0.5)

    def total(self, values: F64) -> F64:
        """Sums of values (ny, nx) over each ring."""
        return np.asarray(np.bincount(self._flat, values.ravel()), np.float64)

    def some(self, of: NDArray[np.bool_]) -> tuple[tuple[NDArray[np.int64], ...], F64]:
        """Indices of at most about `ENOUGH` waves of each ring, and for how many each stands."""
        y, x = np.nonzero(of)
        ring = self._of[y, x]
        order = np.argsort(ring, kind="stable")
        every = -(-np.bincount(ring) // ENOUGH)[ring[order]]
        # numbered within its ring
        number = np.arange(order.size) - np.searchsorted(ring[order], ring[order])
        kept = number % np.maximum(every, 1) == 0
        chosen = order[kept]
        return (y[chosen], x[chosen]), every[kept].astype(np.float64)

    def at(self, values: NDArray[np.floating]) -> F64:
        """A ring's value at each of its waves, (ny, nx)."""
        return np.asarray(values[self._of], np.float64)


def correction(
    spectrum: C64,
    shape: tuple[int, int],
    frame: Frame,
    slopes: Slopes,
    beam: Beam,
    lens: Aberrations | None = None,
) -> F32:
    """What must be added to an image (h, w) to agree with the slopes, float32 (h, w), radian.

    `spectrum`: the image's, as from `patch_offsets.restored_spectrum`; `lens`: of the probe that
    the slopes were seen through, else the beam's.
    """
    ny, nx = slopes.y.shape
    predicted = _at_positions(spectrum, shape, frame, slopes, beam, lens)
    image = waves_of(predicted)
    k = np.hypot(*frequencies(slopes))
    blur = blurring_of_mirrored(beam, slopes, lens)
    blur = np.where(blur > LEAST_BLUR, blur, 0.0)
    blur[0, 0] = 0.0  # the mean is no slope's
    rings = Rings(k / beam.aperture)
    measured, noise = integrated(slopes, rings)
    change = compromise(image, measured, noise, blur, rings)
    change = np.divide(change, blur, out=np.zeros_like(change), where=blur > 0)
    change /= spline_response(2 * ny, ny)[:, None] * spline_response(2 * nx, nx)[None, :]
    coefficients = image_of(_whole(change), (ny, nx))
    y, x = ((frame.first[n] + frame.pixel * np.arange(shape[n])) / slopes.step for n in (0, 1))
    return read_at(coefficients, y, x)


def compromise(image: C128, measured: C128, noise: F64, blur: F64, rings: Rings) -> C128:
    """What must be added to the waves of a blurred image, (ny, nx), given those that were
    measured with a noise of this power; 0 where `blur` is 0.

    The difference between both is taken for noise and the image's error, of a power that falls
    with the frequency as 1 / (1 + (k / knee)^2), through the blur, and one in proportion to the
    image's own. How much of each, and the knee, are averaged over all that may be, by how likely
    they make the difference.
    """
    left = measured - image
    strengths, alike = _expected(left, image, noise, blur, rings)
    k, power = rings.at(rings.middle), np.abs(image) ** 2
    error = alike * power
    for knee, strength in zip(KNEES, strengths, strict=True):
        error += strength * blur**2 / (1.0 + (k / knee) ** 2)
    gain = error / np.maximum(error + noise + DOUBT**2 * power, TINY)
    return np.where(blur > 0, gain * left, 0.0)


def _expected(
    left: C128, image: C128, noise: F64, blur: F64, rings: Rings
) -> tuple[list[float], float]:
    """Strength of the error with each of `KNEES`, and its part of the image's own power."""
    some, count = rings.some(blur > 0)
    power, own, quiet = np.abs(left[some]) ** 2, np.abs(image[some]) ** 2, noise[some]
    square, k = blur[some] ** 2, rings.at(rings.middle)[some]
    surprises, tried = [], []
    for knee in KNEES:
        course = square / (1.0 + (k / knee) ** 2)
        weight = count * course / quiet
        # what would explain all of the difference, where it stands out most
        whole = float((weight * power / quiet).sum()) / max(
            float((weight * course / quiet).sum()), TINY
        )
        for part in PARTS:
            for alike in ALIKE:
                variance = quiet + part * whole * course + alike * own
                surprises.append(float((count * (np.log(variance) + power / variance)).sum()))
                tried.append((part * whole, alike))
    # -2 ln of the likelihood of as many independent real numbers
    likely = np.exp(-0.5 * (np.array(surprises) - min(surprises)))
    mean = (likely / likely.sum())[:, None] * np.array(tried)
    return mean[:, 0].reshape(len(KNEES), -1).sum(axis=1).tolist(), float(mean[:, 1].sum())


def _at_positions(
    spectrum: C64,
    shape: tuple[int, int],
    frame: Frame,
    slopes: Slopes,
    beam: Beam,
    lens: Aberrations | None,
) -> F32:
    """The image, blurred by the probe, at the slopes' positions, without its mean."""
    h, w = shape
    ky = np.asarray(np.fft.fftfreq(2 * h, frame.pixel)[:, None], np.float64)
    kx = np.asarray(np.fft.rfftfreq(2 * w, frame.pixel)[None, :], np.float64)
    blurred = spectrum * blurring(beam, ky, kx, lens).astype(np.float32)
    blurred /= spline_response(2 * h, 2 * h)[:, None]
    blurred /= spline_response(2 * w, w + 1)[None, :]
    y, x = (
        (slopes.step * np.arange(slopes.y.shape[n]) - frame.first[n]) / frame.pixel for n in (0, 1)
    )
    values = read_at(image_of(blurred, shape), y, x)
    return np.asarray(values - values.mean(dtype=np.float64), np.float32)


def blurring_of_mirrored(beam: Beam, slopes: Slopes, lens: Aberrations | None = None) -> F64:
    """What the probe leaves of the waves of a mirrored scan, (ny, nx): the mean over both hands."""
    ky, kx = frequencies(slopes)
    return 0.5 * (blurring(beam, ky, kx, lens) + blurring(beam, ky, -kx, lens))


def frequencies(slopes: Slopes) -> tuple[F64, F64]:
    """Of the waves of a mirrored scan, cycles an angstrom, (ny, 1) and (1, nx)."""
    ny, nx = slopes.y.shape
    return (
        np.arange(ny)[:, None] / (2 * ny * slopes.step),
        np.arange(nx)[None, :] / (2 * nx * slopes.step),
    )


def integrated(slopes: Slopes, rings: Rings) -> tuple[C128, F64]:
    """Waves of the image whose slopes these are, (ny, nx), and the power of their noise."""
    ky, kx = frequencies(slopes)
    waves = []
    for axis, field in enumerate((slopes.y, slopes.x)):
        mean = field[slopes.known].mean(dtype=np.float64) if slopes.known.any() else 0.0
        level = np.where(slopes.known, field - mean, 0.0).astype(np.float32)
        waves.append(waves_of(level, axis))
    square = ky**2 + kx**2
    square[0, 0] = 1.0
    image = (ky * waves[0] + kx * waves[1]) / (2j * math.pi * square)
    rotation = np.abs(ky * waves[1] - kx * waves[0]) ** 2 / square
    image[0, 0] = rotation[0, 0] = 0.0
    # along the axes there is no rotation: what would be one is mirrored away
    waves_with = rings.total((rotation > 0).astype(np.float64))
    mean = rotation.sum() / max(1.0, waves_with.sum())
    power = (rings.total(rotation) + STEADY * mean) / (waves_with + STEADY)
    return image, np.maximum(rings.at(power) / (4.0 * math.pi**2 * square), TINY)


def waves_of(field: F32, odd_axis: int | None = None) -> C128:
    """Transform of a mirrored field (ny, nx), of which the rest follows: complex128 (ny, nx).

    Waves along an axis are divided by sqrt(2), so that noise is as strong in them as in others.
    """
    ny, nx = field.shape
    waves = np.fft.rfft2(mirrored(field, odd_axis))[:ny, :nx].astype(np.complex128)
    waves[0] *= math.sqrt(0.5)
    waves[:, 0] *= math.sqrt(0.5)
    return waves


def _whole(waves: C128) -> C64:
    """The transform (2 ny, nx + 1) of a mirrored image from its waves, `_waves`."""
    ny, nx = waves.shape
    whole = np.zeros((2 * ny, nx + 1), np.complex64)
    whole[:ny, :nx] = waves
    whole[0] *= math.sqrt(2.0)
    whole[:, 0] *= math.sqrt(2.0)
    # the mirror is half a pixel outside: opposite rows differ by the phase of one pixel
    turn = np.exp(-1j * math.pi * np.arange(1, ny) / ny)
    whole[ny + 1 :, :nx] = (whole[1:ny, :nx] * turn[:, None])[::-1]
    return whole
