"""Potentials of slices of atoms on a periodic grid, from published scattering factors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from stemd.virtual.scattering import VOLT_ANGSTROM_SQUARED

F64 = NDArray[np.float64]
BAND = 2.0 / 3.0
"""Part of the Nyquist frequency that is kept, so that products do not fold back (Kirkland,
Advanced Computing in Electron Microscopy, 2nd ed., section 6.8)."""
ORDER = 6
"""Points each way over which an atom is spread, by the B-spline of degree 5."""


@dataclass(frozen=True, slots=True)
class Atoms:
    """`numbers` (n,) atomic numbers; `places` (n, 3) z, y, x in angstrom, z along the beam."""

    numbers: NDArray[np.int64]
    places: F64


@dataclass(frozen=True, slots=True)
class Grid:
    """A periodic square of `samples` x `samples` points, `side` angstrom wide."""

    samples: int
    side: float

    @property
    def frequency(self) -> F64:
        """Frequencies along one axis in inverse angstrom, in the order of the FFT."""
        return np.asarray(np.fft.fftfreq(self.samples, self.side / self.samples))

    def radius(self) -> F64:
        """|k| in inverse angstrom, (samples, samples)."""
        return np.asarray(np.hypot(self.frequency[:, None], self.frequency[None, :]))

    def band(self) -> NDArray[np.bool_]:
        """Which frequencies a simulation keeps, (samples, samples)."""
        return np.asarray(self.radius() < BAND * self.samples / (2 * self.side))


@cache
def lobato_table() -> dict[int, tuple[F64, F64]]:
    """Coefficients a (5,) and b (5,) by atomic number, as abTEM carries them.

    I. Lobato and D. Van Dyck, Acta Cryst. A70 (2014) 636, doi 10.1107/S205327331401643X.
    """
    from abtem.parametrizations import LobatoParametrization
    from ase.data import atomic_numbers

    return {
        atomic_numbers[name]: (np.array(values[0], np.float64), np.array(values[1], np.float64))
        for name, values in LobatoParametrization().parameters.items()
    }


def scattering_factor(number: int, g: F64) -> F64:
    """Electron scattering factor in angstrom at g in inverse angstrom (Lobato 2014)."""
    a, b = lobato_table()[number]
    total = np.zeros_like(g)
    for ai, bi in zip(a, b, strict=True):
        bg2 = bi * g**2
        total += ai * (2.0 + bg2) / (1.0 + bg2) ** 2
    return total


@lru_cache(maxsize=64)  # every specimen has a grid of its own
def _transfer(number: int, grid: Grid) -> torch.Tensor:
    """What turns the transform of spread points into that of their potential, V angstrom^2.

    Half of the spectrum (samples, samples // 2 + 1), band-limited. Divided by the transform of
    the spline, so that the spreading leaves no blur.
    """
    n = grid.samples
    spline = np.sinc(np.fft.fftfreq(n)) ** ORDER
    half = n // 2 + 1
    volts = VOLT_ANGSTROM_SQUARED * scattering_factor(number, grid.radius())
    # per pixel area: the inverse transform divides by the number of pixels, not by the area
    values = volts / (grid.side / n) ** 2 / np.outer(spline, spline)
    return torch.from_numpy(np.where(grid.band(), values, 0.0)[:, :half].astype(np.float32))


@numba.njit(nogil=True, cache=True)
def _spread(image, layer, y, x):  # type: ignore[no-untyped-def]
    """Add a unit point at (y, x) pixels to image[layer] for each atom, periodic."""
    n = image.shape[1]
    wy = np.empty(ORDER, np.float64)
    wx = np.empty(ORDER, np.float64)
    for atom in range(y.size):
        first_y = _spline(y[atom], wy)
        first_x = _spline(x[atom], wx)
        target = image[layer[atom]]
        for i in range(ORDER):
            row = (first_y + i) % n
            for j in range(ORDER):
                target[row, (first_x + j) % n] += wy[i] * wx[j]


@numba.njit(nogil=True, cache=True)
def _spline(position, weights):  # type: ignore[no-untyped-def]
    """Weights of the B-spline of degree ORDER - 1 about `position`; the first point's index.

    By the recursion over the degree (de Boor).
    """
    base = math.floor(position)
    part = position - base
    weights[:] = 0.0
    weights[0] = 1.0
    for degree in range(1, ORDER):
        for i in range(degree, -1, -1):
            left = weights[i - 1] * (degree - i + 1 - part) if i > 0 else 0.0
            right = weights[i] * (part + i) if i < degree else 0.0
            weights[i] = (left + right) / degree
    # weights[i] now belongs to point base - i + ORDER // 2, read backwards
    for i in range(ORDER // 2):
        weights[i], weights[ORDER - 1 - i] = weights[ORDER - 1 - i], weights[i]
    return base - ORDER // 2 + 1


def slices_of(atoms: Atoms, thickness: float) -> int:
    """How many slices of that thickness, from z = 0 up, hold the atoms; at least 1."""
    return 1 + int(float(atoms.places[:, 0].max(initial=0.0)) / thickness)


def potentials(
    atoms: Atoms, grid: Grid, count: int, thickness: float, displacements: F64
) -> torch.Tensor:
    """Projected potential of each slice for each phonon configuration, V angstrom.

    atoms' z from 0 up; `displacements` (configurations, n, 3) in angstrom. Returns float32
    (configurations, count, samples, samples). An atom belongs wholly to the slice that its
    equilibrium place is in. Band-limited to `BAND` of the Nyquist frequency.
    """
    configurations = displacements.shape[0]
    shape = (configurations * count, grid.samples, grid.samples)
    spectrum: torch.Tensor | None = None
    layer = np.clip((atoms.places[:, 0] / thickness).astype(np.int64), 0, count - 1)
    for number in np.unique(atoms.numbers):
        chosen = atoms.numbers == number
        points = np.zeros(shape, np.float32)
        scale = grid.samples / grid.side
        for configuration in range(configurations):
            place = (atoms.places[chosen] + displacements[configuration, chosen]) * scale
            layers = layer[chosen] + configuration * count
            _spread(points, layers, np.ascontiguousarray(place[:, 1]),
                    np.ascontiguousarray(place[:, 2]))  # fmt: skip
        part = torch.fft.rfft2(torch.from_numpy(points)) * _transfer(int(number), grid)
        spectrum = part if spectrum is None else spectrum.add_(part)
    if spectrum is None:
        return torch.zeros((configurations, count, grid.samples, grid.samples))
    result = torch.fft.irfft2(spectrum, s=shape[1:])
    return result.reshape(configurations, count, grid.samples, grid.samples)
