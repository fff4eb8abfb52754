"""Images without atoms: what a microscope sees at low magnification, and plain geometry."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from training.restoration import kernels

Image = NDArray[np.float32]
Numbers = NDArray[np.float64]


@cache
def _frequencies(shape: tuple[int, int]) -> Image:
    """Length of the spatial frequency (ny, nx//2 + 1) in cycles a pixel."""
    fy = np.fft.fftfreq(shape[0])[:, None]
    fx = np.fft.rfftfreq(shape[1])[None]
    length: Image = np.hypot(fy, fx).astype(np.float32)
    return length


def smooth_noise(
    shape: tuple[int, int], slope: float, rng: np.random.Generator, finest: float = 0.0
) -> Image:
    """Gaussian noise (ny, nx) of mean 0, deviation 1, amplitude falling as frequency**-slope.

    `finest` in pixels is the gaussian width below which nothing is seen.
    """
    f = _frequencies(shape)
    white = np.fft.rfft2(rng.standard_normal(shape, np.float32))
    amplitude = np.maximum(f, 1.0 / (2 * max(shape))) ** np.float32(-slope)
    if finest > 0.0:
        amplitude = amplitude * np.exp(-2.0 * (np.pi * finest * f) ** 2)
    amplitude[0, 0] = 0.0
    noise = np.fft.irfft2(white * amplitude, s=shape).astype(np.float32)
    return noise / max(float(noise.std()), 1e-12)


def blurred(image: Image, sigma_px: float) -> Image:
    """Convolution with a gaussian of this standard deviation, by mirrored Fourier transform."""
    if sigma_px <= 0.0:
        return image
    pad = int(np.ceil(3.0 * sigma_px)) + 1
    pad = min(pad, min(image.shape) - 1)
    wide = np.pad(image, pad, mode="reflect")
    f = _frequencies(wide.shape)
    spectrum = np.fft.rfft2(wide) * np.exp(-2.0 * (np.pi * sigma_px * f) ** 2)
    out = np.fft.irfft2(spectrum, s=wide.shape)[pad:-pad, pad:-pad]
    return np.ascontiguousarray(out, np.float32)


def field_scene(shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """One image (ny, nx) of grains, particles, pores, fibres, layers, edges, on any scale."""
    image = _ground(shape, rng)
    for _ in range(int(rng.choice([1, 2, 3], p=[0.55, 0.3, 0.15]))):
        kind = rng.choice(len(_LAYERS), p=_CHANCES)
        image = _LAYERS[kind](image, rng)
    sharpness = rng.uniform(0.0, 2.0) if rng.random() < 0.7 else np.exp(rng.uniform(0.7, 2.3))
    return blurred(image, sharpness)


def flat_scene(shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """Nothing, or next to nothing, to see: an even or slowly varying field."""
    image = np.ones(shape, np.float32)
    if rng.random() < 0.5:
        image += np.float32(rng.uniform(0.0, 0.3)) * _gradient(shape, rng)
    return image


def _gradient(shape: tuple[int, int], rng: np.random.Generator) -> Image:
    angle = rng.uniform(0.0, 2.0 * np.pi)
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    along = (yy * np.cos(angle) + xx * np.sin(angle)) / max(shape)
    bend = rng.uniform(-1.0, 1.0) * (along - along.mean()) ** 2
    slope: Image = (along + bend).astype(np.float32)
    return slope


def _ground(shape: tuple[int, int], rng: np.random.Generator) -> Image:
    kind = rng.integers(3)
    if kind == 0:
        return np.zeros(shape, np.float32)
    if kind == 1:
        return _gradient(shape, rng)
    return smooth_noise(shape, rng.uniform(1.0, 4.0), rng) * np.float32(rng.uniform(0.05, 0.5))


def _polygon(rng: np.random.Generator, least: int = 3, most: int = 8) -> Numbers:
    """Directions and distances of the sides (k, 2) of a convex polygon of radius about 1."""
    k = int(rng.integers(least, most + 1))
    directions = (np.arange(k) + rng.uniform(-0.25, 0.25, k)) * 2.0 * np.pi / k
    return np.stack([directions, rng.uniform(0.6, 1.0, k)], axis=1)


def _shapes(image: Image, rng: np.random.Generator) -> Image:
    """Particles or pores: ellipses or polygons of one family, few large or many small."""
    size = min(image.shape) * np.exp(rng.uniform(np.log(0.015), np.log(0.4)))
    n = int(np.clip(rng.uniform(0.05, 0.9) * image.size / (4.0 * size**2), 1, 250))
    profile = int(rng.choice(5, p=[0.4, 0.25, 0.1, 0.15, 0.1]))
    polygons = rng.random() < 0.4
    opaque = rng.random() < 0.4
    sign = -1.0 if rng.random() < 0.35 else 1.0
    spread, edge = rng.uniform(0.0, 0.6), np.exp(rng.uniform(np.log(0.01), np.log(0.5)))
    for _ in range(n):
        radius = size * np.exp(rng.normal(0.0, spread))
        ratio = np.exp(rng.normal(0.0, 0.3)) if rng.random() < 0.7 else 1.0
        kernels.draw_shape(
            image,
            (rng.uniform(-0.1, 1.1) * image.shape[0], rng.uniform(-0.1, 1.1) * image.shape[1]),
            (radius * ratio, radius / ratio),
            rng.uniform(0.0, 2.0 * np.pi),
            _polygon(rng) if polygons else np.empty((0, 2)),
            max(edge, 0.7 / radius),
            profile,
            sign * rng.uniform(0.3, 1.0),
            opaque,
        )
    return image


def _dead_leaves(image: Image, rng: np.random.Generator) -> Image:
    """Shapes of all sizes covering each other, as natural scenes do."""
    smallest = rng.uniform(1.5, 8.0)
    largest = min(image.shape) * rng.uniform(0.2, 0.7)
    power = rng.uniform(1.0, 2.5)
    for _ in range(int(rng.integers(20, 200))):
        u = rng.random()
        radius = (smallest**-power + u * (largest**-power - smallest**-power)) ** (-1.0 / power)
        ratio = np.exp(rng.normal(0.0, 0.4))
        kernels.draw_shape(
            image,
            (rng.uniform(-0.1, 1.1) * image.shape[0], rng.uniform(-0.1, 1.1) * image.shape[1]),
            (radius * ratio, radius / ratio),
            rng.uniform(0.0, 2.0 * np.pi),
            _polygon(rng) if rng.random() < 0.5 else np.empty((0, 2)),
            0.7 / radius,
            0,
            rng.random(),
            True,
        )
    return image


def _cells(image: Image, rng: np.random.Generator) -> Image:
    """Grains: a Voronoi diagram, each cell with its level, slope or fringes, dark borders."""
    shape = (image.shape[0], image.shape[1])
    n = int(np.exp(rng.uniform(np.log(3), np.log(150))))
    y, x = rng.uniform(-0.1, 1.1, (2, n)) * np.array(shape)[:, None]
    weight = rng.uniform(0.0, 0.3, n) * min(shape) / np.sqrt(n)
    rough = np.float32(rng.uniform(0.0, 8.0) if rng.random() < 0.5 else 0.0)
    warp = [smooth_noise(shape, 2.5, rng) * rough for _ in "yx"]
    labels = kernels.nearest_seed(shape, y, x, weight, warp[0], warp[1])
    levels = rng.random(n)
    out = levels[labels]
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    if rng.random() < 0.4:
        slopes = rng.normal(0.0, 0.6, (2, n)) / (min(shape) / np.sqrt(n))
        out = out + slopes[0][labels] * (yy - y[labels]) + slopes[1][labels] * (xx - x[labels])
    if rng.random() < 0.35:
        period = np.exp(rng.uniform(np.log(2.5), np.log(25.0), n))
        angle = rng.uniform(0.0, np.pi, n)
        phase = (yy * np.cos(angle)[labels] + xx * np.sin(angle)[labels]) / period[labels]
        strong = rng.uniform(0.0, 0.5, n) * (rng.random(n) < 0.6)
        out = out + strong[labels] * np.cos(2.0 * np.pi * phase)
    if rng.random() < 0.25:
        border = np.zeros(shape, bool)
        border[:-1] |= labels[:-1] != labels[1:]
        border[:, :-1] |= labels[:, :-1] != labels[:, 1:]
        out = out + border * rng.uniform(-1.0, 1.0)
    return (image + out).astype(np.float32)


def _porous(image: Image, rng: np.random.Generator) -> Image:
    """Two or more phases: levels of smooth noise with walls of any steepness."""
    shape = (image.shape[0], image.shape[1])
    noise = smooth_noise(shape, rng.uniform(1.5, 4.0), rng, finest=rng.uniform(0.5, 4.0))
    steep = np.exp(rng.uniform(0.0, 3.5))
    out: Image = np.tanh(steep * (noise - np.float32(rng.normal(0.0, 0.7))))
    if rng.random() < 0.3:
        out = out + np.tanh(steep * (noise - np.float32(rng.normal(0.0, 0.7))))
    return image + np.float32(rng.uniform(0.2, 0.6)) * out


def _fibres(image: Image, rng: np.random.Generator) -> Image:
    """Curved lines: fibres, cracks, dislocation lines, writing."""
    n = int(rng.integers(1, 25))
    width = np.exp(rng.uniform(np.log(0.5), np.log(6.0)))
    sign = -1.0 if rng.random() < 0.4 else 1.0
    step = max(2.0, width)
    for _ in range(n):
        steps = int(rng.integers(5, 60))
        turn = np.cumsum(rng.normal(0.0, rng.uniform(0.0, 0.3), steps)) + rng.uniform(0, 2 * np.pi)
        y = rng.uniform(0, image.shape[0]) + np.cumsum(step * np.cos(turn))
        x = rng.uniform(0, image.shape[1]) + np.cumsum(step * np.sin(turn))
        kernels.draw_stroke(
            image, y, x, width * rng.uniform(0.6, 1.4), sign * rng.uniform(0.2, 1.0), False
        )
    return image


def _layers(image: Image, rng: np.random.Generator) -> Image:
    """A stack of films: bands of random widths and levels, straight or wavy."""
    shape = (image.shape[0], image.shape[1])
    angle = rng.uniform(0.0, 2.0 * np.pi) if rng.random() < 0.7 else rng.choice([0.0, np.pi / 2])
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    along = yy * np.cos(angle) + xx * np.sin(angle)
    along = along + smooth_noise(shape, 3.0, rng) * rng.uniform(0.0, 4.0)
    width = np.exp(rng.uniform(np.log(3.0), np.log(60.0)))
    borders = np.sort(rng.uniform(along.min(), along.max(), max(2, int(np.ptp(along) / width))))
    levels = rng.random(len(borders) + 1)
    bands: Image = levels[np.searchsorted(borders, along)].astype(np.float32)
    return image + bands


def _fringes(image: Image, rng: np.random.Generator) -> Image:
    """One to three waves, on the whole image or fading over part of it."""
    shape = (image.shape[0], image.shape[1])
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    period = np.exp(rng.uniform(np.log(2.6), np.log(30.0)))
    bend = smooth_noise(shape, 4.0, rng) * rng.uniform(0.0, 0.7)
    out = np.zeros(shape)
    for _ in range(int(rng.integers(1, 4))):
        angle = rng.uniform(0.0, np.pi)
        wave = (yy * np.cos(angle) + xx * np.sin(angle)) / (period * rng.uniform(0.8, 1.25))
        out += rng.uniform(0.3, 1.0) * np.cos(2.0 * np.pi * (wave + bend))
    if rng.random() < 0.5:
        out *= 1.0 / (1.0 + np.exp(-4.0 * smooth_noise(shape, 4.0, rng)))
    return (image + 0.5 * out).astype(np.float32)


def _texture(image: Image, rng: np.random.Generator) -> Image:
    """Rough matter: noise of any slope and grain, added or multiplied in."""
    shape = (image.shape[0], image.shape[1])
    noise = smooth_noise(shape, rng.uniform(0.0, 2.5), rng, finest=np.exp(rng.uniform(-0.5, 1.5)))
    if rng.random() < 0.5:
        return image + np.float32(rng.uniform(0.05, 0.5)) * noise
    factor: Image = np.exp(np.float32(rng.uniform(0.05, 0.4)) * noise)
    return image * factor


_LAYERS = (_shapes, _dead_leaves, _cells, _porous, _fibres, _layers, _fringes, _texture)
_CHANCES = (0.24, 0.13, 0.15, 0.1, 0.1, 0.08, 0.1, 0.1)
