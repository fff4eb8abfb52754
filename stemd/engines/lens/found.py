"""What the bright field has told of the optics, beside what was told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from stemd.aberrations import Aberrations
from stemd.acquisition import Optics
from stemd.engines.lens.measure import Measured

DISAGREES = 4.0
"""Standard errors by which what was told is off before it is said so."""
SAME_HALF_DEG = 45.0
"""As far from what was told a camera still is on the side that was told."""
LEAST_TURN_DEG = 1.5
PHYSICS_ANGSTROM = 20.0
"""Below these nothing is said: a specimen's own thickness is a part of the defocus."""


@dataclass(frozen=True, slots=True)
class LensFound:
    """The lens that was told, and what the data have said of it and of how the camera stands.

    `rotation_deg` and `flip`: how the camera stands by the data, as in the optics. `possible`:
    lenses that may be the true one if the camera stands as told, where nothing is claimed.
    """

    told: Aberrations
    found: Measured
    rotation_deg: float
    flip: bool
    told_rotation_deg: float
    told_flip: bool
    possible: tuple[Aberrations, ...] = ()

    @property
    def sure(self) -> bool:
        """Whether the data say anything about the lens.

        A camera turned by half a turn and a lens of the other sign explain the same data. Where
        the camera does not stand as told, only bright atoms tell the two apart.
        """
        return self.found.sure and (self.found.upright or self._as_told)

    @property
    def _as_told(self) -> bool:
        off = abs((self.rotation_deg - self.told_rotation_deg + 180.0) % 360.0 - 180.0)
        return off < SAME_HALF_DEG and self.flip == self.told_flip

    @property
    def one_of_two(self) -> bool:
        """Whether the camera does not stand as told for sure, but in one of two opposite ways."""
        off = abs((2 * (self.rotation_deg - self.told_rotation_deg) + 180.0) % 360.0 - 180.0) / 2
        told = off < SAME_HALF_DEG and self.flip == self.told_flip
        return self.found.sure and not self.sure and not told

    @property
    def disagrees(self) -> bool:
        """Whether the data are sure of another defocus or two-fold astigmatism."""
        off = np.abs(self.found.aberrations.as_array() - self.told.as_array())[:3]
        least = np.maximum(DISAGREES * self.found.sigma[:3], PHYSICS_ANGSTROM)
        return self.sure and bool((off > least).any())

    @property
    def turned(self) -> bool:
        """Whether the data are sure of another rotation or flip of the camera."""
        off = (self.rotation_deg - self.told_rotation_deg + 180.0) % 360.0 - 180.0
        other = abs(off) > max(DISAGREES * self.found.turn_sigma_deg, LEAST_TURN_DEG)
        return self.sure and (other or self.flip != self.told_flip)

    def in_optics(self, optics: Optics) -> Optics:
        """The optics with what was measured."""
        lens = self.found.aberrations.as_optics()
        turn = {"rotation_deg": round(self.rotation_deg, 2), "flip": self.flip}
        return optics.model_copy(update={**lens, **(turn if self.turned else {})})

    def words(self) -> str:
        """How the two differ."""
        hand = {True: "with", False: "without"}
        if self.one_of_two:
            opposite = 180.0 - (-self.rotation_deg) % 360.0
            return (
                f"the data have a camera turned by {self.rotation_deg:.1f} or by {opposite:.1f} "
                f"degrees {hand[self.flip]} flip, with a defocus of the other sign (told "
                f"{self.told_rotation_deg:.1f}, {hand[self.told_flip]})"
            )
        has, told = self.found.aberrations, self.told
        size, angle = has.astigmatism
        parts = []
        if self.disagrees or not self.turned:
            parts.append(
                f"a defocus of {has.defocus / 10:.1f} nm (told {told.defocus / 10:.1f}) "
                f"and a two-fold astigmatism of {size / 10:.1f} nm at {angle:.0f} degrees "
                f"(told {told.astigmatism[0] / 10:.1f})"
            )
        if self.turned:
            parts.append(
                f"a camera turned by {self.rotation_deg:.1f} degrees {hand[self.flip]} flip "
                f"(told {self.told_rotation_deg:.1f}, {hand[self.told_flip]})"
            )
        return f"the data have {', and '.join(parts)}"

    def as_json(self) -> dict[str, Any]:
        """For the description of an image."""
        size, angle = self.found.aberrations.astigmatism
        return {
            "sure": self.sure,
            "quality": round(self.found.quality, 3),
            "defocus_nm": round(self.found.aberrations.defocus / 10, 3),
            "defocus_sigma_nm": _number(self.found.sigma[0] / 10),
            "astigmatism_nm": round(size / 10, 3),
            "astigmatism_deg": round(angle, 1),
            "astigmatism_sigma_nm": _number(float(np.hypot(*self.found.sigma[1:3])) / 10),
            "rotation_deg": round(self.rotation_deg, 2),
            "rotation_sigma_deg": _number(self.found.turn_sigma_deg),
            "flip": self.flip,
        }


@dataclass(frozen=True, slots=True)
class DiscFound:
    """The undiffracted disc on the detector in pixels, with standard errors.

    `oval`: how much longer than wide it is, in parts, and the direction of that in the detector's
    axes as an angle from +x to +y in degree.
    """

    center: tuple[float, float]
    center_sigma: float
    radius: float
    radius_sigma: float
    oval: tuple[float, float] = (0.0, 0.0)
    oval_sigma: float = math.inf


@dataclass(frozen=True, slots=True)
class OpticsFound:
    """All that an engine has measured in so many lines; None where the data say nothing."""

    lens: LensFound | None
    disc: DiscFound | None
    lines: int


def _number(value: float) -> float | None:
    return round(float(value), 3) if np.isfinite(value) else None
