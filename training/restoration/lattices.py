"""Images at atomic resolution: crystals with the faults that real ones have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.restoration import kernels, structures
from training.restoration.fields import blurred, smooth_noise

Image = NDArray[np.float32]
Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Grain:
    """One crystal: its cell (2, 2) as rows (y, x) in pixels, columns in it, where it starts."""

    cell: Numbers
    fractions: Numbers
    heights: Numbers
    origin: Numbers

    @property
    def spacing(self) -> float:
        """Side of the square that a column has to itself, in pixels."""
        return float(np.sqrt(abs(np.linalg.det(self.cell)) / len(self.heights)))

    def columns(self, shape: tuple[int, int], margin: float) -> tuple[Numbers, Numbers]:
        """Positions (n, 2) in and near the image, and heights (n,)."""
        ny, nx = shape
        corners = np.array([(y, x) for y in (-margin, ny + margin) for x in (-margin, nx + margin)])
        inside = (corners - self.origin) @ np.linalg.inv(self.cell)
        low = np.floor(inside.min(axis=0)).astype(int) - 1
        high = np.ceil(inside.max(axis=0)).astype(int) + 1
        n, m = np.mgrid[low[0] : high[0], low[1] : high[1]]
        cells = np.stack([n.ravel(), m.ravel()], axis=1).astype(float)
        places = (cells[:, None, :] + self.fractions[None]).reshape(-1, 2)
        positions = places @ self.cell + self.origin
        heights = np.tile(self.heights, len(cells))
        near = np.all((positions > -margin) & (positions < np.array(shape) + margin), axis=1)
        return positions[near], heights[near]


def lattice_scene(shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """One image (ny, nx) of crystals, on any scale of intensity.

    Random: structure, zone, orientation, sampling, strain, grain boundaries, twins, surfaces,
    superlattices, vacancies, foreign atoms, dislocations, thickness, probe shape, support.
    """
    grain = _grain(rng)
    labels, count = _regions(shape, grain.spacing, rng)
    grains = [grain] + [_neighbour(grain, rng) for _ in range(count - 1)]
    empty = rng.random(count) < 0.3
    empty[0] = False
    levels = rng.uniform(0.2, 1.0, count)
    levels[0] = 1.0
    image = np.zeros(shape, np.float32)
    sigma = _probe_width(grain.spacing, rng)
    tail = (rng.uniform(0.05, 0.4), rng.uniform(1.6, 3.0)) if rng.random() < 0.5 else (0.0, 1.0)
    astigmatism = np.exp(rng.normal(0.0, 0.08, 2)) if rng.random() < 0.3 else np.ones(2)
    thickness = _thickness(shape, rng)
    # good crystals are the rule, yet with every fault drawn by itself few would be left
    perfect = rng.random() < 0.3
    displacement = _displacement(shape, grain, rng)
    if perfect:
        displacement[:] = 0.0
    for n, one in enumerate(grains):
        if empty[n]:
            continue
        positions, heights = one.columns(shape, margin=4.0 * sigma + 2.0)
        jj, ii = _pixels(positions, shape)
        here = labels[jj, ii] == n
        positions, heights = positions[here], heights[here] * levels[n]
        if not len(heights):
            continue
        jj, ii = jj[here], ii[here]
        positions = positions + displacement[:, jj, ii].T
        heights = heights * thickness[jj, ii]
        if not perfect:
            heights = _faulty(heights, rng)
            positions = positions + rng.normal(0.0, _rattle(rng) * one.spacing, positions.shape)
        widths = np.full(len(heights), sigma) * (1.0 + 0.3 * rng.random() * (heights < 0.5))
        _draw(image, positions, heights, widths, tail, astigmatism)
    if rng.random() < 0.1:
        _overlay(image, grain, sigma, rng)
    return _on_support(image, labels, levels * ~empty, thickness, rng)


def scattered_atoms(shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """Single atoms, clusters or an amorphous solid on a support that is itself not smooth."""
    spacing = np.exp(rng.uniform(np.log(4.0), np.log(40.0)))
    sigma = _probe_width(spacing, rng)
    n = max(1, int(np.prod(shape) / spacing**2 * np.exp(rng.uniform(-3.0, 0.7))))
    positions = rng.random((n, 2)) * (np.array(shape) + 8 * sigma) - 4 * sigma
    if rng.random() < 0.4:
        middles = rng.random((max(1, n // 12), 2)) * np.array(shape)
        positions = middles[rng.integers(len(middles), size=n)]
        positions = positions + rng.normal(0.0, 1.5 * spacing, (n, 2))
    heights = np.exp(rng.normal(0.0, rng.uniform(0.0, 0.7), n))
    image = np.zeros(shape, np.float32)
    _draw(image, positions, heights, np.full(n, sigma), (0.1, 2.0), np.ones(2))
    support = smooth_noise(shape, rng.uniform(0.5, 3.0), rng) * rng.uniform(0.0, 0.4)
    return image + np.float32(support + rng.uniform(0.0, 1.0))


def _grain(rng: np.random.Generator) -> Grain:
    shelf = structures.library()
    motif = shelf[rng.integers(len(shelf))] if rng.random() < 0.6 else structures.invented(rng)
    spacing = np.exp(rng.uniform(np.log(3.6), np.log(36.0)))
    cell = motif.cell * (spacing / motif.spacing)
    if rng.random() < 0.5:
        cell = cell * np.array([1.0, -1.0])
    strain = np.eye(2) + rng.normal(0.0, 0.02, (2, 2))
    angle = rng.uniform(0.0, 2.0 * np.pi)
    if rng.random() < 0.15:
        angle = float(np.round(angle / (np.pi / 2)) * (np.pi / 2))
    return Grain(
        cell @ strain @ _rotation(angle), motif.fractions, motif.heights, rng.random(2) * spacing
    )


def _neighbour(grain: Grain, rng: np.random.Generator) -> Grain:
    """What lies across a boundary: a shifted, twinned, rotated or altogether other crystal."""
    kind = rng.integers(4)
    origin = grain.origin + rng.random(2) @ grain.cell
    if kind == 0:
        return Grain(grain.cell, grain.fractions, grain.heights, origin)
    if kind == 1:
        along = grain.cell[rng.integers(2)]
        along = along / np.linalg.norm(along)
        mirror = 2.0 * np.outer(along, along) - np.eye(2)
        return Grain(grain.cell @ mirror, grain.fractions, grain.heights, origin)
    if kind == 2:
        turned = grain.cell @ _rotation(rng.normal(0.0, 0.3))
        return Grain(turned, grain.fractions, grain.heights, origin)
    other = _grain(rng)
    scale = grain.spacing / other.spacing * np.exp(rng.normal(0.0, 0.2))
    return Grain(other.cell * scale, other.fractions, other.heights, origin)


def _rotation(angle: float) -> Numbers:
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _probe_width(spacing: float, rng: np.random.Generator) -> float:
    return float(max(0.7, spacing * np.exp(rng.uniform(np.log(0.1), np.log(0.42)))))


def _rattle(rng: np.random.Generator) -> float:
    return float(rng.choice([0.0, 0.01, 0.03, 0.08], p=[0.4, 0.3, 0.2, 0.1]))


def _pixels(positions: Numbers, shape: tuple[int, int]) -> tuple[NDArray[np.intp], ...]:
    limits = np.array(shape) - 1
    nearest = np.clip(np.round(positions), 0, limits).astype(np.intp)
    return nearest[:, 0], nearest[:, 1]


def _draw(
    image: Image,
    positions: Numbers,
    heights: Numbers,
    widths: Numbers,
    tail: tuple[float, float],
    astigmatism: Numbers,
) -> None:
    y = np.ascontiguousarray(positions[:, 0])
    x = np.ascontiguousarray(positions[:, 1])
    sy, sx = widths * astigmatism[0], widths * astigmatism[1]
    kernels.add_columns(image, y, x, heights * (1.0 - tail[0]), sy, sx)
    if tail[0] > 0.0:
        kernels.add_columns(image, y, x, heights * tail[0] / tail[1], sy * tail[1], sx * tail[1])


def _regions(
    shape: tuple[int, int], spacing: float, rng: np.random.Generator
) -> tuple[NDArray[np.int32], int]:
    """Which crystal each pixel belongs to (ny, nx), and how many there are."""
    kind = rng.choice(
        ["one", "voronoi", "halves", "particle", "layers"], p=[0.4, 0.2, 0.15, 0.15, 0.1]
    )
    ny, nx = shape
    yy, xx = np.mgrid[:ny, :nx].astype(np.float32)
    if kind == "voronoi":
        n = int(rng.integers(2, 8))
        y, x = rng.random(n) * ny, rng.random(n) * nx
        rough = [smooth_noise(shape, 2.5, rng) * np.float32(rng.uniform(0.0, 6.0)) for _ in "yx"]
        return kernels.nearest_seed(shape, y, x, np.zeros(n), rough[0], rough[1]), n
    if kind in ("halves", "layers"):
        angle = rng.uniform(0.0, 2.0 * np.pi)
        along = yy * np.cos(angle) + xx * np.sin(angle)
        along = along - along.mean() + np.float32(rng.normal(0.0, 0.2) * min(shape))
        if kind == "halves":
            return (along > 0.0).astype(np.int32), 2
        period = spacing * np.exp(rng.uniform(0.7, 2.5))
        return (np.floor(along / period).astype(np.int32) % 2), 2
    if kind == "particle":
        sides = np.empty((0, 2))
        if rng.random() < 0.7:
            k = int(rng.integers(3, 9))
            sides = np.stack(
                [np.arange(k) * 2 * np.pi / k + rng.normal(0, 0.1, k), rng.uniform(0.6, 1.0, k)], 1
            )
        mask = np.zeros(shape, np.float32)
        size = rng.uniform(0.2, 0.6, 2) * min(shape)
        centre = (rng.uniform(0.2, 0.8) * ny, rng.uniform(0.2, 0.8) * nx)
        kernels.draw_shape(
            mask, centre, (size[0], size[1]), rng.uniform(0, 6.3), sides, 0.02, 0, 1.0, True
        )
        inside = (mask > 0.5).astype(np.int32)
        return (1 - inside if rng.random() < 0.7 else inside), 2
    return np.zeros(shape, np.int32), 1


def _thickness(shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """Factor on the columns' heights (ny, nx): even, a wedge, hills or steps."""
    kind = rng.choice(["even", "hills", "wedge", "steps"], p=[0.45, 0.25, 0.15, 0.15])
    if kind == "even":
        return np.ones(shape, np.float32)
    hills = smooth_noise(shape, 4.0, rng)
    if kind == "wedge":
        angle = rng.uniform(0.0, 2.0 * np.pi)
        yy, xx = np.mgrid[: shape[0], : shape[1]]
        hills = ((yy * np.cos(angle) + xx * np.sin(angle)) / max(shape)).astype(np.float32)
    hills = (hills - hills.min()) / max(float(np.ptp(hills)), 1e-6)
    if kind == "steps":
        hills = np.floor(hills * rng.uniform(2.0, 6.0)) / np.float32(5.0)
    low = rng.uniform(0.1, 0.9)
    factor: Image = np.clip(low + (1.0 - low) * hills, 0.05, None).astype(np.float32)
    return factor


def _displacement(shape: tuple[int, int], grain: Grain, rng: np.random.Generator) -> Image:
    """Displacement of the columns (2, ny, nx) in pixels: slow strain, edge dislocations."""
    field = np.zeros((2, *shape), np.float32)
    if rng.random() < 0.3:
        size = grain.spacing * rng.uniform(0.05, 0.5)
        for axis in range(2):
            field[axis] += smooth_noise(shape, 4.0, rng) * np.float32(size)
    if rng.random() < 0.15:
        yy, xx = np.mgrid[: shape[0], : shape[1]].astype(float)
        for _ in range(int(rng.integers(1, 4))):
            burgers = grain.cell[rng.integers(2)] * rng.choice([-1.0, 1.0])
            centre = rng.random(2) * np.array(shape)
            field += edge_dislocation(yy - centre[0], xx - centre[1], burgers).astype(np.float32)
    return field


def edge_dislocation(dy: Numbers, dx: Numbers, burgers: Numbers, poisson: float = 0.3) -> Numbers:
    """Displacement (2, ny, nx) around an edge dislocation in an isotropic solid.

    `dy`, `dx` (ny, nx) are distances from the core and `burgers` (2,) its vector, all in one
    unit. With u along the Burgers vector and v across: u = b/(2 pi) (atan(v/u) + u v /
    (2 (1 - nu) r^2)), v = -b/(2 pi) ((1 - 2 nu)/(4 (1 - nu)) ln r^2 + (u^2 - v^2)/(4 (1 - nu)
    r^2)) (Hirth and Lothe, Theory of Dislocations, equations 3-45 and 3-46).
    """
    b = float(np.hypot(burgers[0], burgers[1]))
    ey, ex = burgers / b
    u, v = dy * ey + dx * ex, dy * ex - dx * ey
    r2 = u * u + v * v + (0.25 * b) ** 2
    along = b / (2 * np.pi) * (np.arctan2(v, u) + u * v / (2 * (1 - poisson) * r2))
    across = -b / (2 * np.pi) * (
        (1 - 2 * poisson) / (4 * (1 - poisson)) * np.log(r2 / b**2)
        + (u * u - v * v) / (4 * (1 - poisson) * r2)
    )  # fmt: skip
    return np.stack([along * ey + across * ex, along * ex - across * ey])


def _faulty(heights: Numbers, rng: np.random.Generator) -> Numbers:
    out = heights.copy()
    if rng.random() < 0.4:
        out *= np.exp(rng.normal(0.0, rng.uniform(0.02, 0.35), len(out)))
    if rng.random() < 0.3:
        out[rng.random(len(out)) < rng.uniform(0.002, 0.08)] *= rng.uniform(0.0, 0.7)
    if rng.random() < 0.25:
        out[rng.random(len(out)) < rng.uniform(0.002, 0.08)] *= rng.uniform(1.2, 3.0)
    return out


def _overlay(image: Image, grain: Grain, sigma: float, rng: np.random.Generator) -> None:
    """A second crystal seen through the first: moire."""
    other = Grain(
        grain.cell @ _rotation(rng.normal(0.0, 0.3)) * rng.uniform(0.9, 1.1),
        grain.fractions,
        grain.heights * rng.uniform(0.3, 1.0),
        grain.origin + rng.random(2) @ grain.cell,
    )
    positions, heights = other.columns(image.shape, 4.0 * sigma + 2.0)
    _draw(image, positions, heights, np.full(len(heights), sigma), (0.0, 1.0), np.ones(2))


def _on_support(
    image: Image,
    labels: NDArray[np.int32],
    levels: Numbers,
    thickness: Image,
    rng: np.random.Generator,
) -> Image:
    """Add the diffuse background of the crystals, and carbon under or over them."""
    out = image
    if rng.random() < 0.6:
        # electrons scattered between the columns: in proportion to the material there
        material = levels[labels].astype(np.float32) * thickness
        out = out + np.float32(rng.uniform(0.0, 0.8)) * blurred(material, rng.uniform(0.5, 3.0))
    if rng.random() < 0.35:
        carbon = smooth_noise(image.shape, rng.uniform(0.5, 3.5), rng)
        out = out + np.float32(rng.uniform(0.03, 0.4)) * carbon
    return out
