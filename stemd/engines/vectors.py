"""From integer maps to centre-of-mass vectors: centre, flip and rotation (docs/conventions.md)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Optics
from stemd.engines.base import PositionMaps, Positions
from stemd.engines.kernels.scan_vectors import scan_vectors

F64 = NDArray[np.float64]

DESCAN_SIDE = 8
LEAST_DESCAN = 0.1
"""Pixels across the scan that do not matter."""
DESCAN_MOST = 1 << 18
"""Positions that are fitted at most."""
DESCAN_TURNS = 8
DESCAN_SHARED = 16.0
"""Positions that tell the same: the probe and the specimen's detail are wider than a step."""
FIELD_SIDE = 1024
"""Lines and columns of a field that is looked at as a whole: of 4096 x 4096 positions it would take
some 130 MB for each step of a calculation, and says nothing that its middle does not."""
STRETCH = 1 << 18
"""Positions whose vectors are in memory at once where an image needs them all."""


def centre_of_mass(maps: PositionMaps, first: int = 0, stop: int | None = None) -> tuple[F64, F64]:
    """COM (y, x) of positions first..stop-1 in detector pixels from pixel (0, 0).

    Thesis eq. 3.1: com = sum k I / sum I. NaN where a position is not done or has no counts.
    """
    part = slice(first, stop)
    counts = np.where(maps.done[part] & (maps.total[part] > 0), maps.total[part], np.nan)
    return maps.moment_y[part] / counts, maps.moment_x[part] / counts


def resolve_centre(
    maps: PositionMaps,
    optics: Optics,
    detector_shape: tuple[int, int],
    runs: Sequence[Positions] | None = None,
) -> tuple[float, float]:
    """The zero of the COM (y, x) in detector pixels.

    Given, or with "auto" the mean COM of all positions done that have counts (the geometric
    centre of the detector while there is none). `runs`: all positions that are done are in these.
    """
    if optics.center != "auto":
        return (float(optics.center[0]), float(optics.center[1]))
    sums, count = np.zeros(2), 0
    for part in _parts(maps, runs):
        com_y, com_x = centre_of_mass(maps, *part)
        known = np.isfinite(com_y)
        sums += com_y[known].sum(), com_x[known].sum()
        count += int(np.count_nonzero(known))
    if not count:
        return ((detector_shape[0] - 1) / 2, (detector_shape[1] - 1) / 2)
    return (float(sums[0] / count), float(sums[1] / count))


def shifts(
    maps: PositionMaps, centre: tuple[float, float], first: int = 0, stop: int | None = None
) -> tuple[F64, F64]:
    """COM minus centre (y, x) in detector axes and pixels; 0 where nothing is known."""
    com_y, com_x = centre_of_mass(maps, first, stop)
    return np.nan_to_num(com_y - centre[0]), np.nan_to_num(com_x - centre[1])


def middle_shifts(
    maps: PositionMaps, centre: tuple[float, float], lines: int | None = None
) -> tuple[F64, F64]:
    """`shifts` as a field (ny, nx) of the first `lines` lines, None: of all; of more than
    `FIELD_SIDE` lines or columns those in the middle.
    """
    rows, columns = (
        slice((n - min(n, FIELD_SIDE)) // 2, (n + min(n, FIELD_SIDE)) // 2)
        for n in (maps.shape[0] if lines is None else lines, maps.shape[1])
    )
    y, x = np.empty((2, rows.stop - rows.start, columns.stop - columns.start))
    for at, row in enumerate(range(rows.start, rows.stop)):
        first = row * maps.shape[1]
        y[at], x[at] = shifts(maps, centre, first + columns.start, first + columns.stop)
    return y, x


def to_scan_axes(shift_y: F64, shift_x: F64, optics: Optics) -> tuple[F64, F64]:
    """Turn vectors (y, x) from detector axes into scan axes.

    First the transpose if `flip`, then the rotation by theta = `rotation_deg`, counter-clockwise
    as displayed with y down: x' = x cos + y sin, y' = -x sin + y cos.
    """
    if optics.flip:
        shift_y, shift_x = shift_x, shift_y
    cos = math.cos(math.radians(optics.rotation_deg))
    sin = math.sin(math.radians(optics.rotation_deg))
    return -shift_x * sin + shift_y * cos, shift_x * cos + shift_y * sin


@dataclass(frozen=True, slots=True)
class Descan:
    """How the undiffracted beam wanders over the detector while the scan goes on.

    `across` (2, 2): by how many pixels its place (rows: y, x) changes from one end of the scan to
    the other (columns: along y, along x); `sigma` (2,): standard error of each column. `middle`
    (y, x): its place at the scan's middle.
    """

    across: F64
    sigma: F64
    middle: tuple[float, float]

    @property
    def clear(self) -> F64:
        """`across` where it is there beyond chance, and large enough to matter; else 0."""
        sure = (np.abs(self.across) > np.maximum(4.0 * self.sigma, LEAST_DESCAN)).any(axis=0)
        return np.where(sure, self.across, 0.0)


def descan_of(maps: PositionMaps) -> Descan | None:
    """The plane through the centre of mass of all positions, by least squares.

    Iterated with Tukey's biweight, so that a particle at the edge counts less. None where fewer
    than DESCAN_SIDE lines or columns have counts.
    """
    ny, nx = maps.shape
    # an odd step does not always meet the same columns
    step = slice(None, None, maps.total.size // DESCAN_MOST | 1)
    flat = np.flatnonzero(maps.done[step] & (maps.total[step] > 0)) * step.step
    rows, columns = np.divmod(flat, nx)
    if min(np.unique(rows).size, np.unique(columns).size) < DESCAN_SIDE:
        return None
    at = np.column_stack(
        [np.ones(flat.size), rows / max(1, ny - 1) - 0.5, columns / max(1, nx - 1) - 0.5]
    )
    total = maps.total[flat]
    values = np.stack([maps.moment_y[flat] / total, maps.moment_x[flat] / total], axis=1)
    weight = np.ones(flat.size)
    plane: F64 = np.zeros((3, 2))
    for _ in range(DESCAN_TURNS):
        found = np.linalg.lstsq(at * weight[:, None], values * weight[:, None], rcond=None)
        plane = np.asarray(found[0], np.float64)
        apart = np.hypot(*(values - at @ plane).T)
        scale = 6.0 * max(float(np.median(apart)), 1e-9)
        weight = np.clip(1.0 - (apart / scale) ** 2, 0.0, None)
    scatter = float(np.sqrt(((values - at @ plane) ** 2).mean()))
    spread = np.maximum(at[:, 1:].std(axis=0), 1e-9)
    sigma = scatter * math.sqrt(DESCAN_SHARED / flat.size) / spread
    return Descan(plane[1:].T.copy(), sigma, (float(plane[0, 0]), float(plane[0, 1])))


@dataclass(frozen=True, slots=True)
class Zero:
    """Where the undiffracted beam falls: what is taken out of the COM before it is integrated.

    `centre` (y, x) at the scan's middle, `across` (2, 2) as in `Descan`, 0 where there is none.
    """

    centre: tuple[float, float]
    across: F64

    def about(self) -> dict[str, list[Any]]:
        """For the description of an image."""
        about: dict[str, list[Any]] = {"center": list(self.centre)}
        if self.across.any():
            about["descan_px"] = [[round(float(part), 4) for part in row] for row in self.across]
        return about

    def apart(self, other: Zero) -> float:
        """By how many pixels two of them differ in the corner of a scan where they do most."""
        centre = np.subtract(self.centre, other.centre)
        return float(np.hypot(*(np.abs(centre) + np.abs(self.across - other.across).sum(1) / 2)))


def resolve_zero(
    maps: PositionMaps,
    optics: Optics,
    detector_shape: tuple[int, int],
    runs: Sequence[Positions] | None = None,
) -> Zero:
    """The zero of the COM that is integrated.

    As `resolve_centre`; with "auto" clear descan is in it too: a plane through the COM, which
    would become a bowl that hides the image. A centre that is given is taken as it is.
    """
    centre = resolve_centre(maps, optics, detector_shape, runs)
    found = descan_of(maps) if optics.center == "auto" else None
    across: F64 = np.zeros((2, 2)) if found is None else found.clear
    if across.any():
        middle = across @ _middle_of_known(maps, runs)
        centre = (centre[0] - float(middle[0]), centre[1] - float(middle[1]))
    return Zero(centre, across)


def _parts(maps: PositionMaps, runs: Sequence[Positions] | None) -> Iterator[Positions]:
    """The positions of these runs, or all, in parts of bounded memory."""
    for run in [(0, maps.total.size)] if runs is None else runs:
        yield from stretches(*run)


def _middle_of_known(maps: PositionMaps, runs: Sequence[Positions] | None) -> F64:
    """Where the positions with counts are in the scan on average, along y and x."""
    sums, count = np.zeros(2), 0
    for part in _parts(maps, runs):
        known = maps.done[slice(*part)] & (maps.total[slice(*part)] > 0)
        sums += [at[known].sum() for at in _in_scan(maps, *part)]
        count += int(np.count_nonzero(known))
    return np.asarray(sums / count)


def stretches(first: int, stop: int) -> Iterator[Positions]:
    """The positions first..stop-1 in parts of bounded memory."""
    for at in range(first, stop, STRETCH):
        yield at, min(at + STRETCH, stop)


def scan_lines(
    maps: PositionMaps, zero: Zero, optics: Optics
) -> Callable[[int, int], tuple[F64, F64]]:
    """A function that gives the vectors of lines first..stop-1 in scan axes, each (lines, nx)."""
    nx = maps.shape[1]

    def lines(first: int, stop: int) -> tuple[F64, F64]:
        y, x = to_scan_axes(*shifts_from(maps, zero, first * nx, stop * nx), optics)
        return y.reshape(-1, nx), x.reshape(-1, nx)

    return lines


def _in_scan(maps: PositionMaps, first: int = 0, stop: int | None = None) -> tuple[F64, F64]:
    """Where positions first..stop-1 are in the scan along y and x, each -1/2 to 1/2."""
    ny, nx = maps.shape
    rows, columns = np.divmod(np.arange(first, maps.total.size if stop is None else stop), nx)
    return rows / max(1, ny - 1) - 0.5, columns / max(1, nx - 1) - 0.5


def shifts_from(
    maps: PositionMaps, zero: Zero, first: int = 0, stop: int | None = None
) -> tuple[F64, F64]:
    """COM minus its zero (y, x) in detector axes and pixels; 0 where nothing is known."""
    if not zero.across.any():
        return shifts(maps, zero.centre, first, stop)
    com = centre_of_mass(maps, first, stop)
    at = _in_scan(maps, first, stop)
    y, x = (
        np.nan_to_num(part - middle - slope[0] * at[0] - slope[1] * at[1])
        for part, middle, slope in zip(com, zero.centre, zero.across, strict=True)
    )
    return y, x


def vectors_of(
    maps: PositionMaps, zero: Zero, optics: Optics, first: int, stop: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The vectors (y, x) of positions first..stop-1 in scan axes, float32, in one pass."""
    angle = math.radians(optics.rotation_deg)
    vectors = np.empty((2, stop - first), np.float32)
    sums = [
        np.asarray(each[first:stop], np.int64)
        for each in (maps.total, maps.moment_y, maps.moment_x)
    ]
    centre, across = zero.centre, zero.across
    slopes = (float(across[0, 0]), float(across[0, 1]), float(across[1, 0]), float(across[1, 1]))
    scan_vectors(
        *sums, maps.done[first:stop], first, maps.shape, (float(centre[0]), float(centre[1])),
        slopes, optics.flip, math.cos(angle), math.sin(angle), vectors[0], vectors[1],
    )  # fmt: skip
    return vectors[0], vectors[1]
