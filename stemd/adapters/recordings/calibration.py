"""What a file says of its axes, as the scan's step and the detector's pixel size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stemd.beam import Beam
from stemd.typed import meant

ANGSTROM = {"pm": 0.01, "A": 1.0, "Å": 1.0, "\u212b": 1.0, "angstrom": 1.0, "nm": 10.0, "um": 1e4}
ANGSTROM |= {"µm": 1e4, "μm": 1e4, "mm": 1e7, "m": 1e10, "[n_m]": 10.0, "nanometer": 10.0}
_MRAD = {"mrad": 1.0, "rad": 1e3, "urad": 1e-3, "µrad": 1e-3, "μrad": 1e-3, "deg": math.pi / 0.18}


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of an array: its name, the size of a step and its unit, as the file has them."""

    name: str = ""
    scale: float = 0.0
    units: str = ""

    @property
    def angstrom(self) -> float | None:
        """The step in angstrom, None where it is no known length."""
        size = ANGSTROM.get(self.units, 0.0) * self.scale
        return size if size > 0.0 and math.isfinite(size) else None

    @property
    def inverse_angstrom(self) -> float | None:
        """The step in inverse angstrom, None where it is no known inverse length."""
        size = _inverse(self.units) * self.scale
        return size if size > 0.0 and math.isfinite(size) else None

    @property
    def mrad(self) -> float | None:
        """The step in mrad, None where it is no known angle."""
        size = _MRAD.get(self.units, 0.0) * self.scale
        return size if size > 0.0 and math.isfinite(size) else None

    @property
    def reciprocal(self) -> bool:
        """Whether it is an axis of a detector by its unit, or else by its name."""
        if self.units:
            return bool(_inverse(self.units)) or self.units in _MRAD
        return self.name.lower().startswith(("k", "q"))


def _inverse(units: str) -> float:
    """How many inverse angstrom a unit is, 0 for one that is no inverse length."""
    text = units.replace(" ", "").replace("⁻¹", "^-1").replace("**", "^").replace("^{-1}", "^-1")
    if text.startswith("1/"):
        length = text[2:]
    elif text.endswith("^-1"):
        length = text[:-3]
    elif text.endswith("-1"):
        length = text[:-2]
    else:
        return 0.0
    size = ANGSTROM.get(length.strip("()"), 0.0)
    return 1.0 / size if size else 0.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is known of a scan; None where the file does not say. Lengths in angstrom, eV, mrad."""

    step_size_angstrom: float | None = None
    pixel_size_mrad: float | None = None
    energy_ev: float | None = None
    convergence_semi_angle_mrad: float | None = None
    dwell_time_us: float | None = None

    def optics(self) -> dict[str, float]:
        """What it says of the optics, by the keys of `stemd.acquisition.Optics`."""
        known = {
            "pixel_size_mrad": self.pixel_size_mrad,
            "energy_ev": self.energy_ev,
            "convergence_semi_angle_mrad": self.convergence_semi_angle_mrad,
        }
        return {key: value for key, value in known.items() if value is not None}


def calibration_of(
    scan: Sequence[Axis], detector: Sequence[Axis], known: Calibration | None = None
) -> Calibration:
    """The calibration by the axes of scan and detector, the last of each being x.

    An inverse length is an angle once the energy is known: theta = lambda q.
    """
    known = known or Calibration()
    step = next((size for axis in reversed(scan) if (size := axis.angstrom)), None)
    pixel = next((size for axis in reversed(detector) if (size := axis.mrad)), None)
    inverse = next((size for axis in reversed(detector) if (size := axis.inverse_angstrom)), None)
    if pixel is None and inverse is not None and known.energy_ev:
        pixel = 1e3 * inverse * Beam(known.energy_ev).wavelength
    return replace(
        known,
        step_size_angstrom=known.step_size_angstrom or meant(step),
        pixel_size_mrad=known.pixel_size_mrad or meant(pixel),
    )


def of_metadata(metadata: Mapping[str, Any]) -> Calibration:
    """What HyperSpy's metadata say of the microscope (keV, mrad)."""
    table: Any = metadata
    for key in ("Acquisition_instrument", "TEM"):
        table = table.get(key, {}) if isinstance(table, Mapping) else {}
    if not isinstance(table, Mapping):
        return Calibration()
    energy = positive(table.get("beam_energy"))
    return Calibration(
        energy_ev=energy * 1e3 if energy else None,
        convergence_semi_angle_mrad=positive(table.get("convergence_angle")),
    )


def positive(value: Any) -> float | None:
    """A finite number above zero, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number > 0.0 and math.isfinite(number) else None


def axes_of(tables: Iterable[Mapping[str, Any]]) -> list[Axis]:
    """Axes as HyperSpy and rosettasciio describe them."""
    return [axis_of(table) for table in tables]


def axis_of(table: Mapping[str, Any]) -> Axis:
    """One axis as HyperSpy and rosettasciio describe it."""
    units = table.get("units")
    name = table.get("name")
    return Axis(
        name if isinstance(name, str) else "",
        positive(table.get("scale")) or 0.0,
        units if isinstance(units, str) else "",
    )
