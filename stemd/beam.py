"""The electron beam: wavelength, interaction with a potential, the probe-forming lens."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ELECTRON_REST_EV = 510_998.95
"""Rest energy m0 c^2 (CODATA 2018)."""
HC_EV_ANGSTROM = 12_398.419_84
"""Planck constant times the speed of light."""


@dataclass(frozen=True, slots=True)
class Beam:
    """A focused probe.

    `defocus_angstrom` is positive for underfocus, as in chi(k) = pi lambda k^2
    (0.5 Cs lambda^2 k^2 - df); the aperture is round.
    """

    energy_ev: float = 300e3
    convergence_semi_angle_mrad: float = 20.0
    defocus_angstrom: float = 0.0
    cs_mm: float = 0.0

    @property
    def wavelength(self) -> float:
        """Relativistic wavelength in angstrom, lambda = hc / sqrt(E (2 m0 c^2 + E))."""
        energy = self.energy_ev
        return HC_EV_ANGSTROM / math.sqrt(energy * (2 * ELECTRON_REST_EV + energy))

    @property
    def sigma(self) -> float:
        """Interaction constant in radian per (volt angstrom).

        sigma = 2 pi m e lambda / h^2 with the relativistic mass m, which is
        2 pi / (lambda E) * (m0 c^2 + E) / (2 m0 c^2 + E)
        (Kirkland, Advanced Computing in Electron Microscopy, 2nd ed., eq. 5.6).
        """
        energy = self.energy_ev
        relativistic = (ELECTRON_REST_EV + energy) / (2 * ELECTRON_REST_EV + energy)
        return 2 * math.pi / (self.wavelength * energy) * relativistic

    @property
    def aperture(self) -> float:
        """Radius of the aperture in inverse angstrom, alpha / lambda."""
        return self.convergence_semi_angle_mrad * 1e-3 / self.wavelength

    @property
    def airy_radius(self) -> float:
        """First zero of the aberration-free probe, 0.61 lambda / alpha, in angstrom."""
        return 0.61 / self.aperture

    @property
    def blur_radius(self) -> float:
        """Radius in angstrom to which defocus and Cs spread the rays of geometrical optics."""
        alpha = self.convergence_semi_angle_mrad * 1e-3
        return abs(self.cs_mm * 1e7 * alpha**3 - self.defocus_angstrom * alpha)

    def aberration(self, k: NDArray[np.float64]) -> NDArray[np.float64]:
        """chi(k) in radian for k in inverse angstrom (thesis eqs 1.17, 4.2)."""
        lam = self.wavelength
        spherical = 0.5 * self.cs_mm * 1e7 * lam**2 * k**2
        return np.asarray(math.pi * lam * k**2 * (spherical - self.defocus_angstrom))

    def radial_wave(self, k: NDArray[np.float64], edge: float) -> NDArray[np.complex128]:
        """A(k) exp(-i chi(k)) for radii k in inverse angstrom, A = 1 inside the aperture.

        |A|^2 falls from 1 to 0 linearly over `edge` (inverse angstrom) about the aperture's radius:
        with the width of one sample the disc has its true area wherever it falls on the grid.
        """
        amplitude = np.sqrt(np.clip((self.aperture - k) / edge + 0.5, 0.0, 1.0))
        return np.asarray(amplitude * np.exp(-1j * self.aberration(k)))
