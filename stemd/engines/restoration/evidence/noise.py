"""A recorded image with white noise, and how large the noise of each pixel is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit
from stemd.engines.restoration.estimate.lines import variance_over_brightness
from stemd.engines.restoration.estimate.noise import spectrum, taper
from stemd.engines.restoration.evidence.everywhere import electron_of
from stemd.engines.restoration.evidence.outliers import LOOKS, outliers
from stemd.engines.restoration.robust_scale import normalise

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

EVEN = 0.6
"""Lowest power of the noise along the lines, as a part of its highest, that passes for white."""
WORTH = 0.03
"""Power, as a part of the highest, that is not made more of: a box has none at some frequencies,
and of what is there nothing can be known."""
TOLD = 0.03
"""Deviation of the pixels' variance, as a part of its mean, from which on it tells an electron."""
LEFT_PX = 0.5
"""Displacement that may be left in lines that were put back: what is no more than it leaves of an
image is not taken for noise."""
RINGS = 8.0
"""Deviations of the noise by which an image may reach beyond the recorded one at both ends."""
SMALLEST_LINE_PX = 32
LEAST = 1e-4
"""Deviation of the noise, as a part of the image's, below which there is none."""
BINS = 48


def without_tail(image: F32, shown: F32, rest: F32) -> F32:
    """The image (ny, nx) with the pulses' tails along its lines undone, if it has any.

    `rest`: what the image, its lines put back, has beside what is `shown`. Where that is little,
    it is what displacements have left, and no noise.
    Where `slow_detector` was sure it has undone them, and nothing is left. Here it is noise that
    must become white, were it only that of an image that was interpolated.

    A detector that is slower than the dwell time smears an electron's pulse over later pixels of
    its line (thesis 2.17, 2.18), after the electron has been counted: so the noise's spectrum
    along the line is that of the tail. Of the tails of one spectrum the one that comes soonest
    (of minimum phase; an exponential is one) is undone exactly, and noise becomes white.
    """
    ny, nx = image.shape
    if nx < SMALLEST_LINE_PX or ny < SMALLEST_LINE_PX:
        return image
    rest = rest - np.float32(rest.mean(dtype=np.float64))
    if float(rest.var()) < LEFT_PX**2 * float(np.gradient(shown, axis=1).var()):
        return image
    window = taper(image.shape)
    scale = 1.0 / float(np.square(window, dtype=np.float64).sum())
    power = spectrum(rest * window, scale)[1].power
    # the slowest frequencies along x are also those of the image's own slow changes
    power = np.maximum(power, 1e-3 * power.max())
    low, high = np.median(power[2 : max(3, nx // 16)]), np.median(power[-(nx // 8) :])
    if high > EVEN * low:
        return image
    width = 2 * nx
    axis = np.abs(np.fft.fftfreq(width))
    log = 0.5 * np.log(np.interp(axis, np.linspace(0.0, 0.5, power.size), _falling(power)))
    cepstrum = np.fft.ifft(log).real
    cepstrum[1:nx] *= 2.0
    cepstrum[nx + 1 :] = 0.0
    transfer = np.exp(np.fft.fft(cepstrum))
    transfer /= transfer[0].real
    # before its first pixel a line goes on as in a mirror
    lines = np.concatenate([image[:, ::-1], image], axis=1)
    undone = np.fft.irfft(np.fft.rfft(lines, axis=1) / transfer[: nx + 1], width, axis=1)
    found = np.ascontiguousarray(undone[:, nx:], np.float32)
    beyond = float(image.min() - found.min()), float(found.max() - image.max())
    # sharp edges that are not quite as shown look like a tail's noise, and ring when it is undone
    return image if min(beyond) > RINGS * float(np.sqrt(low)) else found


def _falling(power: F64) -> F64:
    """The power made to fall from frequency to frequency, as that of a tail does: smooth.

    Nowhere less than is `WORTH` undoing.
    """
    width = max(3, len(power) // 24) | 1
    padded = np.pad(np.log(power), width // 2, "reflect")
    smooth = np.exp(np.convolve(padded, np.full(width, 1.0 / width), "valid"))
    falling: F64 = np.minimum.accumulate(smooth)
    bounded: F64 = np.maximum(falling, WORTH * falling[0])
    return bounded


def without_outliers(image: F32, shown: F32) -> F32:
    """The image (ny, nx) without what is no evidence: its `outliers` are what is `shown` there."""
    # the noise is looked for with spikes cut down: whole, they would be most of it
    seen = normalise(image)
    cut = seen.undone(seen.values)
    for _ in range(LOOKS):
        variance = pixel_variance(cut, shown)
        electron = _electron(cut, shown, variance)
        if electron < 0.0:
            found = outliers(-image, -shown, variance, -electron)
        else:
            found = outliers(image, shown, variance, electron)
        before = cut
        cut = np.where(found, shown, cut)
        if np.array_equal(before, cut):
            break
    return cut


def _electron(image: F32, shown: F32, variance: F32) -> float:
    """Value of one electron, as it is seen in single pixels; below 0 in inverted contrast.

    By how noise grows with brightness, or, where next to all is equally bright, by how much further
    it reaches up than down: of counts the third moment is the second one times an electron.
    """
    mean = float(variance.mean(dtype=np.float64))
    if float(variance.std(dtype=np.float64)) > TOLD * mean:
        return electron_of(variance, shown)
    rest = (image - shown).astype(np.float64)
    return float(np.mean(rest**3)) / max(float(np.mean(rest**2)), 1e-30)


def pixel_variance(image: F32, shown: F32, *, counted: bool = False) -> F32:
    """Variance (ny, nx) of the noise of each pixel of `image`, of which `shown` is the signal.

    A line through the squares of what is left, over brightness: counting gives its slope,
    electronics its offset. What is left is taken in differences of pixels (1, -2, 1 along both
    axes, of white noise 36 times the variance), so that columns that are not as they are shown do
    not count as noise. Never below a hundredth of the mean. `counted`: the line is no steeper than
    if there were no noise at the darkest value that was recorded, or, where contrast is inverted,
    at the brightest. In a texture a bright place is
    shown bright by its own noise, and that alone makes a steep line.
    """
    low, high = float(shown.min()), float(shown.max())
    count, bright, square = np.zeros(BINS), np.zeros(BINS), np.zeros(BINS)
    _squares(image, shown, low, max(high - low, 1e-30), count, bright, square)
    total = float(count.sum())
    # an image without noise has that of rounding
    least = LEAST**2 * float(shown.var(dtype=np.float64)) + 1e-20
    mean = max(float(square.sum()) / max(total, 1.0), least)
    ends = (float(image.min()), float(image.max())) if counted else (-np.inf, np.inf)
    return variance_over_brightness(count, bright, square, shown, mean, total, 0.01, *ends)


@njit(nogil=True, cache=True)
def _squares(
    image: F32, shown: F32, low: float, range_: float, count: F64, bright: F64, square: F64
) -> None:
    """Sums of n, of brightness and of squared second differences / 36 by bins of brightness."""
    bins = count.size
    scale = bins / range_
    ny, nx = image.shape
    for j in range(1, ny - 1):
        for i in range(1, nx - 1):
            total = 0.0
            mean = 0.0
            for dj in range(-1, 2):
                for di in range(-1, 2):
                    weight = (1.0 if dj else -2.0) * (1.0 if di else -2.0)
                    value = float(shown[j + dj, i + di])
                    total += weight * (image[j + dj, i + di] - value)
                    # the variance of the difference is that of its pixels by their weights
                    mean += weight * weight / 36.0 * value
            k = min(bins - 1, max(0, int((mean - low) * scale)))
            count[k] += 1.0
            bright[k] += mean
            square[k] += total * total / 36.0
