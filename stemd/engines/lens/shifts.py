"""The lens by how far the cells' images are shifted: of scans that are smaller than the probe.

Out of focus a cell at the angle k sees the specimen M k aside, M the second derivatives of the
aberration function, turned as the camera is. The linear estimate takes a scan to be periodic, and
so believes that what a cell sees beyond one edge is what lies at the other. Where most of a cell's
image comes from beyond the edges that is wrong for every lens, and the evidence is largest for a
wrong one. What two cells have both seen lies within the scan: their correlation, over the
positions that they share, needs no border. In focus nothing is shifted and nothing is learnt.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.beam import Beam
from stemd.engines.kernels.shifted import add_shifted
from stemd.engines.lens.cells import TURN
from stemd.engines.lens.estimate import Frequencies
from stemd.engines.lens.measure import Search, StoppedError

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

POOL = 0.2
"""Width in apertures of the cells that are correlated: smaller ones are put together."""
APART = 4
"""Such widths that two of them are apart at most."""
FINEST = 1.6
"""Waves up to so many apertures are looked at."""
LEAST_SHARED = 0.25
"""Part of the scan that two shifted images must share before their correlation counts fully."""
MOST_TURN = math.radians(20.0)
"""By which the camera may be turned further than was told."""
STEP_AIRY = 0.35
"""Radii of the Airy disc by which the most distant cells are shifted between two places."""
HALVED = 4
"""Times that the steps about the best place are halved."""
MOST_PLACES = 1 << 21
"""Of the grid, of which a third are looked at, in 0.6 s. They grow with the eighth power of the
aperture."""
CHUNK = 1 << 14
"""Places at a time."""


class Shifts:
    """Correlations of the cells' images with each other.

    `counts` float32 (cells, ny, nx) at the positions `done` (ny, nx); `middles` (cells, 2): y and x
    in apertures, in scan axes.
    """

    def __init__(
        self, counts: F32, middles: F64, done: NDArray[np.bool_], beam: Beam, step_angstrom: float
    ) -> None:
        self._beam, self._step = beam, step_angstrom
        self._shape = done.shape
        at = Frequencies(np.ones([2 * n for n in done.shape], np.bool_), beam, step_angstrom)
        used = at.index[np.hypot(at.y, at.x) < FINEST]
        size = tuple(2 * n for n in done.shape)
        spectra: dict[tuple[int, int], tuple[NDArray[np.complex64], float, F64]] = {}
        places = np.floor(middles / POOL + 0.5).astype(int)
        for place in {(int(y), int(x)) for y, x in places}:
            those = np.flatnonzero((places == place).all(axis=1))
            together = counts[those].sum(axis=0, dtype=np.float64)
            mean = float(together.sum(where=done)) / max(1, int(np.count_nonzero(done)))
            if mean > 0.0:
                relative = np.where(done, together / mean - 1.0, 0.0)
                seen = np.fft.rfft2(relative, size).ravel()[used].astype(np.complex64)
                spectra[place] = seen, mean, middles[those].mean(axis=0)
        there = np.fft.rfft2(done.astype(np.float64), size)
        shared = np.fft.irfft2(np.abs(there) ** 2, size)
        shared = np.maximum(shared, LEAST_SHARED * np.count_nonzero(done))
        apart, maps, weights = [], [], []
        for dy, dx in _half_disc(APART):
            total, weight, vector = np.zeros(used.size, np.complex128), 0.0, np.zeros(2)
            for (y, x), (one, mean, middle) in spectra.items():
                other = spectra.get((y + dy, x + dx))
                if other is not None:
                    both = math.sqrt(mean * other[1])
                    total += both * one.conj() * other[0]
                    weight, vector = weight + both, vector + both * (other[2] - middle)
            if weight > 0.0:
                half = np.zeros(size[0] * (size[1] // 2 + 1), np.complex128)
                half[used] = total
                found = np.fft.irfft2(half.reshape(size[0], -1), size) / shared
                apart.append(vector / weight)
                maps.append(np.fft.fftshift(found))
                weights.append(weight)
        self._apart = np.array(apart).reshape(-1, 2)
        self._maps = np.array(maps).reshape(-1, *size)

    def place(
        self, told: Aberrations, search: Search, go_on: Callable[[], bool] = lambda: True
    ) -> tuple[F64, float] | None:
        """The place (9,) at which the shifts agree best, as of `lens.cells.Cells.evidence`, and
        how many times the scatter of all places this is above their median; None without cells.

        Limits of the search within which there are more than MOST_PLACES are drawn closer. Raises
        StoppedError once `go_on` says no.
        """
        if not len(self._maps):
            return None
        alpha = self._beam.convergence_semi_angle_mrad * 1e-3
        step = STEP_AIRY * self._beam.airy_radius / (APART * POOL)
        defocus, aside = alpha * search.defocus, alpha * search.astigmatism
        start = alpha * np.array([told.defocus, told.astigmatism_x, -told.astigmatism_y, 0.0])
        grids = _grids(defocus, aside, abs(start[0]), step)
        while math.prod(map(len, grids)) > MOST_PLACES and defocus > step:
            defocus, aside = 0.95 * defocus, 0.95 * aside
            grids = _grids(defocus, aside, abs(start[0]), step)
        each = np.stack(np.meshgrid(*grids, indexing="ij"), axis=-1).reshape(-1, 4)
        each = each[np.hypot(each[:, 1], each[:, 2]) <= aside * 1.001] + start
        each = each[np.abs(each[:, 3]) <= math.tan(MOST_TURN) * np.abs(each[:, 0]) + step]
        heights = self._heights(each, go_on)
        middle = float(np.median(heights))
        scatter = 1.48 * float(np.median(np.abs(heights - middle)))
        best, height = each[int(np.argmax(heights))], float(heights.max())
        near = np.indices((3, 3, 3, 3)).reshape(4, -1).T - 1.0
        for _ in range(HALVED):
            step /= 2.0
            about = best + step * near
            heights = self._heights(about, go_on)
            best, height = about[int(np.argmax(heights))], max(height, float(heights.max()))
        clear = (height - middle) / scatter if scatter > 0.0 else 0.0
        return self._place_of(best / alpha, told), clear

    def _place_of(self, numbers: F64, told: Aberrations) -> F64:
        """Of a matrix of `_heights`, in angstrom, as a symmetric one times a rotation."""
        z, x, y, w = numbers
        angle = math.atan(w / z) if z else 0.0
        cos, sin = math.cos(angle), math.sin(angle)
        lens = Aberrations(
            z * cos + w * sin, x * cos - y * sin, -(x * sin + y * cos), *told.as_array()[3:]
        )
        return np.append(lens.coefficients(self._beam)[:TURN], angle)

    def _heights(self, numbers: F64, go_on: Callable[[], bool]) -> F64:
        """The correlations (n,) where cells an aperture apart are shifted by matrices in angstrom.

        `numbers` (n, 4): z, x, y and w of ((z + x, y - w), (y + w, z - x)).
        """
        heights = np.empty(len(numbers))
        for first in range(0, len(numbers), CHUNK):
            if not go_on():
                raise StoppedError
            some = slice(first, first + CHUNK)
            heights[some] = self._heights_of(numbers[some])
        return heights

    def _heights_of(self, numbers: F64) -> F64:
        total = np.zeros(len(numbers))
        add_shifted(self._maps, self._apart, numbers, self._step, total)
        return total


def _grids(defocus: float, aside: float, told: float, step: float) -> list[F64]:
    """The values of each of the four numbers of a matrix, about those told."""
    turned = math.tan(MOST_TURN) * (told + defocus)
    return [_grid(reach, step) for reach in (defocus, aside, aside, turned)]


def _grid(reach: float, step: float) -> F64:
    number = math.ceil(reach / step)
    return np.linspace(-reach, reach, 2 * number + 1)


def _half_disc(radius: int) -> list[tuple[int, int]]:
    """One of each pair of opposite steps."""
    return [
        (dy, dx)
        for dy in range(-radius, radius + 1)
        for dx in range(radius + 1)
        if (dx > 0 or dy > 0) and math.hypot(dy, dx) <= radius
    ]
