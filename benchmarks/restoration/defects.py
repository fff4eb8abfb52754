"""Specimens in which one thing is not as in the crystal around it, drawn anew from a seed.

A scene is drawn twice, with and without its defects, so that what a defect adds to the truth is
known in every pixel: the part of it that an image shows is a scalar product, with no fit. Images
are fractions of the incident electrons, (y, x); positions are in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
SIZE = 192
PIXEL_ANGSTROM = 0.15
SIGMA_ANGSTROM = 0.42
"""Width of a column (standard deviation): a probe of 1 angstrom."""


BEYOND = 48
"""Pixels of a texture beyond the image: else a filter that wraps around would know them."""


@dataclass(frozen=True, slots=True)
class Scene:
    """`truth` and what it would be without its defects, `perfect`: (SIZE, SIZE).

    `defects` are (kind, y, x), `columns` (n, 3) y, x and true peak height, `beyond` (n, 2) the
    places of the lattice in the first row beyond the crystal's edge, where nothing is. `sites`
    (n, 2): where the columns would be in the perfect lattice; `core` (y, x) of a dislocation.
    """

    name: str
    truth: Numbers
    perfect: Numbers
    defects: list[tuple[str, float, float]] = field(default_factory=list)
    columns: Numbers = field(default_factory=lambda: np.empty((0, 3)))
    beyond: Numbers = field(default_factory=lambda: np.empty((0, 2)))
    sites: Numbers = field(default_factory=lambda: np.empty((0, 2)))
    core: tuple[float, float] | None = None

    def electrons(self, dose: float) -> NDArray[np.float32]:
        """Mean detected electrons a pixel at a dose in e/A^2."""
        return (self.truth * (dose * PIXEL_ANGSTROM**2)).astype(np.float32)


def scenes(seed: int) -> list[Scene]:
    """All of them."""
    rng = np.random.default_rng(seed)
    return [
        disulfide(rng), titanate(rng), surface(rng), surface(rng, amorphous=True), film(rng),
        nothing(), strained(rng), dislocated(rng),
    ]  # fmt: skip


def disulfide(rng: np.random.Generator) -> Scene:
    """A layer of MoS2: sulfur pairs of which both or one are missing, a rhenium, adatoms."""
    a = 3.16
    cell = np.array([[0.0, a], [a * np.sqrt(3.0) / 2.0, a / 2.0]])
    metal = _sites(cell, (0.0, 0.0), rng.uniform(0.0, 30.0))
    turn = metal[1]
    sulfur = _sites(cell, (1.0 / 3.0, 1.0 / 3.0), turn)[0]
    hollow = _sites(cell, (2.0 / 3.0, 2.0 / 3.0), turn)[0]
    where = np.concatenate([metal[0], sulfur])
    height = np.concatenate([np.full(len(metal[0]), 0.032), np.full(len(sulfur), 0.011)])
    changed = height.copy()
    defects = []
    for kind, among, factor, count in (
        ("vacancy", sulfur, 0.0, 5), ("half", sulfur, 0.5, 5), ("dopant", metal[0], 2.2, 4),
    ):  # fmt: skip
        for y, x in _apart(among, defects, count, rng):
            changed[np.argmin(np.hypot(*(where - (y, x)).T))] *= factor
            defects.append((kind, y, x))
    added = _apart(hollow, defects, 4, rng)
    defects += [("adatom", y, x) for y, x in added]
    perfect = 0.0008 + _columns(where, height)
    truth = 0.0008 + _columns(where, changed) + _columns(added, np.full(len(added), 0.008))
    return Scene("MoS2", truth, perfect, defects)


def titanate(rng: np.random.Generator) -> Scene:
    """SrTiO3 of varying thickness, with half-occupied strontium columns."""
    cell = np.diag([3.905, 3.905])
    strontium, turn = _sites(cell, (0.0, 0.0), rng.uniform(0.0, 45.0))
    titanium = _sites(cell, (0.5, 0.5), turn)[0]
    where = np.concatenate([strontium, titanium])
    height = np.concatenate([np.full(len(strontium), 0.10), np.full(len(titanium), 0.06)])
    height *= 0.8 + 0.4 * where[:, 0] / SIZE
    height *= 1.0 + 0.10 * rng.standard_normal(len(height))
    changed = height.copy()
    defects = []
    for y, x in _apart(strontium, defects, 6, rng):
        changed[np.argmin(np.hypot(*(where - (y, x)).T))] *= 0.5
        defects.append(("half", y, x))
    inner = np.all((where > 12.0) & (where < SIZE - 13.0), axis=1)
    return Scene(
        "SrTiO3", 0.012 + _columns(where, changed), 0.012 + _columns(where, height), defects,
        np.column_stack([where, changed])[inner],
    )  # fmt: skip


def surface(rng: np.random.Generator, *, amorphous: bool = False) -> Scene:
    """A crystal that ends at a column of the lattice, vacuum or an amorphous layer beyond."""
    cell = np.diag([3.905, 3.905])
    where, _ = _sites(cell, (0.0, 0.0), 0.0)
    where = where + rng.uniform(-3.0, 3.0, 2)
    edge = SIZE * 0.6
    inside = where[:, 1] < edge
    first = where[~inside & (where[:, 1] < edge + 3.905 / PIXEL_ANGSTROM)]
    first = first[(first[:, 0] > 12.0) & (first[:, 0] < SIZE - 13.0)]
    image = _columns(where[inside], np.full(int(inside.sum()), 0.1))
    last = where[inside][:, 1].max()
    x = np.arange(SIZE)
    crystal = 1.0 / (1.0 + np.exp((x - last - 6.0) / 1.5))
    image += 0.012 * crystal
    name = "edge to vacuum"
    if amorphous:
        image += 0.02 * (1.0 - crystal) * np.maximum(0.1, 1.0 + 0.25 * _texture(rng, 2.0))
        name = "edge to amorphous"
    image += 0.0004
    return Scene(name, image, image, beyond=first, columns=np.column_stack([
        where[inside], np.full(int(inside.sum()), 0.1)
    ]))  # fmt: skip


def film(rng: np.random.Generator, sigma_px: float = 2.0) -> Scene:
    """Amorphous SiO2 or carbon: a texture without order, smooth over `sigma_px`."""
    image = 0.02 * np.maximum(0.1, 1.0 + 0.22 * _texture(rng, sigma_px))
    return Scene("amorphous", image, image)


def nothing() -> Scene:
    """An even field: pure noise."""
    image = np.full((SIZE, SIZE), 0.01)
    return Scene("nothing", image, image)


def strained(rng: np.random.Generator) -> Scene:
    """SrTiO3 with a band, some cells wide, that is 3 % wider than the rest."""
    sites, height = _titanate_sites(rng)
    middle, half = SIZE / 2.0 + rng.uniform(-10.0, 10.0), 30.0
    along = np.clip(sites[:, 1] - middle, -half, half)
    return _displaced("strain", sites, height, np.column_stack([0.0 * along, 0.03 * along]))


def dislocated(rng: np.random.Generator) -> Scene:
    """SrTiO3 with an edge dislocation a<100> in an isotropic solid (Hirth, Lothe; nu 0.24)."""
    sites, height = _titanate_sites(rng)
    core = SIZE / 2.0 + rng.uniform(-8.0, 8.0, 2)
    b, nu = 3.905 / PIXEL_ANGSTROM, 0.24
    v, u = (sites - core).T
    square = u * u + v * v + 0.05 * b * b
    du = b / (2 * np.pi) * (np.arctan2(v, u) + u * v / (2 * (1 - nu) * square))
    dv = -b / (2 * np.pi) * (
        (1 - 2 * nu) / (4 * (1 - nu)) * np.log(square / b**2)
        + (u * u - v * v) / (4 * (1 - nu) * square)
    )  # fmt: skip
    moved = np.column_stack([dv, du])
    return _displaced("dislocation", sites, height, moved, (float(core[0]), float(core[1])))


def _titanate_sites(rng: np.random.Generator) -> tuple[Numbers, Numbers]:
    """Sites (n, 2) and heights of SrTiO3 without a tilt, shifted at random."""
    cell, shift = np.diag([3.905, 3.905]), rng.uniform(-10.0, 10.0, 2)
    parts = [_sites(cell, place, 0.0)[0] + shift for place in ((0.0, 0.0), (0.5, 0.5))]
    heights = [np.full(len(part), height) for part, height in zip(parts, (0.10, 0.06), strict=True)]
    return np.concatenate(parts), np.concatenate(heights)


def _displaced(
    name: str,
    sites: Numbers,
    height: Numbers,
    moved: Numbers,
    core: tuple[float, float] | None = None,
) -> Scene:
    where = sites + moved
    image = 0.012 + _columns(where, height)
    apart = np.hypot(*(where[:, None] - where[None]).transpose(2, 0, 1)) + 1e3 * np.eye(len(where))
    # at the core two columns may nearly fall together: no fit tells them apart
    inner = np.all((where > 14.0) & (where < SIZE - 15.0), axis=1) & (apart.min(axis=1) > 12.0)
    columns = np.column_stack([where, height])[inner]
    return Scene(name, image, image, columns=columns, sites=sites[inner], core=core)


def column_profile() -> Numbers:
    """A column of height 1 around the middle pixel of a square, (2 r + 1, 2 r + 1)."""
    sigma = SIGMA_ANGSTROM / PIXEL_ANGSTROM
    axis = np.arange(-int(3 * sigma), int(3 * sigma) + 1)
    bell = np.exp(-0.5 * (axis / sigma) ** 2)
    return np.outer(bell, bell)


def _sites(cell: Numbers, place: tuple[float, float], turn_deg: float) -> tuple[Numbers, float]:
    """Lattice sites (n, 2) in and around the image, and the angle they are turned by."""
    t = np.deg2rad(turn_deg)
    turn = np.array([[np.cos(t), np.sin(t)], [-np.sin(t), np.cos(t)]])
    reach = int(SIZE * PIXEL_ANGSTROM / 2.5) + 3
    n, m = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    cells = np.stack([n.ravel(), m.ravel()], axis=1) + np.asarray(place)
    where = cells @ cell @ turn / PIXEL_ANGSTROM + SIZE / 2.0
    near = np.all((where > -15.0) & (where < SIZE + 15.0), axis=1)
    return where[near], turn_deg


def _apart(
    among: Numbers, taken: list[tuple[str, float, float]], count: int, rng: np.random.Generator
) -> Numbers:
    """Sites inside the image, far from others that were chosen."""
    chosen: list[Numbers] = []
    inner = among[np.all((among > 18.0) & (among < SIZE - 19.0), axis=1)]
    for site in rng.permutation(inner):
        others = [np.array(each[1:]) for each in taken] + chosen
        if all(np.hypot(*(site - other)) > 26.0 for other in others):
            chosen.append(site)
        if len(chosen) == count:
            break
    return np.array(chosen).reshape(-1, 2)


def _columns(where: Numbers, height: Numbers) -> Numbers:
    sigma = SIGMA_ANGSTROM / PIXEL_ANGSTROM
    axis = np.arange(SIZE)
    ey = np.exp(-0.5 * ((axis[None] - where[:, :1]) / sigma) ** 2)
    ex = np.exp(-0.5 * ((axis[None] - where[:, 1:]) / sigma) ** 2)
    image: Numbers = (height[:, None] * ey).T @ ex
    return image


def _texture(rng: np.random.Generator, sigma_px: float) -> Numbers:
    """Noise of deviation 1, smooth over `sigma_px`, cut from a field that goes on beyond."""
    axis = np.fft.fftfreq(SIZE + BEYOND)
    low = np.exp(-2.0 * (np.pi * sigma_px) ** 2 * (axis[:, None] ** 2 + axis[None] ** 2))
    white = rng.standard_normal((SIZE + BEYOND, SIZE + BEYOND))
    field_ = np.fft.ifft2(np.fft.fft2(white) * low).real[:SIZE, :SIZE]
    return np.asarray(field_ / field_.std())
