"""Specimens for the score table: none of these structures was ever drawn in training.

Drawn with plain NumPy, independently of the training images. A specimen's image is the fraction
of the incident electrons that reach the annular detector, (y, x); positions are in pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
SIZE = 256


@dataclass(frozen=True, slots=True)
class Specimen:
    """A truth: `fraction` (SIZE, SIZE), its sampling, and the columns that can be fitted.

    `columns` (n, 2) are true positions (y, x) in pixels, at least `fit_radius_px` inside the
    image; empty where there are no columns.
    """

    name: str
    fraction: Numbers
    pixel_angstrom: float
    columns: Numbers
    fit_radius_px: float

    def electrons(self, dose: float) -> NDArray[np.float32]:
        """Mean detected electrons a pixel at a dose in e/A^2."""
        return (self.fraction * (dose * self.pixel_angstrom**2)).astype(np.float32)


def specimens() -> tuple[Specimen, ...]:
    """All of them; the last is empty, to see what is invented from noise."""
    makers: tuple[Callable[[], Specimen], ...] = (
        strontium_titanate, edge_dislocation, silicon_nitride, olivine, pyrite_boundary,
        decahedron, catalyst, fin_transistor, nothing,
    )  # fmt: skip
    return tuple(make() for make in makers)


def _gaussians(positions: Numbers, heights: Numbers, sigma: Numbers) -> Numbers:
    """Sum of round gaussians, exactly, by one outer product a column."""
    image = np.zeros((SIZE, SIZE))
    axis = np.arange(SIZE)
    for (y, x), height, width in zip(positions, heights, sigma, strict=True):
        ey = np.exp(-0.5 * ((axis - y) / width) ** 2)
        ex = np.exp(-0.5 * ((axis - x) / width) ** 2)
        image += height * np.outer(ey, ex)
    return image


def _crystal(
    name: str,
    cell_angstrom: tuple[float, float],
    atoms: list[tuple[float, float, float]],
    pixel_angstrom: float,
    angle_deg: float,
    background: float,
    sigma_angstrom: float = 0.42,
    shear: Numbers | None = None,
    move: Callable[[Numbers], Numbers] | None = None,
    keep: Callable[[Numbers], NDArray[np.bool_]] | None = None,
    strong: float = 0.4,
) -> Specimen:
    """A rectangular cell (or sheared by `shear`) of (y, x, peak fraction) atoms, turned."""
    cell = np.diag(cell_angstrom) if shear is None else shear
    t = np.deg2rad(angle_deg)
    turn = np.array([[np.cos(t), np.sin(t)], [-np.sin(t), np.cos(t)]])
    reach = int(SIZE * pixel_angstrom * 1.5 / min(cell_angstrom)) + 2
    n, m = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    origins = np.stack([n.ravel(), m.ravel()], axis=1) @ cell
    positions, heights = [], []
    for y, x, height in atoms:
        positions.append(((origins + np.array([y, x]) @ cell) @ turn) / pixel_angstrom)
        heights.append(np.full(len(origins), height))
    where = np.concatenate(positions) + SIZE / 2
    peak = np.concatenate(heights)
    if move is not None:
        where = move(where)
    if keep is not None:
        kept = keep(where)
        where, peak = where[kept], peak[kept]
    sigma = sigma_angstrom / pixel_angstrom
    near = np.all((where > -5 * sigma) & (where < SIZE + 5 * sigma), axis=1)
    where, peak = where[near], peak[near]
    image = background + _gaussians(where, peak, np.full(len(peak), sigma))
    apart = np.linalg.norm(where[:, None] - where[None], axis=2) + np.eye(len(where)) * 1e9
    radius = 0.5 * float(np.quantile(apart.min(axis=1), 0.05))
    inside = np.all((where > radius + 4) & (where < SIZE - radius - 5), axis=1)
    fitted = where[inside & (peak >= strong * peak.max())]
    return Specimen(name, image, pixel_angstrom, fitted, min(radius, 2.2 * sigma))


STRONTIUM_TITANATE = [(0.0, 0.0, 0.10), (0.5, 0.5, 0.06), (0.5, 0.0, 0.008), (0.0, 0.5, 0.008)]


def strontium_titanate() -> Specimen:
    """SrTiO3 [001]."""
    return _crystal("SrTiO3 [001]", (3.905, 3.905), STRONTIUM_TITANATE, 0.15, 7.0, 0.012)


def edge_dislocation() -> Specimen:
    """SrTiO3 [001] with an a<100> edge dislocation in the middle (isotropic solid, nu 0.24)."""
    b, nu = 3.905 / 0.15, 0.24

    def move(where: Numbers) -> Numbers:
        v, u = (where - SIZE / 2 - 0.37).T
        r2 = u * u + v * v + 0.05 * b * b
        du = b / (2 * np.pi) * (np.arctan2(v, u) + u * v / (2 * (1 - nu) * r2))
        dv = -b / (2 * np.pi) * (
            (1 - 2 * nu) / (4 * (1 - nu)) * np.log(r2 / b**2)
            + (u * u - v * v) / (4 * (1 - nu) * r2)
        )  # fmt: skip
        moved: Numbers = where + np.stack([dv, du], axis=1)
        return moved

    return _crystal(
        "edge dislocation", (3.905, 3.905), STRONTIUM_TITANATE, 0.15, 0.0, 0.012, move=move
    )


def silicon_nitride() -> Specimen:
    """Beta silicon nitride [0001]: rings of silicon around open channels."""
    a = 7.60
    cell = np.array([[0.0, a], [a * np.sqrt(3) / 2, -a / 2]])
    si = [(0.174, 0.768), (0.232, 0.406), (0.594, 0.826)]
    si += [(1 - u, 1 - v) for u, v in si]
    n = [(1 / 3, 2 / 3), (2 / 3, 1 / 3), (0.330, 0.030), (0.970, 0.300), (0.700, 0.670)]
    n += [(1 - u, 1 - v) for u, v in n[2:]]
    atoms = [(u, v, 0.05) for u, v in si] + [(u, v, 0.012) for u, v in n]
    return _crystal("Si3N4 [0001]", (a, a), atoms, 0.12, 20.0, 0.008, 0.40, shear=cell)


def olivine() -> Specimen:
    """LiFePO4 [010]: iron and phosphorus strong, oxygen weak, lithium nearly nothing."""
    fe = [(0.282, 0.975), (0.718, 0.025), (0.782, 0.525), (0.218, 0.475)]
    p = [(0.095, 0.418), (0.905, 0.582), (0.595, 0.082), (0.405, 0.918)]
    o = [(0.097, 0.743), (0.457, 0.206), (0.166, 0.285)]
    o += [(1 - y, 1 - x) for y, x in o]
    atoms = [(y, x, 0.07) for y, x in fe] + [(y, x, 0.03) for y, x in p]
    atoms += [(y, x, 0.009) for y, x in o]
    return _crystal("LiFePO4 [010]", (10.33, 4.69), atoms, 0.13, 33.0, 0.01, 0.38, strong=0.9)


def pyrite_boundary() -> Specimen:
    """FeS2 [001], one half missing, with every twentieth column weaker: a surface, vacancies."""
    s = [(0.385, 0.385), (0.615, 0.615), (0.885, 0.115), (0.115, 0.885)]
    atoms = [(0.0, 0.0, 0.07), (0.5, 0.5, 0.07)] + [(y, x, 0.03) for y, x in s]

    def keep(where: Numbers) -> NDArray[np.bool_]:
        kept: NDArray[np.bool_] = where @ np.array([0.45, 1.0]) < 1.45 * SIZE * 0.58
        vacant = np.random.default_rng(5).random(len(where)) < 0.05
        return kept & ~vacant

    return _crystal(
        "FeS2 surface", (5.42, 5.42), atoms, 0.14, -12.0, 0.004, 0.42, keep=keep, strong=0.9
    )


def decahedron() -> Specimen:
    """A fivefold twinned gold particle along its axis, on amorphous carbon."""
    rng = np.random.default_rng(11)
    pixel, a = 0.16, 4.08
    short, long = a / np.sqrt(2), a
    middle = np.array([SIZE / 2 + 6.3, SIZE / 2 - 4.1])
    places = []
    for n in range(5):
        # a twin: two close-packed rows 72 degrees apart (70.5 in the bulk, the rest is strain)
        one = np.array([np.sin(1.2566 * n), np.cos(1.2566 * n)])
        two = np.array([np.sin(1.2566 * (n + 1)), np.cos(1.2566 * (n + 1))])
        step = np.hypot(long / 2, short / 2)
        i, j = np.mgrid[0:11, 1:11]
        flat = np.stack([i.ravel(), j.ravel()], axis=1)
        flat = flat[flat.sum(axis=1) < 11]
        places.append((flat[:, :1] * one + flat[:, 1:] * two) * step / pixel)
    shells = np.vstack([np.zeros((1, 2)), *places])
    distance = np.linalg.norm(shells, axis=1)
    where = shells + middle
    height = 0.22 * (1.05 - distance / distance.max() * 0.8)
    axis = np.fft.fftfreq(SIZE)
    lowpass = np.exp(-2 * (np.pi * 2.0) ** 2 * (axis[:, None] ** 2 + axis[None] ** 2))
    carbon = np.fft.ifft2(np.fft.fft2(rng.standard_normal((SIZE, SIZE))) * lowpass).real
    image = 0.012 + 0.003 * carbon / carbon.std()
    sigma = 0.45 / pixel
    image = np.clip(image, 0.001, None) + _gaussians(where, height, np.full(len(where), sigma))
    inside = np.all((where > 10) & (where < SIZE - 11), axis=1)
    radius = 0.5 * np.hypot(long / 2, short / 2) / pixel
    return Specimen("Au decahedron on C", image, pixel, where[inside], min(radius, 2.2 * sigma))


def catalyst() -> Specimen:
    """Low magnification: metal spheres on lumps of carbon, vacuum around."""
    rng = np.random.default_rng(3)
    yy, xx = np.mgrid[:SIZE, :SIZE].astype(float)
    image = np.full((SIZE, SIZE), 2e-5)
    for _ in range(7):
        y, x, r = *rng.uniform(40, 210, 2), rng.uniform(35, 60)
        thickness = np.sqrt(np.clip(r * r - (yy - y) ** 2 - (xx - x) ** 2, 0, None))
        image += 1e-5 * thickness
    carbon = image > 1e-4
    for _ in range(60):
        y, x, r = *rng.uniform(10, 246, 2), np.exp(rng.normal(1.3, 0.45))
        if carbon[int(y), int(x)]:
            image += 3e-4 * np.sqrt(np.clip(r * r - (yy - y) ** 2 - (xx - x) ** 2, 0, None))
    axis = np.fft.fftfreq(SIZE)
    lowpass = np.exp(-2 * (np.pi * 0.7) ** 2 * (axis[:, None] ** 2 + axis[None] ** 2))
    image = np.clip(np.fft.ifft2(np.fft.fft2(image) * lowpass).real, 1e-6, None)
    return Specimen("catalyst, 2 A pixels", image, 2.0, np.empty((0, 2)), 0.0)


def fin_transistor() -> Specimen:
    """Low magnification: fins under a gate stack, thin liners, a contact."""
    yy, xx = np.mgrid[:SIZE, :SIZE].astype(float)
    image = np.full((SIZE, SIZE), 4e-4)
    ground = 170 + 0.02 * xx
    for middle in (44.0, 128.5, 211.0):
        width = 8.0 + 0.055 * (yy - 60.0)
        across = np.abs(xx - middle)
        tall = np.clip(yy - 62.0 + 0.03 * across**2, 0, None) > 0
        fin = (across < width) & tall
        liner = (across < width + 4.0) & (yy > 57.0 + 0.02 * across**2) & ~fin & (yy < ground)
        image[liner] = 2.4e-3
        image[fin] = 8e-4
    image[yy > ground] = 8e-4
    image[(yy < 57) & (image < 5e-4)] = 1.1e-3
    image[(yy < 22) & (np.abs(xx - 128) < 70)] = 3.0e-3
    axis = np.fft.fftfreq(SIZE)
    lowpass = np.exp(-2 * (np.pi * 0.8) ** 2 * (axis[:, None] ** 2 + axis[None] ** 2))
    image = np.clip(np.fft.ifft2(np.fft.fft2(image) * lowpass).real, 1e-6, None)
    return Specimen("fin transistor, 2 A pixels", image, 2.0, np.empty((0, 2)), 0.0)


def nothing() -> Specimen:
    """An even field of 1 % of the dose: pure noise."""
    return Specimen("nothing", np.full((SIZE, SIZE), 0.01), 0.15, np.empty((0, 2)), 0.0)
