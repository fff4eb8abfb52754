"""Crystals as seen along a zone axis: two cell vectors and the columns inside, in angstrom."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float64]

FCC = ((0.0, 0.0, 0.0), (0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5))
BCC = ((0.0, 0.0, 0.0), (0.5, 0.5, 0.5))
ORIGIN = ((0.0, 0.0, 0.0),)


@dataclass(frozen=True, slots=True)
class Crystal:
    """Cell lengths (angstrom) and angles (degrees), and (atomic number, fractions) per atom."""

    name: str
    lengths: tuple[float, float, float]
    angles: tuple[float, float, float]
    atoms: tuple[tuple[int, tuple[float, float, float]], ...]

    def vectors(self) -> Vectors:
        """Cell vectors as rows (3, 3), in angstrom, the first along x."""
        a, b, c = self.lengths
        alpha, beta, gamma = np.deg2rad(self.angles)
        cx = np.cos(beta)
        cy = (np.cos(alpha) - cx * np.cos(gamma)) / np.sin(gamma)
        return np.array(
            [
                [a, 0.0, 0.0],
                [b * np.cos(gamma), b * np.sin(gamma), 0.0],
                [c * cx, c * cy, c * np.sqrt(1.0 - cx * cx - cy * cy)],
            ]
        )


@dataclass(frozen=True, slots=True)
class Motif:
    """A projected crystal: cell vectors (2, 2) as rows (y, x) in angstrom, columns in it.

    `fractions` (n, 2) are multiples of the cell vectors; `heights` (n,) the columns' scattering
    by the length seen, the strongest being 1.
    """

    cell: Vectors
    fractions: Vectors
    heights: NDArray[np.float64]

    @property
    def spacing(self) -> float:
        """Side of the square that a column has to itself, in angstrom."""
        area = abs(np.linalg.det(self.cell))
        return float(np.sqrt(area / len(self.heights)))


def _cubic(
    name: str,
    a: float,
    *sites: tuple[int, tuple[tuple[float, float, float], ...]],
    centring: tuple[tuple[float, float, float], ...] = ORIGIN,
) -> Crystal:
    return _crystal(name, (a, a, a), (90.0, 90.0, 90.0), *sites, centring=centring)


def _crystal(
    name: str,
    lengths: tuple[float, float, float],
    angles: tuple[float, float, float],
    *sites: tuple[int, tuple[tuple[float, float, float], ...]],
    centring: tuple[tuple[float, float, float], ...] = ORIGIN,
) -> Crystal:
    atoms = tuple(
        (z, (x + sx, y + sy, w + sw))
        for z, places in sites
        for x, y, w in places
        for sx, sy, sw in centring
    )
    return Crystal(name, lengths, angles, atoms)


HEX = (90.0, 90.0, 120.0)
RIGHT = (90.0, 90.0, 90.0)
T, S = 1.0 / 3.0, 2.0 / 3.0

CRYSTALS: tuple[Crystal, ...] = (
    _cubic("Au", 4.08, (79, ORIGIN), centring=FCC),
    _cubic("Al", 4.05, (13, ORIGIN), centring=FCC),
    _cubic("Fe", 2.87, (26, ORIGIN), centring=BCC),
    _cubic("W", 3.165, (74, ORIGIN), centring=BCC),
    _crystal("Ti", (2.95, 2.95, 4.68), HEX, (22, ((T, S, 0.25), (S, T, 0.75)))),
    _crystal("Co", (2.51, 2.51, 4.07), HEX, (27, ((T, S, 0.25), (S, T, 0.75)))),
    _cubic("Ge", 5.66, (32, ((0.0, 0.0, 0.0), (0.25, 0.25, 0.25))), centring=FCC),
    _cubic("InP", 5.87, (49, ORIGIN), (15, ((0.25, 0.25, 0.25),)), centring=FCC),
    _cubic("CdTe", 6.48, (48, ORIGIN), (52, ((0.25, 0.25, 0.25),)), centring=FCC),
    _cubic("MgO", 4.21, (12, ORIGIN), (8, ((0.5, 0.0, 0.0),)), centring=FCC),
    _cubic("PbTe", 6.46, (82, ORIGIN), (52, ((0.5, 0.0, 0.0),)), centring=FCC),
    _cubic("NiAl", 2.88, (28, ORIGIN), (13, ((0.5, 0.5, 0.5),))),
    _cubic("Cu3Au", 3.75, (79, ORIGIN), (29, FCC[1:])),
    _crystal("FePt", (3.85, 3.85, 3.71), RIGHT, (26, (FCC[0], FCC[1])), (78, (FCC[2], FCC[3]))),
    _cubic("CeO2", 5.41, (58, ORIGIN), (8, ((0.25, 0.25, 0.25), (0.75, 0.75, 0.75))),
           centring=FCC),
    _crystal("SnO2", (4.74, 4.74, 3.19), RIGHT, (50, BCC),
             (8, ((0.306, 0.306, 0.0), (0.694, 0.694, 0.0), (0.806, 0.194, 0.5),
                  (0.194, 0.806, 0.5)))),
    _crystal("anatase", (3.785, 3.785, 9.514), RIGHT,
             (22, ((0.0, 0.0, 0.0), (0.0, 0.5, 0.25))),
             (8, ((0.0, 0.0, 0.208), (0.0, 0.0, -0.208), (0.0, 0.5, 0.458), (0.0, 0.5, 0.042))),
             centring=BCC),
    _crystal("ZnO", (3.25, 3.25, 5.21), HEX, (30, ((T, S, 0.0), (S, T, 0.5))),
             (8, ((T, S, 0.382), (S, T, 0.882)))),
    _crystal("AlN", (3.11, 3.11, 4.98), HEX, (13, ((T, S, 0.0), (S, T, 0.5))),
             (7, ((T, S, 0.382), (S, T, 0.882)))),
    _crystal("WS2", (3.15, 3.15, 12.3), HEX, (74, ((T, S, 0.25), (S, T, 0.75))),
             (16, ((T, S, 0.62), (S, T, 0.12), (T, S, 0.88), (S, T, 0.38)))),
    _crystal("graphite", (2.46, 2.46, 6.71), HEX,
             (6, ((0.0, 0.0, 0.25), (0.0, 0.0, 0.75), (T, S, 0.25), (S, T, 0.75)))),
    _crystal("Bi2Te3", (4.38, 4.38, 30.5), HEX, (83, ((0.0, 0.0, 0.4), (0.0, 0.0, 0.6))),
             (52, ((0.0, 0.0, 0.0), (0.0, 0.0, 0.212), (0.0, 0.0, 0.788))),
             centring=((0.0, 0.0, 0.0), (S, T, T), (T, S, S))),
    _crystal("NaCoO2", (2.84, 2.84, 10.81), HEX, (27, ((0.0, 0.0, 0.0), (0.0, 0.0, 0.5))),
             (11, ((T, S, 0.75), (S, T, 0.25))),
             (8, ((T, S, 0.09), (T, S, 0.41), (S, T, 0.59), (S, T, 0.91)))),
    _crystal("YBa2Cu3O7", (3.82, 3.89, 11.68), RIGHT, (39, ((0.5, 0.5, 0.5),)),
             (56, ((0.5, 0.5, 0.184), (0.5, 0.5, 0.816))),
             (29, ((0.0, 0.0, 0.0), (0.0, 0.0, 0.355), (0.0, 0.0, 0.645))),
             (8, ((0.0, 0.5, 0.0), (0.5, 0.0, 0.378), (0.5, 0.0, 0.622), (0.0, 0.5, 0.378),
                  (0.0, 0.5, 0.622), (0.0, 0.0, 0.158), (0.0, 0.0, 0.842)))),
    _crystal("Sr2RuO4", (3.87, 3.87, 12.74), RIGHT, (44, ORIGIN),
             (38, ((0.0, 0.0, 0.353), (0.0, 0.0, 0.647))),
             (8, ((0.5, 0.0, 0.0), (0.0, 0.5, 0.0), (0.0, 0.0, 0.162), (0.0, 0.0, 0.838))),
             centring=BCC),
    _cubic("Nb3Sn", 5.29, (50, BCC),
           (41, ((0.25, 0.0, 0.5), (0.75, 0.0, 0.5), (0.5, 0.25, 0.0), (0.5, 0.75, 0.0),
                 (0.0, 0.5, 0.25), (0.0, 0.5, 0.75)))),
    _cubic("Co2MnSi", 5.65, (25, ORIGIN), (14, ((0.5, 0.5, 0.5),)),
           (27, ((0.25, 0.25, 0.25), (0.75, 0.75, 0.75))), centring=FCC),
    _cubic("Fe3O4", 8.39, (26, ((0.125, 0.125, 0.125), (0.875, 0.875, 0.875))),
           (26, ((0.5, 0.5, 0.5), (0.5, 0.25, 0.25), (0.25, 0.5, 0.25), (0.25, 0.25, 0.5))),
           (8, ((0.255, 0.255, 0.255), (0.255, 0.995, 0.995), (0.995, 0.255, 0.995),
                (0.995, 0.995, 0.255), (0.745, 0.745, 0.745), (0.745, 0.005, 0.005),
                (0.005, 0.745, 0.005), (0.005, 0.005, 0.745))), centring=FCC),
    _crystal("alpha-quartz", (4.91, 4.91, 5.40), HEX,
             (14, ((0.47, 0.0, S), (0.0, 0.47, T), (0.53, 0.53, 0.0))),
             (8, ((0.41, 0.27, 0.786), (0.73, 0.14, 0.453), (0.86, 0.59, 0.119),
                  (0.27, 0.41, 0.214), (0.14, 0.73, 0.547), (0.59, 0.86, 0.881)))),
    _crystal("MgB2", (3.09, 3.09, 3.52), HEX, (12, ORIGIN), (5, ((T, S, 0.5), (S, T, 0.5)))),
    _crystal("LaB6", (4.16, 4.16, 4.16), RIGHT, (57, ORIGIN),
             (5, ((0.2, 0.5, 0.5), (0.8, 0.5, 0.5), (0.5, 0.2, 0.5), (0.5, 0.8, 0.5),
                  (0.5, 0.5, 0.2), (0.5, 0.5, 0.8)))),
)  # fmt: skip
"""Prototypes seen in training. Textbook cells: a tenth of an angstrom does not matter here.
Perovskites, olivines, pyrites and silicon nitrides are left out: the score table uses them."""

ZONES: tuple[tuple[int, int, int], ...] = (
    (0, 0, 1), (1, 0, 0), (0, 1, 0), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1), (1, -1, 0),
    (2, 1, 0), (1, 1, 2), (2, 1, 1), (1, 2, 0), (3, 1, 0), (2, 2, 1),
)  # fmt: skip


def projected(crystal: Crystal, zone: tuple[int, int, int]) -> Motif:
    """The crystal along the lattice direction `zone`; atoms nearer than 0.2 angstrom merge.

    A column's height is the sum of Z**1.7 of its atoms, as annular dark field goes.
    """
    vectors = crystal.vectors()
    along = np.asarray(zone, float) @ vectors
    along /= np.linalg.norm(along)
    helper = np.eye(3)[int(np.argmin(np.abs(along)))]
    x_axis = np.cross(helper, along)
    x_axis /= np.linalg.norm(x_axis)
    plane = np.stack([np.cross(along, x_axis), x_axis], axis=1)
    cell = _shortest_basis(vectors @ plane)
    inverse = np.linalg.inv(cell)
    columns: list[tuple[NDArray[np.float64], float]] = []
    for z, place in crystal.atoms:
        position = (np.asarray(place) @ vectors @ plane) @ inverse % 1.0
        for n, (seen, height) in enumerate(columns):
            apart = position - seen
            apart -= np.round(apart)
            if np.linalg.norm(apart @ cell) < 0.2:
                columns[n] = (seen, height + z**1.7)
                break
        else:
            columns.append((position, float(z) ** 1.7))
    heights = np.array([height for _, height in columns])
    return Motif(cell, np.array([seen for seen, _ in columns]), heights / heights.max())


def _shortest_basis(projections: Vectors) -> Vectors:
    """Reduced basis (2, 2) of the plane lattice that three projected cell vectors generate."""
    steps = np.array(list(itertools.product(range(-4, 5), repeat=3)))
    points = steps @ projections
    lengths = np.linalg.norm(points, axis=1)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 1e-3]
    first = points[order[0]]
    for n in order[1:]:
        second = points[n]
        if abs(first[0] * second[1] - first[1] * second[0]) > 1e-3:
            return np.array([first, second])
    raise ValueError("the projected vectors lie on one line")


@cache
def library() -> tuple[Motif, ...]:
    """Every prototype along every zone axis that leaves at most 40 columns in a cell."""
    motifs = [projected(crystal, zone) for crystal in CRYSTALS for zone in ZONES]
    return tuple(m for m in motifs if len(m.heights) <= 40 and m.spacing > 0.45)


def invented(rng: np.random.Generator) -> Motif:
    """A plane lattice of any shape with one to eight columns of any strength in its cell."""
    ratio = np.exp(rng.uniform(0.0, 1.1))
    kind = rng.integers(4)
    angle = np.deg2rad((90.0, 120.0, 90.0, rng.uniform(55.0, 125.0))[kind])
    cell = np.array([[0.0, 1.0], [ratio * np.sin(angle), ratio * np.cos(angle)]])
    if kind in (0, 1):
        cell[1] /= ratio
    wanted = 1 + int(rng.integers(8) if rng.random() < 0.7 else 0)
    places: list[NDArray[np.float64]] = []
    nearest = rng.uniform(0.25, 0.8) * np.sqrt(abs(np.linalg.det(cell)) / wanted)
    for _ in range(8 * wanted):
        place = rng.random(2)
        apart = [np.linalg.norm((d - np.round(d)) @ cell) for d in (place - p for p in places)]
        if len(places) < wanted and all(d > nearest for d in apart):
            places.append(place)
    heights = np.exp(-rng.exponential(rng.uniform(0.0, 1.0), len(places)))
    return Motif(3.0 * cell, np.array(places), heights / heights.max())
