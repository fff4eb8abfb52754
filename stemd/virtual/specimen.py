"""Specimens as columns of atoms that can be asked for in any window.

The origin is the first probe position of the undistorted scan; y runs down, x to the right, in
angstrom. Features that are not periodic (particle, hole, dislocation) are placed relative to
the field, the height and width of the scan.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.errors import UsageError
from stemd.virtual.scattering import add_atoms, radial_potential

Box = tuple[float, float, float, float]
"""y0, x0, y1, x1 in angstrom."""

RMS_ANGSTROM = 0.08
"""Thermal displacement of an atom along one axis (thesis section 4.1)."""


@dataclass(frozen=True, slots=True)
class Atoms:
    """Columns of one element: positions in angstrom, `weight` atoms each (may be a fraction)."""

    element: str
    y: NDArray[np.float64]
    x: NDArray[np.float64]
    weight: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Specimen:
    """What lies under the beam. `atoms(box)` gives every column inside the box (and may give
    more); asked for again, a column is at the same place.
    """

    name: str
    summary: str
    atoms: Callable[[Box], Sequence[Atoms]]
    rms_angstrom: float = RMS_ANGSTROM

    def potential(
        self,
        origin: tuple[float, float],
        shape: tuple[int, int],
        pitch: float,
        g_limit: float,
        axes: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float32]:
        """Projected potential in V angstrom at origin + pitch * (i, j), band-limited to g_limit.

        `axes` (2, 2), orthogonal: the grid's own (row, column) coordinates u are at the place
        axes @ u of the specimen (y, x); `origin` is in the grid's coordinates.
        """
        turn = np.eye(2) if axes is None else axes
        size = (np.array(shape) - 1) * pitch
        corners = np.array(origin) + np.array([[0, 0], [0, 1], [1, 0], [1, 1]]) * size
        placed = corners @ turn.T
        low, high = placed.min(axis=0) - 6.0, placed.max(axis=0) + 6.0
        image = np.zeros(shape, np.float32)
        for group in self.atoms((low[0], low[1], high[0], high[1])):
            u = np.stack([group.y, group.x], axis=1) @ turn - np.array(origin)
            table = radial_potential(group.element, self.rms_angstrom, g_limit)
            add_atoms(
                image,
                np.ascontiguousarray(u[:, 0]),
                np.ascontiguousarray(u[:, 1]),
                group.weight,
                table,
                pitch,
            )
        return image


Site = tuple[str, float, float, float]
"""Element, fractional coordinates along the two cell vectors, atoms per cell of thickness."""


@dataclass(frozen=True, slots=True)
class Crystal:
    """A crystal seen along a zone axis: cell vectors (y, x) in angstrom, sites, cell height."""

    cell: tuple[tuple[float, float], tuple[float, float]]
    sites: tuple[Site, ...]
    height: float

    def fill(self, box: Box, cells: float, angle_deg: float = 0.0) -> list[Atoms]:
        """Every column inside the box, `cells` unit cells thick, turned about the origin."""
        c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
        cell = np.array(self.cell) @ np.array([[c, -s], [s, c]])
        y0, x0, y1, x1 = box
        corners = np.array([[y0, x0], [y0, x1], [y1, x0], [y1, x1]]) @ np.linalg.inv(cell)
        low = np.floor(corners.min(axis=0)).astype(int) - 1
        high = np.ceil(corners.max(axis=0)).astype(int) + 1
        i, j = np.meshgrid(
            np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1), indexing="ij"
        )
        groups = []
        for element, u, v, count in self.sites:
            place = np.stack([i.ravel() + u, j.ravel() + v], axis=1) @ cell
            y, x = place[:, 0], place[:, 1]
            inside = (y >= y0) & (y <= y1) & (x >= x0) & (x <= x1)
            weight = np.full(int(inside.sum()), count * cells, np.float32)
            groups.append(Atoms(element, y[inside], x[inside], weight))
        return groups


SRTIO3 = Crystal(
    ((3.905, 0.0), (0.0, 3.905)),
    (
        ("Sr", 0.0, 0.0, 1.0),
        ("Ti", 0.5, 0.5, 1.0),
        ("O", 0.5, 0.5, 1.0),
        ("O", 0.5, 0.0, 1.0),
        ("O", 0.0, 0.5, 1.0),
    ),
    3.905,
)
"""Cubic strontium titanate along [001], a = 3.905 angstrom."""
GOLD = Crystal(((4.078 / 2, 4.078 / 2), (-4.078 / 2, 4.078 / 2)), (("Au", 0.0, 0.0, 1.0),), 4.078)
"""Face-centred cubic gold along [001], a = 4.078 angstrom: one atom a column and cell."""
MOS2 = Crystal(
    ((0.0, 3.16), (3.16 * math.sqrt(3) / 2, 3.16 / 2)),
    (("Mo", 0.0, 0.0, 1.0), ("S", 1 / 3, 1 / 3, 2.0)),
    6.15,
)
"""One trilayer sheet of 2H molybdenum disulfide along its c axis, a = 3.16 angstrom."""


def _srtio3(field: tuple[float, float], thickness: float) -> Callable[[Box], Sequence[Atoms]]:
    return lambda box: SRTIO3.fill(box, thickness / SRTIO3.height)


def _mos2(field: tuple[float, float], thickness: float) -> Callable[[Box], Sequence[Atoms]]:
    return lambda box: MOS2.fill(box, 1.0)


def _mos2_twisted(field: tuple[float, float], thickness: float) -> Callable[[Box], Sequence[Atoms]]:
    return lambda box: MOS2.fill(box, 1.0) + MOS2.fill(box, 1.0, angle_deg=9.0)


def _vacuum(field: tuple[float, float], thickness: float) -> Callable[[Box], Sequence[Atoms]]:
    return lambda box: []


def _edge_dislocation(
    y: NDArray[np.float64], x: NDArray[np.float64], burgers: float, scale: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Displacement (y, x) by an edge dislocation at the origin, Burgers vector along +x.

    Isotropic elasticity (Hirth and Lothe, Theory of Dislocations, eqs 3-45, 3-46), Poisson's
    ratio 0.24; `scale` is the radius in angstrom at which the logarithm is zero.
    """
    nu = 0.24
    r2 = x**2 + y**2 + 1e-3
    along = np.arctan2(y, x) + x * y / (2 * (1 - nu) * r2)
    across = (1 - 2 * nu) / (4 * (1 - nu)) * np.log(r2 / scale**2) + (x**2 - y**2) / (
        4 * (1 - nu) * r2
    )
    return -burgers / (2 * math.pi) * across, burgers / (2 * math.pi) * along


def _nanoparticle(field: tuple[float, float], thickness: float) -> Callable[[Box], Sequence[Atoms]]:
    """A SrTiO3 film with a hole and an edge dislocation; a gold particle lies on it."""
    height, width = field
    short = min(height, width)
    particle_y, particle_x, particle_r = 0.33 * height, 0.30 * width, 0.23 * short
    hole_y, hole_x, hole_r = 0.27 * height, 0.76 * width, 0.15 * short
    core_y, core_x = 0.72 * height, 0.58 * width
    margin = 8.0

    def atoms(box: Box) -> list[Atoms]:
        y0, x0, y1, x1 = box
        wide = (y0 - margin, x0 - margin, y1 + margin, x1 + margin)
        groups = []
        for film in SRTIO3.fill(wide, thickness / SRTIO3.height):
            # the lattice half a cell off the core, so that no column sits on the singularity
            dy, dx = _edge_dislocation(
                film.y - core_y, film.x - core_x, SRTIO3.cell[1][1], short / 2
            )
            y, x = film.y + dy, film.x + dx
            keep = (y - hole_y) ** 2 + (x - hole_x) ** 2 > hole_r**2
            groups.append(Atoms(film.element, y[keep], x[keep], film.weight[keep]))
        around = (
            particle_y - particle_r,
            particle_x - particle_r,
            particle_y + particle_r,
            particle_x + particle_r,
        )
        for gold in GOLD.fill(around, 1.0, angle_deg=17.0):
            r2 = ((gold.y - particle_y) ** 2 + (gold.x - particle_x) ** 2) / particle_r**2
            keep = r2 < 1
            weight = gold.weight * np.sqrt(np.clip(1 - r2, 0, 1)) * thickness / GOLD.height
            groups.append(
                Atoms(gold.element, gold.y[keep], gold.x[keep], weight[keep].astype(np.float32))
            )
        return groups

    return atoms


Maker = Callable[[tuple[float, float], float], Callable[[Box], Sequence[Atoms]]]

SPECIMENS: dict[str, tuple[str, Maker]] = {
    "srtio3": ("strontium titanate [001]", _srtio3),
    "nanoparticle": (
        "strontium titanate film with a hole and an edge dislocation, a gold particle on it",
        _nanoparticle,
    ),
    "mos2": ("a single sheet of molybdenum disulfide", _mos2),
    "mos2_twisted": ("two sheets of molybdenum disulfide, twisted by 9 degrees", _mos2_twisted),
    "vacuum": ("nothing: the bare probe", _vacuum),
}


def build(
    name: str, field_angstrom: tuple[float, float], thickness_angstrom: float = 7.81
) -> Specimen:
    """The specimen of this name for a scan of this height and width. Raises UsageError."""
    if name not in SPECIMENS:
        near = difflib.get_close_matches(name, SPECIMENS, n=1)
        raise UsageError(
            f"there is no specimen {name!r}",
            (f"did you mean {near[0]!r}? " if near else "") + f"known: {', '.join(SPECIMENS)}",
        )
    summary, maker = SPECIMENS[name]
    return Specimen(name, summary, maker(field_angstrom, thickness_angstrom))
