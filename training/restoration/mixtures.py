"""Images in which several scales meet: blobs on a lattice, grains with slopes, branches, slabs.

Each function draws one image (ny, nx) on any scale of intensity. What `fields` draws has one kind
of thing at a time; in a micrograph small and large, sharp and blurred things overlap.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from training.restoration import kernels, structures
from training.restoration.fields import blurred, smooth_noise
from training.restoration.lattices import Grain

Image = NDArray[np.float32]
Shape = tuple[int, int]


def fine_lattice(shape: Shape, rng: np.random.Generator, period_px: float | None = None) -> Image:
    """A perfect lattice of 4 to 7 pixels that fills the field, nearly along the axes; 0 to 1."""
    period = rng.uniform(4.0, 7.0) if period_px is None else period_px
    if rng.random() < 0.6:
        ratio = float(rng.choice([1.0, np.sqrt(3.0), np.sqrt(2.0), rng.uniform(1.0, 1.8)]))
        cell = np.array([[period * ratio, 0.0], [0.0, period]])
        places, heights = np.zeros((1, 2)), np.ones(1)
        if rng.random() < 0.5:
            places = np.array([[0.0, 0.0], [0.5, 0.5]])
            heights = np.array([1.0, rng.choice([1.0, rng.uniform(0.1, 1.0)])])
        width = rng.uniform(0.18, 0.36) * period
    else:
        shelf = structures.library()
        motif = shelf[rng.integers(len(shelf))] if rng.random() < 0.5 else structures.invented(rng)
        cell = motif.cell * (rng.uniform(0.75, 1.2) * period / motif.spacing)
        places, heights = motif.fractions, motif.heights
        cell = cell @ _rotation(float(np.arctan2(cell[0, 0], cell[0, 1])))
        width = rng.uniform(0.18, 0.36) * period
    if rng.random() < 0.5:
        cell = cell[:, ::-1]
    cell = cell @ _rotation(rng.normal(0.0, 0.06))
    grain = Grain(np.ascontiguousarray(cell), places, heights, rng.random(2) * period)
    width = max(0.75, width)
    positions, strengths = grain.columns(shape, margin=4.0 * width + 2.0)
    image = np.zeros(shape, np.float32)
    widths = np.full(len(strengths), width)
    y, x = (np.ascontiguousarray(each) for each in positions.T)
    kernels.add_columns(image, y, x, strengths, widths, widths)
    return image / max(float(image.max()), 1e-6)


def blobs(shape: Shape, rng: np.random.Generator) -> Image:
    """Discs and ellipses, sharp and blurred, overlapping, over a lattice or a slow ground."""
    image = _ground(shape, rng)
    if rng.random() < 0.4:
        image = image + np.float32(rng.uniform(0.1, 0.7)) * fine_lattice(
            shape, rng, np.exp(rng.uniform(np.log(4.0), np.log(14.0)))
        )
    if rng.random() < 0.25:
        return image + _single_gaussians(shape, rng)
    soft = rng.choice(["sharp", "blurred", "each"])
    sign = rng.choice([1.0, -1.0, 0.0])
    size = np.exp(rng.uniform(np.log(4.0), np.log(0.16 * min(shape))))
    count = int(np.clip(rng.uniform(0.1, 1.5) * image.size / (4.0 * size**2), 3, 120))
    spread, opaque = rng.uniform(0.1, 0.8), rng.random() < 0.35
    layers = {False: image, True: np.zeros(shape, np.float32)}
    for _ in range(count):
        radius = float(np.clip(size * np.exp(rng.normal(0.0, spread)), 2.0, 0.4 * min(shape)))
        ratio = np.exp(rng.normal(0.0, 0.25)) if rng.random() < 0.7 else 1.0
        blur = 0.7 if soft == "sharp" else rng.uniform(2.0, 8.0)
        if soft == "each" and rng.random() < 0.5:
            blur = 0.7
        value = rng.uniform(0.15, 1.0) * (sign if sign else rng.choice([-1.0, 1.0]))
        kernels.draw_shape(
            layers[not opaque],
            (rng.uniform(-0.05, 1.05) * shape[0], rng.uniform(-0.05, 1.05) * shape[1]),
            (radius * ratio, radius / ratio),
            rng.uniform(0.0, np.pi),
            np.empty((0, 2)),
            blur / radius,
            int(rng.choice([0, 1, 3], p=[0.7, 0.15, 0.15])),
            value,
            opaque,
        )
    image = layers[False] + layers[True]
    return blurred(image, rng.uniform(2.0, 6.0)) if rng.random() < 0.15 else image


def grains(shape: Shape, rng: np.random.Generator) -> Image:
    """A Voronoi diagram: each grain with a level and a linear slope, lamellae in some."""
    count = int(np.exp(rng.uniform(np.log(4.0), np.log(80.0))))
    seeds = rng.uniform(-0.05, 1.05, (2, count)) * np.array(shape)[:, None]
    rough = np.float32(rng.uniform(1.0, 5.0) if rng.random() < 0.25 else 0.0)
    warp = [smooth_noise(shape, 2.5, rng) * rough for _ in "yx"]
    labels = kernels.nearest_seed(shape, seeds[0], seeds[1], np.zeros(count), warp[0], warp[1])
    y, x = np.mgrid[: shape[0], : shape[1]]
    dy, dx = y - seeds[0][labels], x - seeds[1][labels]
    size = np.sqrt(shape[0] * shape[1] / count)
    slopes = rng.normal(0.0, rng.uniform(0.05, 0.5), (2, count)) / size
    image = rng.random(count)[labels] + slopes[0][labels] * dy + slopes[1][labels] * dx
    striped = rng.random(count) < rng.choice([0.0, 0.3, 0.8])
    period = np.exp(rng.uniform(np.log(3.5), np.log(24.0), count))
    angle = rng.uniform(0.0, np.pi, count)
    wave = np.sin(
        2 * np.pi * (dy * np.cos(angle)[labels] + dx * np.sin(angle)[labels]) / period[labels]
    )
    if rng.random() < 0.5:
        wave = np.tanh(6.0 * wave)
    image = image + (striped * rng.uniform(0.1, 0.5, count))[labels] * wave
    return blurred(image.astype(np.float32), rng.choice([0.0, rng.uniform(0.3, 1.2)]))


def branches(shape: Shape, rng: np.random.Generator) -> Image:
    """Branching fibres or cracks of one or two pixels on smooth ground."""
    image = _ground(shape, rng)
    width = rng.uniform(0.5, 1.2)
    sign = float(rng.choice([-1.0, 1.0]))
    wander = rng.uniform(0.05, 0.35)
    fork = rng.uniform(0.01, 0.06)
    ends = [
        (rng.random() * shape[0], rng.random() * shape[1], rng.uniform(0.0, 2 * np.pi), 1.0)
        for _ in range(int(rng.integers(1, 8)))
    ]
    drawn = 0
    while ends and drawn < 60:
        y, x, heading, strength = ends.pop()
        drawn += 1
        steps = int(rng.integers(15, 90))
        headings = heading + np.cumsum(rng.normal(0.0, wander, steps))
        ys = y + np.cumsum(3.0 * np.sin(headings))
        xs = x + np.cumsum(3.0 * np.cos(headings))
        value = 0.8 * sign * strength
        kernels.draw_stroke(image, ys, xs, width * strength**0.3, value, False)
        for n in np.flatnonzero(rng.random(steps) < fork):
            side = headings[n] + rng.choice([-1.0, 1.0]) * rng.uniform(0.3, 1.1)
            ends.append((float(ys[n]), float(xs[n]), float(side), 0.8 * strength))
    return image


def slabs(shape: Shape, rng: np.random.Generator) -> Image:
    """Parallel dark lines across the field, or slabs with fine fringes in them."""
    image = _ground(shape, rng)
    y, x = np.mgrid[: shape[0], : shape[1]]
    angle = rng.uniform(0.0, np.pi)
    along = y * np.cos(angle) + x * np.sin(angle)
    across = x * np.cos(angle) - y * np.sin(angle)
    low, high = float(along.min()), float(along.max())
    if rng.random() < 0.5:
        half = rng.uniform(0.6, 5.0)
        for place in rng.uniform(low, high, int(rng.integers(2, 12))):
            far = np.abs(along - place) - half
            edge = np.clip(0.5 - far / rng.choice([1.0, 3.0]), 0.0, 1.0)
            image = image - np.float32(rng.uniform(0.2, 1.0)) * edge.astype(np.float32)
        return image
    for _ in range(int(rng.integers(1, 5))):
        place, half = rng.uniform(low, high), np.exp(rng.uniform(np.log(6.0), np.log(50.0)))
        tilt = rng.choice([0.0, np.pi / 2, rng.uniform(0.0, np.pi)])
        period = rng.uniform(3.6, 12.0)
        wave = np.cos(2 * np.pi * (along * np.cos(tilt) + across * np.sin(tilt)) / period)
        inside = np.abs(along - place) < half
        slab = rng.uniform(-0.8, 0.8) + rng.uniform(0.1, 0.5) * wave
        image = np.where(inside, slab, image).astype(np.float32)
    return image


def texture(shape: Shape, rng: np.random.Generator) -> Image:
    """Smooth random matter of any correlation length, its contrast growing along a slope."""
    length = np.exp(rng.uniform(np.log(2.0), np.log(40.0)))
    image = smooth_noise(shape, 0.0, rng, finest=0.5 * length)
    if rng.random() < 0.3:
        finer = smooth_noise(shape, 0.0, rng, finest=0.5 * rng.uniform(2.0, max(3.0, length)))
        image = image + np.float32(rng.uniform(0.1, 0.8)) * finer
    if rng.random() < 0.25:
        image = np.tanh(np.float32(rng.uniform(1.0, 4.0)) * image)
    if rng.random() < 0.6:
        rise = _slope(shape, rng)
        image = image * rise ** np.float32(rng.uniform(0.5, 2.0))
        image = image + np.float32(rng.uniform(-1.0, 3.0)) * rise
    return image


SCENES: dict[str, Callable[[Shape, np.random.Generator], Image]] = {
    "fine": fine_lattice,
    "blobs": blobs,
    "grains": grains,
    "branches": branches,
    "slabs": slabs,
    "texture": texture,
}


def _rotation(angle: float) -> NDArray[np.float64]:
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _slope(shape: Shape, rng: np.random.Generator) -> Image:
    """A plane from 0 to 1 across the field, at any angle."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    angle = rng.uniform(0.0, 2 * np.pi)
    plane = np.cos(angle) * y + np.sin(angle) * x
    rise: Image = ((plane - plane.min()) / np.ptp(plane)).astype(np.float32)
    return rise


def _ground(shape: Shape, rng: np.random.Generator) -> Image:
    """Even, a slope of a factor 2 to 5, or slow hills, or both."""
    image = np.full(shape, 0.3, np.float32)
    if rng.random() < 0.5:
        image = image * (1.0 + np.float32(rng.uniform(1.0, 4.0)) * _slope(shape, rng))
    if rng.random() < 0.4:
        length = np.exp(rng.uniform(np.log(10.0), np.log(60.0)))
        hills = smooth_noise(shape, 0.0, rng, finest=length)
        image = image + np.float32(rng.uniform(0.03, 0.3)) * hills
    return image


def _single_gaussians(shape: Shape, rng: np.random.Generator) -> Image:
    image = np.zeros(shape, np.float32)
    for _ in range(int(rng.integers(1, 5))):
        sigma = rng.uniform(10.0, 40.0) * np.exp(rng.normal(0.0, 0.2, 2))
        kernels.draw_shape(
            image,
            (rng.random() * shape[0], rng.random() * shape[1]),
            (2.0 * sigma[0], 2.0 * sigma[1]),
            rng.uniform(0.0, np.pi),
            np.empty((0, 2)),
            0.1,
            3,
            float(rng.choice([-1.0, 1.0]) * rng.uniform(0.3, 1.5)),
            False,
        )
    return image
