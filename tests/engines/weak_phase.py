"""Scans of weak phase objects by the plain equations: what the linear estimate must be true to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.beam import Beam

F64 = NDArray[np.float64]


def chi(beam: Beam, lens: Aberrations, ky: F64, kx: F64) -> F64:
    """The aberration function written out with angles, radian; k in inverse angstrom."""
    theta, phi = np.hypot(ky, kx) * beam.wavelength, np.arctan2(ky, kx)
    size = (
        theta**2
        / 2
        * (
            -lens.defocus
            + lens.astigmatism_x * np.cos(2 * phi)
            + lens.astigmatism_y * np.sin(2 * phi)
        )
    )
    size = size + theta**3 * (lens.coma_x * np.cos(phi) + lens.coma_y * np.sin(phi))
    size = size + theta**3 / 3 * (
        lens.threefold_x * np.cos(3 * phi) + lens.threefold_y * np.sin(3 * phi)
    )
    return np.asarray(2 * np.pi / beam.wavelength * (size + theta**4 / 4 * lens.spherical))


def random_phase(side: int, positions: int, strength: float, seed: int, reach: float) -> F64:
    """A periodic phase of zero mean with frequencies up to `reach` turns a period, radian."""
    rng = np.random.default_rng(seed)
    k = np.fft.fftfreq(side) * side
    spectrum = np.fft.fft2(rng.normal(size=(side, side)))
    spectrum *= np.exp(-((k[:, None] ** 2 + k[None, :] ** 2) / (0.5 * reach) ** 2))
    spectrum[np.hypot(k[:, None], k[None, :]) > min(reach, positions / 2 - 1)] = 0.0
    spectrum[0, 0] = 0.0
    phase = np.fft.ifft2(spectrum).real
    return np.asarray(phase * (strength / phase.std()))


def patterns(
    phase: F64,
    field_angstrom: float,
    positions: int,
    beam: Beam,
    lens: Aberrations,
    per_angle: int,
    thickness_angstrom: float = 0.0,
    slices: int = 1,
) -> F64:
    """Shares of the electrons in cells of 1/`per_angle` semi-angle, (positions, positions, s, s).

    Each probe is made, multiplied by exp(i phase) and transformed; nothing is linearised. Of
    several `slices` each has its part of the phase, and the wave travels freely between them.
    """
    n = phase.shape[0]
    k = np.fft.fftfreq(n, field_angstrom / n)
    ky, kx = np.meshgrid(k, k, indexing="ij")
    wave = (np.hypot(ky, kx) < beam.aperture) * np.exp(-1j * chi(beam, lens, ky, kx))
    wave /= np.sqrt((np.abs(wave) ** 2).sum())
    half = 2 * per_angle
    side = 2 * half + 1
    row, column = (
        np.rint(part / beam.aperture * per_angle).astype(int) + half for part in (ky, kx)
    )
    seen = (row >= 0) & (row < side) & (column >= 0) & (column < side)
    cell = (row * side + column)[seen]
    through, step = np.exp(1j * phase / slices), field_angstrom / positions
    gap = thickness_angstrom / slices
    travel = np.exp(-1j * np.pi * beam.wavelength * gap * (ky**2 + kx**2))
    made = np.empty((positions, positions, side * side))
    for j in range(positions):
        for i in range(positions):
            moved = wave * np.exp(-2j * np.pi * step * (ky * j + kx * i))
            for number in range(slices):
                moved = np.fft.fft2(np.fft.ifft2(moved * travel if number else moved) * through)
            made[j, i] = np.bincount(cell, (np.abs(moved) ** 2)[seen], side * side)
    return made.reshape(positions, positions, side, side)
