"""The linear estimate of the same scan, through the lens that its data have: what AIRPI is held to.

The bright field of every pattern is kept as `direct` keeps it, and gives the same estimate.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.beam import Beam
from stemd.engines.airpi.dark_field import power_at
from stemd.engines.airpi.faint_lens import likely_lenses
from stemd.engines.airpi.side_by_side import side_by_side
from stemd.engines.airpi.through import Through, through
from stemd.engines.bright_field.engine import BrightFieldEngine
from stemd.engines.bright_field.settings import BrightFieldSettings
from stemd.engines.bright_field.view import Discs, Vectors
from stemd.engines.direct.averaged import parts_of
from stemd.engines.direct.finished import evidence_for
from stemd.engines.lens.estimate import Frequencies, Linear
from stemd.engines.lens.measure import StoppedError
from stemd.results import Result

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

THREADS = 2
"""That see through several lenses, once the search for them is over."""
OTHERS_S = 0.8
"""Seconds after the search by which the bright field is seen through other lenses, too."""
OTHER_RADIAN = 1.8
"""At the aperture's edge, from which on a lens is another one: the strong phases and the thickness
of a specimen look like less than that (2.5 nm of defocus at 300 kV and 20 mrad)."""
UNEXPLAINED = 0.65, 0.4
"""Part of what the cells see that one thin specimen does not explain, from which on it is too
thick; and where the lens spreads the probe, so that a weak phase is seen better. Multislice, 1e4
e/angstrom^2: 100 angstrom of silicon 0.86 and 0.55; a particle on carbon 0.53 and 0.24; perovskite
of 12 to 30 angstrom 0.28 and 0.18; two sheets of a dichalcogenide 0.14 and 0.24."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the bright field of a whole scan says of the phase.

    `linear`: the estimate; `misfit` (n,) at its frequencies: how many times more than their noise
    the cells disagree, at least 1. `about`: the lens, for the description of an image; `lens`: the
    same, None for that which was told.
    `blurred`: that is clearly another lens than was told, or one that spreads the probe;
    `disagrees`: how measured and told lens differ, in words, empty where they do not. `part`: of
    what is said through all lenses that may be the true one, where the data do not say which.
    `thick`: part of what the cells see that no thin specimen explains through any of the lenses,
    where that is so much that the specimen is too thick, else 0. `unsure`: the lens was looked for,
    and the data do not show it. `discs`: what the cells have counted, None where nothing more is to
    be asked of it; `hasty`: the image is waited for. `expected` (n,): the specimen's power as the
    dark field has it (`dark_field`), None where that says nothing.
    """

    linear: Linear
    misfit: F64
    about: Mapping[str, Any]
    blurred: bool = False
    disagrees: str = ""
    lens: Aberrations | None = None
    part: float = 1.0
    thick: float = 0.0
    unsure: bool = False
    discs: Discs | None = None
    hasty: bool = False
    expected: F64 | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """The scan's positions, without the room about them that `linear` has."""
        shape = self.linear.at.shape if self.discs is None else self.discs.done.shape
        return shape[0], shape[1]

    def inside(self, image: F32) -> F32:
        """Of an image on the positions of `linear` those of the scan."""
        ny, nx = self.shape
        return np.ascontiguousarray(image[:ny, :nx])


class _Clock:
    """Says whether to go on, until a time of the monotonic clock; `late`: that it was too late."""

    def __init__(self, until: float, go_on: Callable[[], bool]) -> None:
        self.late = False
        self._until, self._go_on = until, go_on

    def __call__(self) -> bool:
        self.late = self.late or time.monotonic() > self._until
        return self._go_on() and not self.late


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

    _evidence: Sequence[Evidence] = ()
    _until = math.inf
    _hasty = False
    _density: F64 | None = None
    hurried = False
    """Whether there was no time to look for the lens, or for all that may be the true one."""

    def place(self, center: tuple[float, float]) -> None:
        """Keep the cells about this place, in detector pixels, if it was not known before."""
        if self._kept.origin is None:
            self._kept.place(center)

    def evidence(
        self,
        go_on: Callable[[], bool],
        until: float = math.inf,
        *,
        hasty: bool = False,
        density: F64 | None = None,
    ) -> Sequence[Evidence]:
        """Of the whole scan, the likeliest lens first; nothing where `go_on` said no.

        At the time `until`, of the monotonic clock, the search for the lens ends: what has been
        found by then stands, else what was told. `hasty`: the image is waited for. Where the data
        are sure of no lens it is through each that may be the true one and the one told, as
        `direct` makes its image: see `averaged.parts_of`; until `OTHERS_S` later, through as many
        of them as there is time for, the likeliest first. `density`: the specimen's power by the
        dark field, by which the lens is looked for once more (`faint_lens`). Raises StemdError.
        """
        self._settle()
        self._evidence, self._until, self.hurried = (), until, False
        self._hasty, self._density = hasty, density
        try:
            self._make(self._maps.shape[0], go_on)
        except StoppedError:
            return ()
        return self._evidence

    def _measure(self, discs: Discs, vectors: Vectors, go_on: Callable[[], bool]) -> None:
        in_time = _Clock(self._until, go_on)
        super()._measure(discs, vectors, in_time)
        # one that was found before the search was ended is not the one that the record tells
        self.hurried = in_time.late

    def _likely(
        self, discs: Discs, told: Aberrations, density: F64, go_on: Callable[[], bool]
    ) -> tuple[list[Aberrations], F64]:
        """See `faint_lens.likely_lenses`; that which was told alone where there is no time."""
        in_time = _Clock(self._until, go_on)
        possible = self.lens_found.possible if self.lens_found is not None else ()
        try:
            return likely_lenses(discs, told, possible, density, self._own.search, in_time)
        except StoppedError:
            self.hurried = True
            return [told], np.ones(1)

    def _images_of(self, discs: Discs, go_on: Callable[[], bool]) -> Sequence[Result] | None:
        told, found = Aberrations.of_optics(self._settings.optics), self.lens_found
        lenses, name, disagrees = [told], "told", ""
        likely: F64 | None = None
        if found is not None and found.sure:
            lenses, name = [found.found.apparent or found.found.aberrations], "measured"
            disagrees = found.words() if found.disagrees or found.turned else ""
        elif found and self._density is not None and found.found.explains and not self.hurried:
            lenses, likely = self._likely(discs, told, self._density, go_on)
            name = "told" if lenses[0] == told else "likely"
        elif found is not None:
            lenses += found.possible
        compares = len(lenses) > 1 and likely is None

        def seen_by(lens: Aberrations) -> tuple[Through | None, float]:
            explains = evidence_for(discs, lens) if compares else 0.0
            return through(discs, lens, go_on, hasty=self._hasty), explains

        seen = side_by_side(seen_by, lenses, THREADS if self._hasty else 1, self._until + OTHERS_S)
        self.hurried = self.hurried or len(seen) < len(lenses)
        made = [each for each, _ in seen if each is not None]
        if len(made) < len(seen):
            return None
        if not made[0].linear.at.index.size:
            return []  # so few positions say nothing of any wave
        lenses = lenses[: len(made)]
        parts = np.ones(1) if likely is None else likely[: len(made)] / likely[: len(made)].sum()
        if compares:
            parts = parts_of([explains for _, explains in seen])
        blurred = [
            any(_apart(lens, other, discs.beam) > OTHER_RADIAN for other in (told, Aberrations()))
            for lens in lenses
        ]
        thick = found is not None and all(
            each.rest > UNEXPLAINED[spread] for each, spread in zip(made, blurred, strict=True)
        )
        rest = min(each.rest for each in made) if thick else 0.0
        unsure = found is not None and not found.sure and not self.hurried
        evidence = [
            Evidence(
                made[n].linear, made[n].misfit, {**lenses[n].as_optics(), "lens": name},
                blurred[n], disagrees, lenses[n], float(parts[n]), rest, unsure, discs,
                self._hasty, self._expected(made[n].linear.at, discs),
            )
            for n in np.flatnonzero(parts)
        ]  # fmt: skip
        self._evidence = sorted(evidence, key=lambda each: -each.part)
        return []

    def _expected(self, at: Frequencies, discs: Discs) -> F64 | None:
        if self._density is None:
            return None
        return power_at(self._density, at, discs.step_angstrom * discs.beam.aperture)


def about_lenses(evidence: Sequence[Evidence]) -> Mapping[str, Any]:
    """For the description of an image that is held to them."""
    likeliest, *others = evidence
    if not others:
        return likeliest.about
    keys = ("defocus_nm", "astigmatism_nm", "astigmatism_deg")
    lenses = [
        {**{key: each.about[key] for key in keys}, "part": round(each.part, 3)} for each in evidence
    ]
    return {**likeliest.about, "lens": "averaged", "lenses": lenses}


def _apart(one: Aberrations, other: Aberrations, beam: Beam) -> float:
    """Radian at the aperture's edge by which two lenses differ in defocus and astigmatism."""
    change = one.coefficients(beam) - other.coefficients(beam)
    return float(abs(change[0]) + np.hypot(change[1], change[2]))
