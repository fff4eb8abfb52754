"""What a probe leaves of the waves of a phase whose slopes the centre of mass sees."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.beam import Beam

F64 = NDArray[np.float64]

PER_APERTURE = 32
"""Points of the table along a radius of the aperture: probes of 15 Airy radii find room."""
REACH = 2
"""Apertures beyond which nothing is left."""


def blurring(beam: Beam, ky: F64, kx: F64, lens: Aberrations | None = None) -> F64:
    """The transform of |psi_in|^2 at frequencies `ky` (ny, 1) and `kx` (1, nx), 1 at 0: (ny, nx).

    Frequencies in cycles an angstrom. `lens`: else that of the beam. Coma and three-fold
    astigmatism, which would turn the waves, are left out.
    """
    table = _table(beam, beam_lens(beam) if lens is None else lens)
    rows, columns = (_hats(k.ravel() / beam.aperture) for k in (ky, kx))
    return np.asarray(rows @ table @ columns.T)


def beam_lens(beam: Beam) -> Aberrations:
    """Defocus and spherical aberration of a beam."""
    return Aberrations(defocus=beam.defocus_angstrom, spherical=1e7 * beam.cs_mm)


def _hats(k: F64) -> F64:
    """Weights of linear interpolation between the points of the table, (n, points); k apertures."""
    points = np.arange(-REACH * PER_APERTURE, REACH * PER_APERTURE + 1)
    return np.maximum(0.0, 1.0 - np.abs(k[:, None] * PER_APERTURE - points))


@lru_cache(maxsize=8)
def _table(beam: Beam, lens: Aberrations) -> F64:
    """The aperture's wave against itself, shifted by so many points, about the middle."""
    far = REACH * PER_APERTURE
    side = 2 * far + 2
    u = np.fft.fftfreq(side, 1.0 / side) / PER_APERTURE
    y, x = u[:, None], u[None, :]
    r = np.hypot(y, x)
    c = lens.coefficients(beam)
    chi = c[0] * r**2 + c[1] * (x**2 - y**2) + c[2] * 2.0 * x * y + c[7] * r**4
    edge = np.clip((1.0 - r) * PER_APERTURE + 0.5, 0.0, 1.0)
    intensity = np.abs(np.fft.ifft2(np.sqrt(edge) * np.exp(-1j * chi))) ** 2
    left = np.fft.fftshift(np.fft.fft2(intensity).real)
    about = slice(side // 2 - far, side // 2 + far + 1)
    return np.asarray(left[about, about] / left[side // 2, side // 2])
