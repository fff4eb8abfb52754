"""The lens's aberrations up to third order, as lengths for people and as numbers for kernels."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Optics
from stemd.beam import Beam

F64 = NDArray[np.float64]

COEFFICIENTS = 8
"""Numbers of an aberration function in units of the aperture; see `Aberrations.coefficients`."""


@dataclass(frozen=True, slots=True)
class Aberrations:
    """Deviation of the probe's wave front, in angstrom; components along x and y of the scan.

    With theta the angle and phi its azimuth, from +x to +y of the scan's axes (Uhlemann and
    Haider, Ultramicroscopy 72 (1998) 109; A1, B2, A2 there)::

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

    @classmethod
    def of_optics(cls, optics: Optics) -> Aberrations:
        """Those that the optics tell."""
        axial, turn = optics.astigmatism_nm, 2.0 * math.radians(optics.astigmatism_deg)
        coma, aside = optics.coma_nm, math.radians(optics.coma_deg)
        threefold, third = optics.threefold_nm, 3.0 * math.radians(optics.threefold_deg)
        return cls(
            defocus=10.0 * optics.defocus_nm,
            astigmatism_x=10.0 * axial * math.cos(turn),
            astigmatism_y=10.0 * axial * math.sin(turn),
            coma_x=10.0 * coma * math.cos(aside),
            coma_y=10.0 * coma * math.sin(aside),
            threefold_x=10.0 * threefold * math.cos(third),
            threefold_y=10.0 * threefold * math.sin(third),
            spherical=1e7 * optics.cs_mm,
        )

    def as_optics(self) -> dict[str, float]:
        """The inverse of `of_optics`: keys of the optics, rounded to picometres."""
        (a1, a1_deg), (b2, b2_deg), (a2, a2_deg) = self.astigmatism, self.coma, self.threefold
        return {
            "defocus_nm": round(self.defocus / 10, 3),
            "astigmatism_nm": round(a1 / 10, 3),
            "astigmatism_deg": round(a1_deg, 1),
            "coma_nm": round(b2 / 10, 3),
            "coma_deg": round(b2_deg, 1),
            "threefold_nm": round(a2 / 10, 3),
            "threefold_deg": round(a2_deg, 1),
            "cs_mm": round(self.spherical * 1e-7, 9),
        }

    @property
    def astigmatism(self) -> tuple[float, float]:
        """Length in angstrom, and azimuth of its longer focal line in degree, -90 to 90."""
        return _polar(self.astigmatism_y, self.astigmatism_x, 2)

    @property
    def coma(self) -> tuple[float, float]:
        """Length in angstrom, and azimuth in degree, -180 to 180."""
        return _polar(self.coma_y, self.coma_x, 1)

    @property
    def threefold(self) -> tuple[float, float]:
        """Length in angstrom, and azimuth in degree, -60 to 60."""
        return _polar(self.threefold_y, self.threefold_x, 3)

    def plus(self, other: Aberrations) -> Aberrations:
        """Both together."""
        mine, theirs = asdict(self), asdict(other)
        return Aberrations(**{name: value + theirs[name] for name, value in mine.items()})

    def seen_from_behind(self) -> Aberrations:
        """With chi(k) become -chi(-k)."""
        return replace(
            self,
            defocus=-self.defocus,
            astigmatism_x=-self.astigmatism_x,
            astigmatism_y=-self.astigmatism_y,
            spherical=-self.spherical,
        )

    @property
    def not_round(self) -> Aberrations:
        """The same without defocus and spherical aberration, which a `Beam` has itself."""
        return replace(self, defocus=0.0, spherical=0.0)

    def round_part(self, beam: Beam) -> Beam:
        """The beam with the defocus and the spherical aberration of these."""
        return replace(beam, defocus_angstrom=self.defocus, cs_mm=self.spherical * 1e-7)

    def reach(self, beam: Beam) -> float:
        """Radius in angstrom to which the probe spreads at most, geometrically."""
        return self.round_part(beam).blur_radius + self.spread(beam)

    def spread(self, beam: Beam) -> float:
        """Radius in angstrom to which what is not round spreads the rays, at most."""
        alpha = beam.convergence_semi_angle_mrad * 1e-3
        second, third = self.astigmatism[0], 3.0 * self.coma[0] + self.threefold[0]
        return second * alpha + third * alpha**2

    @property
    def round(self) -> bool:
        """Whether there is nothing but defocus and spherical aberration."""
        return not self.as_array()[1:7].any()


def _polar(y: float, x: float, fold: int) -> tuple[float, float]:
    return math.hypot(y, x), math.degrees(math.atan2(y, x)) / fold


def scales(beam: Beam) -> F64:
    """Radian at the aperture's edge an angstrom of each aberration, (8,)."""
    alpha = beam.convergence_semi_angle_mrad * 1e-3
    turn = 2 * math.pi / beam.wavelength
    second, third, fourth = turn * alpha**2 / 2, turn * alpha**3, turn * alpha**4 / 4
    return np.array([second] * 3 + [third] * 2 + [third / 3] * 2 + [fourth])
