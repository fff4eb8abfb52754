"""Specimens of every class for the scores, laid out for the virtual microscope.

The tables of the microscope have few elements: scattering factors of the others are abTEM's.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from stemd.virtual import scattering, specimen
from stemd.virtual.specimen import Atoms, Box, Crystal

OTHERS = {"B": 5, "C": 6, "N": 7, "Mg": 12, "Si": 14, "Ga": 31, "Se": 34, "Pt": 78, "W": 74}
PER_VOLUME = {"C": 0.1, "O": 0.07, "Si": 0.05}
"""Atoms a cubic angstrom of what has no lattice: carbon of 2 g/cm^3."""
MARGIN = 40.0
"""Angstrom by which a specimen without a lattice reaches beyond the scan."""
HBN = Crystal(
    ((0.0, 2.504), (2.504 * math.sqrt(3) / 2, 2.504 / 2)),
    (("B", 0.0, 0.0, 1.0), ("N", 1 / 3, 1 / 3, 1.0)),
    3.33,
)
"""One sheet of hexagonal boron nitride."""
WSE2 = Crystal(
    ((0.0, 3.282), (3.282 * math.sqrt(3) / 2, 3.282 / 2)),
    (("W", 0.0, 0.0, 1.0), ("Se", 1 / 3, 1 / 3, 2.0)),
    6.5,
)
"""One sheet of tungsten diselenide."""
MAGNESIA = Crystal(
    ((4.212 / 2, 4.212 / 2), (-4.212 / 2, 4.212 / 2)),
    (("Mg", 0.0, 0.0, 1.0), ("O", 0.0, 0.0, 1.0), ("Mg", 0.5, 0.5, 1.0), ("O", 0.5, 0.5, 1.0)),
    8.424,
)
"""Magnesium oxide along [001]: columns of both atoms in turn."""
RUTILE = Crystal(
    ((4.594, 0.0), (0.0, 4.594)),
    (
        ("Ti", 0.0, 0.0, 1.0), ("Ti", 0.5, 0.5, 1.0), ("O", 0.305, 0.305, 1.0),
        ("O", 0.695, 0.695, 1.0), ("O", 0.805, 0.195, 1.0), ("O", 0.195, 0.805, 1.0),
    ),
    2.959,
)  # fmt: skip
"""Titanium dioxide along [001], u = 0.305."""
SILICON = Crystal(
    ((5.431, 0.0), (0.0, 3.840)),
    (("Si", 0.0, 0.0, 1.0), ("Si", 0.25, 0.0, 1.0), ("Si", 0.5, 0.5, 1.0), ("Si", 0.75, 0.5, 1.0)),
    3.840,
)
"""Silicon along [110]: dumbbells of 1.36 angstrom."""
GALLIUM_NITRIDE = Crystal(
    ((0.0, 3.189), (3.189 * math.sqrt(3) / 2, 3.189 / 2)),
    (("Ga", 0.0, 0.0, 1.0), ("N", 0.0, 0.0, 1.0), ("Ga", 1 / 3, 1 / 3, 1.0),
     ("N", 1 / 3, 1 / 3, 1.0)),
    5.185,
)  # fmt: skip
"""Gallium nitride along [0001]."""

Maker = Callable[[tuple[float, float], float], Callable[[Box], Sequence[Atoms]]]


def sodalite() -> Crystal:
    """Silica framework SOD along [001], a = 8.965 angstrom: Si at 12d, O at 24h with y = 0.3534
    of Im-3m (Baerlocher, McCusker, Olson, Atlas of Zeolite Framework Types, 6th ed.).
    """
    y = 0.3534
    silicon = [(0.25, 0.0), (0.75, 0.0), (0.5, 0.25), (0.5, 0.75), (0.0, 0.5), (0.0, 0.5)]
    signs = list(itertools.product((y, -y), repeat=2))
    oxygen = [(0.0, b) for b, _ in signs] + [(a, 0.0) for a, _ in signs] + signs
    sites = [("Si", *place) for place in silicon] + [("O", *place) for place in oxygen]
    centred = [(name, u + 0.5, v + 0.5) for name, u, v in sites]
    return Crystal(
        ((8.965, 0.0), (0.0, 8.965)),
        tuple((name, u % 1.0, v % 1.0, 1.0) for name, u, v in sites + centred),
        8.965,
    )


def crystal(of: Crystal, angle_deg: float) -> Maker:
    """As many cells as the thickness has, turned in the plane."""
    return lambda field, thickness: lambda box: of.fill(box, thickness / of.height, angle_deg)


def glass(element: str, seed: int) -> Maker:
    """Atoms of one element at random."""

    def make(field: tuple[float, float], thickness: float) -> Callable[[Box], Sequence[Atoms]]:
        rng = np.random.default_rng(seed)
        height, width = (side + 2 * MARGIN for side in field)
        count = int(height * width * thickness * PER_VOLUME[element])
        y = rng.uniform(-MARGIN, height - MARGIN, count)
        x = rng.uniform(-MARGIN, width - MARGIN, count)
        atoms = Atoms(element, y, x, np.ones(count, np.float32))
        return lambda box: [atoms]

    return make


def silica(field: tuple[float, float], thickness: float) -> Callable[[Box], Sequence[Atoms]]:
    """Silicon and oxygen at random."""
    both = [glass(element, 31)(field, share * thickness) for element, share in (("Si", 0.45),
            ("O", 0.65))]  # fmt: skip
    return lambda box: [atoms for each in both for atoms in each(box)]


def atoms_on_carbon(
    field: tuple[float, float], thickness: float
) -> Callable[[Box], Sequence[Atoms]]:
    """Single atoms of platinum, one to 40 square angstrom, on carbon."""
    carbon = glass("C", 9)(field, thickness)
    rng = np.random.default_rng(91)
    height, width = (side + 2 * MARGIN for side in field)
    count = int(height * width / 40.0)
    y = rng.uniform(-MARGIN, height - MARGIN, count)
    x = rng.uniform(-MARGIN, width - MARGIN, count)
    single = Atoms("Pt", y, x, np.ones(count, np.float32))
    return lambda box: [*carbon(box), single]


def particle_on_carbon(
    field: tuple[float, float], thickness: float
) -> Callable[[Box], Sequence[Atoms]]:
    """A gold particle, as high as it is wide, at most 20 angstrom, on carbon."""
    carbon = glass("C", 5)(field, thickness)
    middle, radius = (0.45 * field[0], 0.55 * field[1]), min(0.3 * min(field), 10.0)

    def atoms(box: Box) -> list[Atoms]:
        y0, x0 = (place - radius for place in middle)
        y1, x1 = (place + radius for place in middle)
        groups = list(carbon(box))
        for gold in specimen.GOLD.fill((y0, x0, y1, x1), 1.0, angle_deg=17.0):
            r2 = ((gold.y - middle[0]) ** 2 + (gold.x - middle[1]) ** 2) / radius**2
            keep = r2 < 1.0
            high: NDArray[np.float64] = 2 * radius * np.sqrt(np.clip(1.0 - r2, 0.0, 1.0))
            weight = (gold.weight * high / specimen.GOLD.height)[keep].astype(np.float32)
            groups.append(Atoms("Au", gold.y[keep], gold.x[keep], weight))
        return groups

    return atoms


def register() -> None:
    """Have the virtual microscope know them."""
    from training.airpi.potential import lobato_table

    table = lobato_table()
    for name, number in OTHERS.items():
        a, b = table[number]
        coefficients = tuple(map(float, a)), tuple(map(float, b))
        scattering.LOBATO.setdefault(name, coefficients)  # type: ignore[arg-type]
    for name, summary, maker in (
        ("hbn", "hexagonal boron nitride", crystal(HBN, 8.0)),
        ("sodalite", "a zeolite", crystal(sodalite(), 21.0)),
        ("carbon", "carbon atoms at random", glass("C", 78)),
        ("amorphous", "oxygen atoms at random", glass("O", 77)),
        ("particle_on_carbon", "a gold particle on carbon", particle_on_carbon),
        ("wse2", "a sheet of tungsten diselenide", crystal(WSE2, 13.0)),
        ("mgo", "magnesium oxide [001]", crystal(MAGNESIA, 5.0)),
        ("rutile", "titanium dioxide [001]", crystal(RUTILE, 31.0)),
        ("silicon", "silicon [110]", crystal(SILICON, 17.0)),
        ("gan", "gallium nitride [0001]", crystal(GALLIUM_NITRIDE, 9.0)),
        ("silica", "silicon and oxygen at random", silica),
        ("atoms_on_carbon", "single platinum atoms on carbon", atoms_on_carbon),
    ):
        specimen.SPECIMENS.setdefault(name, (summary, maker))
