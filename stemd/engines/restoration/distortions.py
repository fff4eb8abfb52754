"""What a scan does to an image: the forward model of restoration, in the order it happens.

Scan noise moves the lines, electrons arrive one by one, the detector chain turns each into a
pulse that outlasts its pixel, electronics add noise, hot pixels, X-rays and a ceiling. Used to
train and to test restoration, and by the virtual microscope.

Source: T. Friedrich, PhD thesis, University of Antwerp 2023, chapter 2 (equation numbers below);
I. Lobato, T. Friedrich, S. Van Aert, arXiv 2303.17025. Images are (y, x) with x the fast scan
axis, in detected electrons a pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stemd.engines.kernels.scan_distortions import ar1_recursion, displace, smear
from stemd.errors import UsageError

Image = NDArray[np.float32]
Series = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Jitter:
    """Displacement of whole scan lines, one AR(1) series for each axis (2.14, 2.15).

    `sigma_y_px` and `sigma_x_px` are the standard deviations of the displacement itself in
    pixels (not of the series' innovation), `phi` in [0, 1) its correlation from line to line.
    `cubic` interpolates with less smoothing than the linear interpolation of the source.
    """

    sigma_y_px: float = 0.25
    sigma_x_px: float = 0.5
    phi: float = 0.5
    cubic: bool = False

    def __post_init__(self) -> None:
        _demand("phi", self.phi, 0.0 <= self.phi < 1.0, "0 <= phi < 1")
        _demand("sigma_y_px", self.sigma_y_px, 0.0 <= self.sigma_y_px < math.inf, ">= 0")
        _demand("sigma_x_px", self.sigma_x_px, 0.0 <= self.sigma_x_px < math.inf, ">= 0")


@dataclass(frozen=True, slots=True)
class Tail:
    """What a pulse leaves in later pixels of its line; see `tail_kernel` for the shapes."""

    shape: Literal["exponential", "half_lorentzian", "box"] = "exponential"
    length_px: float = 1.0

    def __post_init__(self) -> None:
        _demand("length_px", self.length_px, 0.0 < self.length_px < math.inf, "> 0")


@dataclass(frozen=True, slots=True)
class DetectorChain:
    """Scintillator, photomultiplier and digitiser, in units of one electron's mean pulse.

    `gain_spread` is the relative standard deviation of one electron's pulse (2.11, 2.13),
    `readout` the standard deviation of the electronics' noise a pixel, `line_noise` that of an
    offset common to a whole line. Values end at `saturation` and, if `clip_black`, at 0.
    `step` is the digitiser's step (0: not digitised).
    """

    gain_spread: float = 0.3
    readout: float = 0.0
    line_noise: float = 0.0
    saturation: float = math.inf
    clip_black: bool = False
    step: float = 0.0

    def __post_init__(self) -> None:
        for key in ("gain_spread", "readout", "line_noise", "step"):
            value = getattr(self, key)
            _demand(key, value, 0.0 <= value < math.inf, ">= 0")
        _demand("saturation", self.saturation, self.saturation > 0.0, "> 0")


@dataclass(frozen=True, slots=True)
class Spikes:
    """Pixels that did not measure the specimen.

    A fraction `hot` of the pixels reads `hot_value`, a fraction `dead` reads 0; to a fraction
    `xrays` a pulse of exponentially distributed height with mean `xray_value` is added.
    """

    hot: float = 0.0
    hot_value: float = 0.0
    dead: float = 0.0
    xrays: float = 0.0
    xray_value: float = 0.0

    def __post_init__(self) -> None:
        for key in ("hot", "dead", "xrays"):
            value = getattr(self, key)
            _demand(key, value, 0.0 <= value <= 1.0, "a fraction, 0 to 1")


@dataclass(frozen=True, slots=True)
class Distortions:
    """Everything that `distort` does. None leaves that step out; `shot_noise` is Poisson (2.12)."""

    jitter: Jitter | None = None
    shot_noise: bool = True
    tail: Tail | None = None
    detector: DetectorChain = field(default_factory=DetectorChain)
    spikes: Spikes | None = None


def distort(electrons: Image, what: Distortions, rng: np.random.Generator) -> Image:
    """The image as it would have been recorded.

    `electrons` is (ny, nx) float32: the mean number of electrons that reach the detector in
    each pixel, that is dose in e/A^2 times the pixel's area in A^2 times the detected fraction.
    The result is (ny, nx) float32 in the same unit (one electron's mean pulse is 1). Without
    clipping and spikes its expectation is `electrons`, displaced and smeared along x.
    The same generator state gives the same image. Raises UsageError for negative or non-finite
    `electrons` when there is shot noise.
    """
    image = np.ascontiguousarray(electrons, np.float32)
    if image.ndim != 2:
        raise UsageError(f"an image has two axes (y, x), this array has {image.ndim}")
    if what.jitter is not None:
        dy = ar1(image.shape[0], what.jitter.phi, what.jitter.sigma_y_px, rng)
        dx = ar1(image.shape[0], what.jitter.phi, what.jitter.sigma_x_px, rng)
        image = displace_lines(image, dy, dx, cubic=what.jitter.cubic)
    if what.shot_noise:
        if not (np.isfinite(electrons).all() and electrons.min(initial=0.0) >= 0.0):
            raise UsageError("numbers of electrons must be finite and not negative")
        # cubic interpolation can undershoot a little beside steep edges
        counts = rng.poisson(np.maximum(image, 0.0)).astype(np.float32)
        spread = np.float32(what.detector.gain_spread) * np.sqrt(counts)
        image = counts + spread * rng.standard_normal(image.shape, np.float32)
    if what.tail is not None:
        image = smear_lines(image, tail_kernel(what.tail))
    image = _electronics(image, what.detector, rng)
    if what.spikes is not None:
        image = _with_spikes(image, what.spikes, rng)
    return _digitised(image, what.detector)


def ar1(n: int, phi: float, sigma: float, rng: np.random.Generator) -> Series:
    """Stationary AR(1) series of n values: s[j] = phi s[j-1] + e[j] (2.14), std of s = sigma."""
    innovations = rng.standard_normal(n) * (sigma * math.sqrt(1.0 - phi * phi))
    if n:
        # started in its stationary state, so that the first lines are no quieter than the rest
        innovations[0] = sigma * rng.standard_normal()
    series: Series = ar1_recursion(innovations, phi)
    return series


def displace_lines(image: Image, dy_px: Series, dx_px: Series, *, cubic: bool = False) -> Image:
    """out[j, i] = image(j + dy_px[j], i + dx_px[j]): every line read elsewhere (2.15).

    Between pixels the image is interpolated linearly (2.15), or with `cubic` by Catmull-Rom,
    which smooths less; beyond the edges it continues with its edge value. Shifts are in pixels,
    one a line. Cost: 4 (cubic: 16) multiplications a pixel.
    """
    ny = image.shape[0]
    if dy_px.shape != (ny,) or dx_px.shape != (ny,):
        raise UsageError(f"one shift a line is needed: {ny}, got {dy_px.shape} and {dx_px.shape}")
    out = np.empty_like(image)
    displace(image, dy_px, dx_px, cubic, out)
    return out


def tail_kernel(tail: Tail) -> NDArray[np.float32]:
    """Weights of pixel i, i+1, i+2 ... of a line for a pulse in pixel i; their sum is 1.

    With l = `length_px` and x in pixels: `exponential` exp(-x/l) (2.17); `half_lorentzian`
    l / (4 pi^2 x^2 + l^2) (2.18), cut at 64 pixels; `box` l pixels of equal weight, the last
    one in part: electronics that average over a fixed time.
    """
    length = tail.length_px
    if tail.shape == "exponential":
        n = min(256, max(2, math.ceil(8.0 * length) + 1))
        weights = np.exp(-np.arange(n) / length)
    elif tail.shape == "half_lorentzian":
        weights = length / (4.0 * math.pi**2 * np.arange(64.0) ** 2 + length**2)
    else:
        weights = np.clip(length - np.arange(math.ceil(length)), 0.0, 1.0)
    kernel: NDArray[np.float32] = (weights / weights.sum()).astype(np.float32)
    return kernel


def smear_lines(image: Image, kernel: NDArray[np.float32]) -> Image:
    """out[j, i] = sum over m of kernel[m] image[j, i - m].

    Before its first pixel a line continues with the mean of its first pixels (as many as the
    kernel has), so that the left edge is as bright as the rest. Cost: kernel.size a pixel.
    """
    out = np.empty_like(image)
    smear(image, kernel, out)
    return out


def _demand(key: str, value: float, holds: bool, allowed: str) -> None:
    if not holds:
        raise UsageError(f"{key} = {value} is not possible", f"allowed: {allowed}")


def _electronics(image: Image, detector: DetectorChain, rng: np.random.Generator) -> Image:
    if detector.readout > 0.0:
        noise = rng.standard_normal(image.shape, np.float32)
        image = image + np.float32(detector.readout) * noise
    if detector.line_noise > 0.0:
        offsets = rng.standard_normal((image.shape[0], 1), np.float32)
        image = image + np.float32(detector.line_noise) * offsets
    return image


def _with_spikes(image: Image, spikes: Spikes, rng: np.random.Generator) -> Image:
    image = image.copy()
    pixels = image.reshape(-1)
    for fraction, value in ((spikes.hot, spikes.hot_value), (spikes.dead, 0.0)):
        hit = rng.integers(0, pixels.size, rng.binomial(pixels.size, fraction))
        pixels[hit] = value
    hit = rng.integers(0, pixels.size, rng.binomial(pixels.size, spikes.xrays))
    pixels[hit] += rng.exponential(spikes.xray_value, hit.size).astype(np.float32)
    return image


def _digitised(image: Image, detector: DetectorChain) -> Image:
    lower = 0.0 if detector.clip_black else -math.inf
    image = np.clip(image, np.float32(lower), np.float32(detector.saturation))
    if detector.step > 0.0:
        step = np.float32(detector.step)
        image = np.round(image / step) * step
    return image
