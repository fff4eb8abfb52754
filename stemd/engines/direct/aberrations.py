"""The lens's aberrations up to third order, as lengths for people and as numbers for kernels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.beam import Beam

F64 = NDArray[np.float64]

COEFFICIENTS = 8
"""Numbers of an aberration function in units of the aperture; see `Aberrations.coefficients`."""


@dataclass(frozen=True, slots=True)
class Aberrations:
    """Deviation of the probe's wave front, in angstrom; components along x and y of the scan.

    With theta the angle and phi its azimuth, from +x to +y of the scan's axes (Uhlemann and
    Haider, Ultramicroscopy 72 (1998) 109)::

        chi = 2 pi / lambda * (
            theta^2/2 (-defocus + astigmatism_x cos 2phi + astigmatism_y sin 2phi)
            + theta^3 (coma_x cos phi + coma_y sin phi)
            + theta^3/3 (threefold_x cos 3phi + threefold_y sin 3phi)
            + theta^4/4 spherical)

    `defocus` is positive for underfocus, as everywhere in stemd.
    """

    defocus: float = 0.0
    astigmatism_x: float = 0.0
    astigmatism_y: float = 0.0
    coma_x: float = 0.0
    coma_y: float = 0.0
    threefold_x: float = 0.0
    threefold_y: float = 0.0
    spherical: float = 0.0

    def coefficients(self, beam: Beam) -> F64:
        """The same, (8,), in radian at the aperture's edge: chi(u) is linear in them.

        For u = k / aperture with parts y and x, r = |u|::

            c0 r^2 + c1 (x^2 - y^2) + c2 2xy + c3 r^2 x + c4 r^2 y
            + c5 (x^3 - 3xy^2) + c6 (3x^2 y - y^3) + c7 r^4
        """
        return self.as_array() * scales(beam)

    def as_array(self) -> F64:
        """In angstrom, in the order of `scales`; defocus has its sign changed."""
        return np.array(
            [
                -self.defocus, self.astigmatism_x, self.astigmatism_y, self.coma_x, self.coma_y,
                self.threefold_x, self.threefold_y, self.spherical,
            ]
        )  # fmt: skip

    @classmethod
    def of(cls, coefficients: F64, beam: Beam) -> Aberrations:
        """From `coefficients`."""
        c1, *rest = (float(value) for value in coefficients / scales(beam))
        return cls(-c1, *rest)

    @property
    def astigmatism(self) -> tuple[float, float]:
        """Length in angstrom, and azimuth of its longer focal line in degree, -90 to 90."""
        size = math.hypot(self.astigmatism_x, self.astigmatism_y)
        return size, math.degrees(math.atan2(self.astigmatism_y, self.astigmatism_x)) / 2


def scales(beam: Beam) -> F64:
    """Radian at the aperture's edge an angstrom of each aberration, (8,)."""
    alpha = beam.convergence_semi_angle_mrad * 1e-3
    turn = 2 * math.pi / beam.wavelength
    second, third, fourth = turn * alpha**2 / 2, turn * alpha**3, turn * alpha**4 / 4
    return np.array([second] * 3 + [third] * 2 + [third / 3] * 2 + [fourth])


def aberrations_of(beam: Beam) -> Aberrations:
    """Those that a round beam has: defocus and spherical aberration."""
    return Aberrations(defocus=beam.defocus_angstrom, spherical=beam.cs_mm * 1e7)
