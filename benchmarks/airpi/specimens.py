"""The specimens of the phase table, none of which the network is trained on in these settings.

Each is made for a square of side x side angstrom with its middle at side / 2, so that a larger
side shows more of the same specimen. Places are z, y, x in angstrom, z from 0 up.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from training.airpi.potential import Atoms
from training.airpi.specimens import along, cut_out
from training.restoration.structures import HEX, Crystal

F64 = NDArray[np.float64]
RIGHT = (90.0, 90.0, 90.0)
THIRD, TWO_THIRDS = 1.0 / 3.0, 2.0 / 3.0

MOS2 = Crystal("MoS2", (3.16, 3.16, 6.15), HEX, (
    (42, (0.0, 0.0, 0.26)), (16, (THIRD, TWO_THIRDS, 0.006)), (16, (THIRD, TWO_THIRDS, 0.514)),
))  # fmt: skip
"""One layer a cell: S 1.56 angstrom below and above Mo, layers 6.15 angstrom apart."""
SRTIO3 = Crystal("SrTiO3", (3.905, 3.905, 3.905), RIGHT, (
    (38, (0.0, 0.0, 0.0)), (22, (0.5, 0.5, 0.5)),
    (8, (0.5, 0.5, 0.0)), (8, (0.5, 0.0, 0.5)), (8, (0.0, 0.5, 0.5)),
))  # fmt: skip
MGO = Crystal("MgO", (4.212, 4.212, 4.212), RIGHT, tuple(
    (number, ((x + shift) % 1.0, y, z))
    for number, shift in ((12, 0.0), (8, 0.5))
    for x, y, z in ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))
))  # fmt: skip
GOLD = Crystal("gold", (4.078, 4.078, 4.078), RIGHT, tuple(
    (79, place) for place in ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))
))  # fmt: skip
GRAPHENE = Crystal("graphene", (2.46, 2.46, 3.35), HEX, (
    (6, (THIRD, TWO_THIRDS, 0.01)), (6, (TWO_THIRDS, THIRD, 0.01)),
))  # fmt: skip
ELEMENTS = (74, 8, 30, 53, 6, 47, 17, 82, 22, 5, 92, 14, 38, 11, 26, 56)
"""Of the single atoms, in no order that follows the place."""
ATOM_SPACING = 4.0


def turned(degrees: float) -> F64:
    """Rotation in the plane as rows x, y, z."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])


def joined(*parts: Atoms) -> Atoms:
    """All of them, lowest atom at z = 0."""
    numbers = np.concatenate([part.numbers for part in parts])
    places = np.concatenate([part.places for part in parts])
    if numbers.size:
        places[:, 0] -= places[:, 0].min()
    return Atoms(numbers, places)


def mos2_bilayer(side: float, twist_deg: float = 9.0) -> Atoms:
    """Two layers of MoS2, one turned against the other."""
    origin = np.array([0.13, 0.41, 1e-9])
    height = 0.999 * MOS2.lengths[2]
    low = cut_out(MOS2, turned(4.0), side, height, origin)
    high = cut_out(MOS2, turned(4.0 + twist_deg), side, height, origin)
    lifted = high.places + np.array([MOS2.lengths[2], 0.0, 0.0])
    return joined(low, Atoms(high.numbers, lifted))


def strontium_titanate(side: float, cells: int = 5) -> Atoms:
    """SrTiO3 along [001], `cells` cells thick."""
    thickness = cells * SRTIO3.lengths[2] - 0.01
    return joined(cut_out(SRTIO3, turned(11.0), side, thickness, np.array([0.2, 0.37, 1e-9])))


def magnesia(side: float) -> Atoms:
    """MgO along [110], columns of Mg and of O side by side, 15 angstrom thick."""
    turn = turned(17.0) @ along(MGO, (1, 1, 0))
    return joined(cut_out(MGO, turn, side, 15.0, np.array([0.11, 0.23, 0.05])))


def graphene(side: float) -> Atoms:
    """One sheet of carbon, with two vacancies near the middle."""
    sheet = cut_out(GRAPHENE, turned(7.0), side, 3.0, np.array([0.1, 0.3, 1e-9]))
    from_middle = sheet.places[:, 1:] - side / 2
    gone = [
        int(np.argmin(np.hypot(*(from_middle - np.array(place)).T)))
        for place in ((1.5, -1.0), (-2.0, 1.7))
    ]
    keep = np.ones(sheet.numbers.size, np.bool_)
    keep[gone] = False
    return joined(Atoms(sheet.numbers[keep], sheet.places[keep]))


def gold_wedge(side: float) -> Atoms:
    """Gold along [110], from nothing at the left of the scan to 25 angstrom at its right."""
    turn = turned(0.0) @ along(GOLD, (1, 1, 0))
    block = cut_out(GOLD, turn, side, 25.0, np.array([0.02, 0.04, 0.06]))
    x = block.places[:, 2] - side / 2
    keep = block.places[:, 0] < 25.0 * (x + 3.5) / 7.5
    return joined(Atoms(block.numbers[keep], block.places[keep]))


def sodalite(side: float) -> Atoms:
    """The silica framework of sodalite (SOD, Im-3m, a = 8.965 angstrom) along [001], one cell.

    Si at 12d (0, 1/4, 1/2), O at 24h (0, y, y) with y = 0.3534 (Baerlocher, McCusker, Olson,
    Atlas of Zeolite Framework Types, 6th ed.).
    """
    from ase.spacegroup import crystal

    cell = crystal(["Si", "O"], [(0.0, 0.25, 0.5), (0.0, 0.3534, 0.3534)], spacegroup=229,
                   cellpar=[8.965, 8.965, 8.965, 90, 90, 90])  # fmt: skip
    atoms = tuple(
        (int(number), tuple(float(x) for x in place))
        for number, place in zip(cell.numbers, cell.get_scaled_positions(), strict=True)
    )
    framework = Crystal("sodalite", (8.965, 8.965, 8.965), RIGHT, atoms)  # type: ignore[arg-type]
    return joined(cut_out(framework, turned(21.0), side, 8.965, np.array([0.4, 0.15, 0.01])))


def single_atoms(side: float) -> Atoms:
    """Sixteen elements, `ELEMENTS`, on a square lattice of 4 x 4 about the middle."""
    line = (np.arange(4) - 1.5) * ATOM_SPACING + side / 2
    y, x = np.meshgrid(line, line, indexing="ij")
    places = np.stack([np.zeros(16), y.ravel(), x.ravel()], axis=1)
    return Atoms(np.array(ELEMENTS, np.int64), places)


def vacuum(side: float) -> Atoms:
    """Nothing."""
    return Atoms(np.zeros(0, np.int64), np.zeros((0, 3)))
