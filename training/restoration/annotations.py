"""Parts of an image that no detector wrote: masks, frames, boxes of text, rings, markers.

They are painted after the scan: flat, without noise, not displaced with the lines, sharp at their
edge, and the same in the recorded image and in the truth.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from training.restoration import kernels

Image = NDArray[np.float32]
Shape = tuple[int, int]
Mark = tuple[Image, float]
"""What a mark covers (ny, nx), 0 to 1, and where in the range of values it is, 0 to 1."""


def annotate(noisy: Image, wanted: Image, rng: np.random.Generator) -> None:
    """Paint one to four marks of any kinds over both images (ny, nx) in place."""
    shape = (wanted.shape[0], wanted.shape[1])
    low, high = float(wanted.min()), float(wanted.max())
    for _ in range(int(rng.choice([1, 2, 3, 4], p=[0.5, 0.25, 0.15, 0.1]))):
        kind = int(rng.choice(len(KINDS), p=_CHANCES))
        for cover, level in KINDS[kind](shape, rng):
            value = np.float32(low + level * (high - low))
            noisy += cover * (value - noisy)
            wanted += cover * (value - wanted)


def half_plane(shape: Shape, rng: np.random.Generator) -> list[Mark]:
    """All beyond a straight, or bent, edge at any angle."""
    y, x = _grid(shape)
    angle = rng.choice([rng.uniform(0.0, 2.0 * np.pi), rng.integers(4) * np.pi / 2], p=[0.8, 0.2])
    along, across = _turned(y - shape[0] / 2, x - shape[1] / 2, float(angle))
    bend = rng.choice([0.0, rng.normal(0.0, 1.5) / max(shape)], p=[0.5, 0.5])
    edge = rng.uniform(0.05, 0.45) * min(shape)
    return [(_hard(along + bend * across**2 > edge), _level(rng))]


def polygon(shape: Shape, rng: np.random.Generator) -> list[Mark]:
    """A filled convex polygon or ellipse, or all outside of it."""
    cover = np.zeros(shape, np.float32)
    sides = int(rng.integers(3, 9))
    corners = np.empty((0, 2))
    if rng.random() < 0.75:
        turns = np.arange(sides) + rng.uniform(-0.25, 0.25, sides)
        corners = np.stack([turns * 2.0 * np.pi / sides, rng.uniform(0.5, 1.0, sides)], axis=1)
    outside = rng.random() < 0.35
    size = rng.uniform(0.3, 0.7, 2) if outside else rng.uniform(0.05, 0.4, 2)
    place = rng.uniform(0.35, 0.65, 2) if outside else rng.uniform(-0.05, 1.05, 2)
    kernels.draw_shape(
        cover,
        (place[0] * shape[0], place[1] * shape[1]),
        (size[0] * min(shape), size[1] * min(shape)),
        rng.uniform(0.0, 2.0 * np.pi),
        corners,
        0.01,
        0,
        1.0,
        True,
    )
    return [(_hard((cover < 0.5) == outside), _level(rng))]


def frame(shape: Shape, rng: np.random.Generator) -> list[Mark]:
    """All outside of a rectangle at any angle: a field that was turned or moved afterwards."""
    y, x = _grid(shape)
    middle = rng.uniform(0.42, 0.58, 2) * np.array(shape)
    angle = rng.choice([0.0, rng.normal(0.0, 0.1), rng.uniform(0.0, np.pi)], p=[0.25, 0.35, 0.4])
    v, u = _turned(y - middle[0], x - middle[1], float(angle))
    half = rng.uniform(0.3, 0.5, 2) * np.array(shape)
    return [(_hard((np.abs(v) > half[0]) | (np.abs(u) > half[1])), _level(rng))]


def text(shape: Shape, rng: np.random.Generator) -> list[Mark]:
    """Letters, in a box or without one, level, on end or at any angle."""
    height = rng.uniform(7.0, 0.14 * min(shape) + 8.0)
    letters = int(rng.integers(2, 14))
    pitch = height * rng.uniform(0.6, 0.9)
    angle = float(
        rng.choice([0.0, np.pi / 2, np.pi, rng.uniform(0, 2 * np.pi)], p=[0.5, 0.2, 0.1, 0.2])
    )
    middle = rng.uniform(0.1, 0.9, 2) * np.array(shape)
    marks = []
    level = _level(rng)
    if rng.random() < 0.7:
        y, x = _grid(shape)
        v, u = _turned(y - middle[0], x - middle[1], angle)
        half = (0.5 * height + rng.uniform(1.0, 6.0), 0.5 * letters * pitch + rng.uniform(1.0, 8.0))
        marks.append((_hard((np.abs(v) < half[0]) & (np.abs(u) < half[1])), level))
        level = float(level < 0.5)
    drawn = np.zeros(shape, np.float32)
    width = rng.uniform(0.35, 0.06 * height + 0.4)
    for n in range(letters):
        left = (n - 0.5 * letters) * pitch
        for stroke in _letter(rng):
            v = (stroke[:, 0] - 0.5) * height
            u = left + (0.1 + 0.7 * stroke[:, 1]) * pitch
            dy, dx = _turned(v, u, -angle)
            kernels.draw_stroke(drawn, middle[0] + dy, middle[1] + dx, width, 1.0, True)
    sharp = _hard(drawn > 0.5) if rng.random() < 0.5 else np.clip(1.5 * drawn, 0.0, 1.0)
    return [*marks, (sharp.astype(np.float32), level)]


def rings(shape: Shape, rng: np.random.Generator) -> list[Mark]:
    """One to six circles of a pixel or two."""
    y, x = _grid(shape)
    cover = np.zeros(shape, np.float32)
    radius = rng.uniform(0.02, 0.35) * min(shape)
    half = rng.uniform(0.5, 1.2)
    for _ in range(int(rng.integers(1, 7))):
        middle = rng.uniform(0.0, 1.0, 2) * np.array(shape)
        off = np.abs(np.hypot(y - middle[0], x - middle[1]) - radius * np.exp(rng.normal(0, 0.2)))
        cover = np.maximum(cover, np.clip(0.5 + half - off, 0.0, 1.0)).astype(np.float32)
    return [(_hard(cover > 0.5) if rng.random() < 0.5 else cover, _level(rng))]


def rectangles(shape: Shape, rng: np.random.Generator) -> list[Mark]:
    """A few small rectangles, filled, or drawn as lines of one to three pixels."""
    y, x = _grid(shape)
    filled, line = rng.random() < 0.6, int(rng.integers(1, 4))
    angle = float(rng.choice([0.0, rng.uniform(0.0, np.pi)], p=[0.8, 0.2]))
    marks = []
    for _ in range(int(rng.integers(1, 9))):
        middle = rng.uniform(0.0, 1.0, 2) * np.array(shape)
        v, u = (np.abs(each) for each in _turned(y - middle[0], x - middle[1], angle))
        a, b = np.exp(rng.uniform(np.log(1.0), np.log(0.15 * min(shape)), 2))
        inside = (v < a) & (u < b)
        if not filled:
            inside &= (v >= a - line) | (u >= b - line)
        marks.append((_hard(inside), _level(rng)))
    return marks


KINDS: tuple[Callable[[Shape, np.random.Generator], list[Mark]], ...] = (
    half_plane, polygon, frame, text, rings, rectangles,
)  # fmt: skip
_CHANCES = (0.24, 0.2, 0.16, 0.17, 0.1, 0.13)


def _level(rng: np.random.Generator) -> float:
    """Dark, grey or white: within the range of values, at its ends, or a little beyond."""
    return float(rng.choice([0.0, 1.0, rng.uniform(0.0, 1.0), rng.uniform(-0.1, 1.2)]))


def _grid(shape: Shape) -> tuple[Image, Image]:
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    return y, x


def _turned(
    y: NDArray[np.floating], x: NDArray[np.floating], angle: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * y + sin * x, cos * x - sin * y


def _hard(inside: NDArray[np.bool_]) -> Image:
    return inside.astype(np.float32)


def _letter(rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """Strokes (n, 2) of an invented letter within the unit square, on a grid of 5 x 3 points."""
    grid = np.array([4.0, 2.0])
    strokes = []
    for _ in range(int(rng.integers(1, 4))):
        points = [rng.integers(0, [5, 3])]
        for _ in range(int(rng.integers(1, 4))):
            points.append(np.clip(points[-1] + rng.integers([-4, -2], [5, 3]), 0, [4, 2]))
        strokes.append(np.array(points) / grid)
    return strokes
