"""The linear estimate of the same scan, through the lens that its data have: what AIRPI is held to.

The bright field of every pattern is kept as `direct` keeps it, and gives the same estimate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.beam import Beam
from stemd.engines.bright_field.engine import BrightFieldEngine
from stemd.engines.bright_field.seen_cells import cells_of
from stemd.engines.bright_field.settings import BrightFieldSettings
from stemd.engines.bright_field.view import Discs
from stemd.engines.lens.absorption import Absorbing
from stemd.engines.lens.estimate import Frequencies, Linear
from stemd.engines.lens.measure import StoppedError
from stemd.results import Result

F64 = NDArray[np.float64]

OTHER_RADIAN = 1.8
"""At the aperture's edge, from which on a lens is another one: the strong phases and the thickness
of a specimen look like less than that (2.5 nm of defocus at 300 kV and 20 mrad)."""
LEAST_CELLS = 8
"""Cells from which on their agreement says how wrong the model is."""
FITTED = 2
"""Numbers that are found for each frequency, phase and absorption, which take so much noise in."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the bright field of a whole scan says of the phase.

    `linear`: the estimate; `misfit` (n,) at its frequencies: how many times more than their noise
    the cells disagree, at least 1. `about`: the lens, for the description of an image; `lens`: the
    same, None for that which was told.
    `blurred`: that is clearly another lens than was told, or one that spreads the probe;
    `disagrees`: how measured and told lens differ, in words, empty where they do not.
    """

    linear: Linear
    misfit: F64
    about: Mapping[str, Any]
    blurred: bool = False
    disagrees: str = ""
    lens: Aberrations | None = None


class HeldSettings(BrightFieldSettings):
    """As those of `direct`."""

    @property
    def uses_measured_lens(self) -> bool:
        """Whether images are made with what was measured."""
        return True

    def outputs(self, engine: str) -> tuple[str, ...]:
        """No image of its own."""
        return ()


class HeldTo(BrightFieldEngine):
    """Keeps the bright field in its owner's thread, and makes `Evidence` of it when asked to."""

    _evidence: Evidence | None = None

    def place(self, center: tuple[float, float]) -> None:
        """Keep the cells about this place, in detector pixels, if it was not known before."""
        if self._kept.origin is None:
            self._kept.place(center)

    def evidence(self, go_on: Callable[[], bool]) -> Evidence | None:
        """Of the whole scan; None where `go_on` said no. Raises StemdError."""
        self._settle()
        self._evidence = None
        try:
            self._make(self._maps.shape[0], go_on)
        except StoppedError:
            return None
        return self._evidence

    def _images_of(self, discs: Discs, go_on: Callable[[], bool]) -> Sequence[Result] | None:
        told, found = Aberrations.of_optics(self._settings.optics), self.lens_found
        measured = found is not None and found.sure
        lens, disagrees = told, ""
        if measured and found is not None:
            lens = found.found.apparent or found.found.aberrations
            disagrees = found.words() if found.disagrees or found.turned else ""
        blurred = any(
            _apart(lens, other, discs.beam) > OTHER_RADIAN for other in (told, Aberrations())
        )
        at = Frequencies(discs.done, discs.beam, discs.step_angstrom, level=discs.level)
        if not at.index.size:
            return []  # so few positions say nothing of any wave
        both = Absorbing(at, lens.coefficients(discs.beam))
        power, cells = np.zeros(at.index.size), 0
        for cell in cells_of(discs, at):
            if not go_on():
                return None
            both.add(cell)
            power += cell.counts * np.abs(cell.spectrum) ** 2
            cells += cell.counts > 0.0
        about = {**lens.as_optics(), "lens": "measured" if measured else "told"}
        misfit = _misfit(at, power, both.explained(), cells)
        self._evidence = Evidence(both.phase(), misfit, about, blurred, disagrees, lens)
        return []


def _apart(one: Aberrations, other: Aberrations, beam: Beam) -> float:
    """Radian at the aperture's edge by which two lenses differ in defocus and astigmatism."""
    change = one.coefficients(beam) - other.coefficients(beam)
    return float(abs(change[0]) + np.hypot(change[1], change[2]))


def _misfit(at: Frequencies, power: F64, explained: F64, cells: int) -> F64:
    """How many times more than Poisson noise the cells disagree on one specimen, (n,), by rings.

    `power`: sum over the cells of their mean counts times |spectrum|^2; `explained` of it by phase
    and absorption.
    """
    if cells < LEAST_CELLS:
        return np.ones(at.index.size)
    left = np.bincount(at.ring, at.twice * (power - explained))
    noise = np.bincount(at.ring, at.twice) * at.positions * (cells - FITTED)
    return np.asarray(np.maximum(left / np.maximum(noise, 1.0), 1.0)[at.ring])
