"""Random specimens: crystals along any axis, sheets, glasses, edges and nothing at all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from training.airpi.potential import Atoms
from training.restoration.structures import CRYSTALS, HEX, Crystal

F64 = NDArray[np.float64]

ZONES = ((1, 1, 0), (0, 1, 1), (1, 0, 1), (0, 0, 1), (1, 0, 0), (0, 1, 0), (1, 1, 1))
"""Of thesis table 4.1."""
THICKEST_ANGSTROM = 30.0
MOST_ATOMS = 60_000
"""A specimen of more is made thinner: the largest fields would take seconds."""
NOBLE = (2, 10, 18, 36, 54)
HEAVIEST = 92
LIGHTEST = 20
"""Elements up to it are light."""
LIGHT = 0.6
"""Part of the sheets and glasses that are of light elements alone."""
HELD_OUT = ({42, 16}, {38, 22, 8}, {12, 8}, {6}, {79}, {14, 8}, {5, 7})
"""Elements of MoS2, SrTiO3, MgO, graphene, gold, silica and boron nitride: those of the scores."""


@dataclass(frozen=True, slots=True)
class Specimen:
    """`atoms` within a square of the field of view, and what `kind` they were drawn as."""

    kind: str
    atoms: Atoms


NOTHING = Atoms(np.zeros(0, np.int64), np.zeros((0, 3)))

T, S = 1.0 / 3.0, 2.0 / 3.0
SHEETS: tuple[Crystal, ...] = (
    Crystal("1H", (3.2, 3.2, 6.4), HEX, ((74, (0.0, 0.0, 0.25)), (34, (T, S, 0.005)),
                                         (34, (T, S, 0.495)))),
    Crystal("1T", (3.4, 3.4, 6.0), HEX, ((40, (0.0, 0.0, 0.24)), (34, (T, S, 0.0)),
                                         (34, (S, T, 0.48)))),
    Crystal("honeycomb", (2.5, 2.5, 3.33), HEX, ((5, (T, S, 0.0)), (7, (S, T, 0.0)))),
    Crystal("monochalcogenide", (3.75, 3.75, 8.0), HEX,
            ((31, (0.0, 0.0, 0.14)), (31, (0.0, 0.0, 0.45)), (34, (T, S, 0.0)),
             (34, (T, S, 0.59)))),
)  # fmt: skip
"""Sheets seen along c, one a cell."""


def specimen(side: float, rng: np.random.Generator) -> Specimen:
    """A random specimen for a field of view of side x side angstrom, z from 0 up."""
    kind = str(rng.choice(["crystal", "sheets", "glass", "vacuum"], p=[0.4, 0.27, 0.3, 0.03]))
    if kind == "vacuum":
        return Specimen(kind, NOTHING)
    make = {"crystal": _crystal, "sheets": _sheets, "glass": _glass}[kind]
    atoms = make(side, rng)
    if rng.random() < 0.2:
        atoms = _cut(atoms, side, rng)
        kind += " with an edge"
    places = atoms.places.copy()
    places[:, 0] -= places[:, 0].min(initial=np.inf) if places.size else 0.0
    return Specimen(kind, Atoms(atoms.numbers, places))


def elements_up_to(heaviest: int) -> list[int]:
    """Atomic numbers of what solids are made of."""
    return [z for z in range(3, heaviest + 1) if z not in NOBLE]


def substituted(crystal: Crystal, rng: np.random.Generator, heaviest: int = HEAVIEST) -> Crystal:
    """The prototype with other elements, up to `heaviest`, its cell scaled by their radii.

    Never one of the `HELD_OUT` compositions, and with probability 0.3 as it is, if it may be.
    """
    from ase.data import covalent_radii

    old = sorted({number for number, _ in crystal.atoms})
    if rng.random() < 0.3 and set(old) not in HELD_OUT and max(old) <= heaviest:
        return crystal
    allowed = elements_up_to(heaviest)
    while True:
        new = dict(zip(old, rng.choice(allowed, len(old), replace=False).tolist(), strict=True))
        if set(new.values()) not in HELD_OUT:
            break
    radii = [(covalent_radii[number], covalent_radii[new[number]]) for number, _ in crystal.atoms]
    scale = float(sum(r for _, r in radii) / sum(r for r, _ in radii))
    a, b, c = crystal.lengths
    return Crystal(
        crystal.name,
        (a * scale, b * scale, c * scale),
        crystal.angles,
        tuple((new[number], place) for number, place in crystal.atoms),
    )


def cut_out(crystal: Crystal, turn: F64, side: float, thickness: float, origin: F64) -> Atoms:
    """The crystal inside 0 <= z < thickness, |y| and |x| up to side / 2 about the middle.

    turn (3, 3): rows x, y, z of the specimen in the crystal's frame; `origin` (3,) in cells
    shifts the lattice. Places are z, y, x, with y and x in 0..side.
    """
    vectors = crystal.vectors() @ turn.T
    half = side / 2
    corners = np.array([[x, y, z] for x in (-half, half) for y in (-half, half)
                        for z in (0.0, thickness)])  # fmt: skip
    cells = corners @ np.linalg.inv(vectors)
    low = np.floor(cells.min(axis=0) - origin).astype(int) - 1
    high = np.ceil(cells.max(axis=0) - origin).astype(int) + 1
    steps = np.stack(
        np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(low, high, strict=True)), indexing="ij"),
        axis=-1,
    ).reshape(-1, 3)
    base = (steps + origin) @ vectors
    # whole cells far outside are thrown away before their atoms are made
    reach = float(np.linalg.norm(vectors, axis=1).sum())
    near = (np.abs(base[:, :2]) < half + reach).all(axis=1)
    near &= (base[:, 2] > -reach) & (base[:, 2] < thickness + reach)
    base = base[near]
    numbers, places = [], []
    for number, fraction in crystal.atoms:
        place = base + np.asarray(fraction) @ vectors
        keep = (place[:, :2] >= -half).all(axis=1) & (place[:, :2] < half).all(axis=1)
        keep &= (place[:, 2] >= 0.0) & (place[:, 2] < thickness)
        numbers.append(np.full(int(keep.sum()), number, np.int64))
        places.append(place[keep][:, ::-1] + np.array([0.0, half, half]))
    return Atoms(np.concatenate(numbers), np.concatenate(places))


def along(crystal: Crystal, zone: tuple[int, int, int]) -> F64:
    """Rotation (3, 3), rows x, y, z: z along the lattice direction `zone`."""
    z = np.asarray(zone, float) @ crystal.vectors()
    z /= np.linalg.norm(z)
    x = np.cross(np.eye(3)[int(np.argmin(np.abs(z)))], z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z])


def _turned(angle: float, tilt: float, towards: float) -> F64:
    """In-plane rotation after a small tilt away from z, angles in radian."""
    axis_y, axis_x = math.sin(towards), math.cos(towards)
    c, s = math.cos(tilt), math.sin(tilt)
    cross = np.array([[0.0, 0.0, axis_y], [0.0, 0.0, -axis_x], [-axis_y, axis_x, 0.0]])
    lean = np.eye(3) + s * cross + (1 - c) * cross @ cross
    plane = np.array([[math.cos(angle), math.sin(angle), 0.0],
                      [-math.sin(angle), math.cos(angle), 0.0], [0.0, 0.0, 1.0]])  # fmt: skip
    return plane @ lean


def _thinned(thickness: float, crystal: Crystal, side: float) -> float:
    volume = abs(float(np.linalg.det(crystal.vectors())))
    return min(thickness, MOST_ATOMS * volume / len(crystal.atoms) / side**2)


def _crystal(side: float, rng: np.random.Generator) -> Atoms:
    crystal = substituted(CRYSTALS[int(rng.integers(len(CRYSTALS)))], rng)
    zone = ZONES[int(rng.integers(len(ZONES)))]
    tilt = float(abs(rng.normal(0.0, math.radians(0.5))))
    turn = _turned(rng.uniform(0, 2 * math.pi), tilt, rng.uniform(0, 2 * math.pi))
    thickness = _thinned(rng.uniform(2.0, THICKEST_ANGSTROM), crystal, side)
    return cut_out(crystal, turn @ along(crystal, zone), side, thickness, rng.random(3))


def _sheets(side: float, rng: np.random.Generator) -> Atoms:
    numbers, places = [], []
    heaviest = LIGHTEST if rng.random() < LIGHT else HEAVIEST
    base = substituted(SHEETS[int(rng.integers(len(SHEETS)))], rng, heaviest)
    floor, angle = 0.0, rng.uniform(0, 2 * math.pi)
    for _ in range(int(rng.integers(1, 4))):
        # one cell along c, begun so that no sheet is cut in two
        origin = np.array([rng.random(), rng.random(), 1e-6])
        height = base.lengths[2]
        sheet = cut_out(base, _turned(angle, 0.0, 0.0), side, 0.999 * height, origin)
        if floor + np.ptp(sheet.places[:, 0]) > THICKEST_ANGSTROM:
            break
        numbers.append(sheet.numbers)
        places.append(sheet.places + np.array([floor, 0.0, 0.0]))
        floor += height
        if rng.random() < 0.5:
            angle += math.radians(rng.uniform(0.0, 30.0))
        if rng.random() < 0.3:
            base = substituted(SHEETS[int(rng.integers(len(SHEETS)))], rng, heaviest)
    atoms = Atoms(np.concatenate(numbers), np.concatenate(places))
    if rng.random() < 0.3:  # vacancies
        keep = rng.random(atoms.numbers.size) > rng.uniform(0.0, 0.1)
        atoms = Atoms(atoms.numbers[keep], atoms.places[keep])
    return atoms


def _glass(side: float, rng: np.random.Generator) -> Atoms:
    from ase.data import covalent_radii

    allowed = elements_up_to(LIGHTEST if rng.random() < LIGHT else HEAVIEST)
    elements = rng.choice(allowed, int(rng.integers(1, 4)), replace=False)
    while set(elements.tolist()) in HELD_OUT:
        elements = rng.choice(allowed, int(rng.integers(1, 4)), replace=False)
    nearest = 2.0 * float(np.mean([covalent_radii[z] for z in elements])) * rng.uniform(0.9, 1.1)
    thickness = min(rng.uniform(2.0, THICKEST_ANGSTROM), MOST_ATOMS * nearest**3 / side**2)
    size = np.array([thickness, side, side])
    tries = rng.random((int(3 * size.prod() / nearest**3) + 1, 3)) * size
    places = tries[apart(tries, nearest)]
    shares = rng.dirichlet(np.ones(elements.size))
    numbers = rng.choice(elements, places.shape[0], p=shares).astype(np.int64)
    return Atoms(numbers, places)


@numba.njit(nogil=True, cache=True)
def apart(points: F64, nearest: float) -> Any:
    """Which points (n, 3) are kept, taken in turn, so that none is nearer than `nearest`."""
    cell = nearest / math.sqrt(3.0)  # holds at most one point
    count = np.empty(3, np.int64)
    for axis in range(3):
        count[axis] = int(points[:, axis].max() / cell) + 1
    held = np.full((count[0], count[1], count[2]), -1, np.int32)
    keep = np.zeros(points.shape[0], np.bool_)
    for n in range(points.shape[0]):
        a, b, c = (int(points[n, 0] / cell), int(points[n, 1] / cell), int(points[n, 2] / cell))
        free = True
        for i in range(max(0, a - 2), min(count[0], a + 3)):
            for j in range(max(0, b - 2), min(count[1], b + 3)):
                for k in range(max(0, c - 2), min(count[2], c + 3)):
                    other = held[i, j, k]
                    if other >= 0:
                        d2 = 0.0
                        for axis in range(3):
                            d2 += (points[n, axis] - points[other, axis]) ** 2
                        if d2 < nearest * nearest:
                            free = False
        if free:
            held[a, b, c] = n
            keep[n] = True
    return keep


def _cut(atoms: Atoms, side: float, rng: np.random.Generator) -> Atoms:
    """Only what is on one side of a random line near the middle, a straight or a slanted edge."""
    angle, offset = rng.uniform(0, 2 * math.pi), rng.normal(0.0, 0.1 * side)
    slope = rng.choice([0.0, rng.uniform(0.0, 3.0)])
    y, x = atoms.places[:, 1] - side / 2, atoms.places[:, 2] - side / 2
    keep = y * math.sin(angle) + x * math.cos(angle) > offset + slope * atoms.places[:, 0]
    return Atoms(atoms.numbers[keep], atoms.places[keep])
