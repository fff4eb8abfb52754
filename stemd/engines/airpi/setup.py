"""AIRPI's settings, and the object of a scan once centre, disc and dose are known."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, PrivateAttr

from stemd.aberrations import Aberrations
from stemd.acquisition import Acquisition, Optics
from stemd.beam import Beam
from stemd.engines.airpi.coarseness import Coarseness
from stemd.engines.airpi.features import GRID
from stemd.engines.airpi.geometry import ObjectGeometry
from stemd.engines.airpi.object import ExitWaveObject
from stemd.engines.diffraction_grid import beam_angles
from stemd.engines.first_patterns import FirstPatterns, Found
from stemd.engines.probe import disc_seen
from stemd.inference.choice import BackendName
from stemd.settings import SlowEngineSettings
from stemd.typed import PositiveFloat

MOST_REPETITION = 16
TRAINED_KV, TRAINED_MRAD = (30.0, 300.0), (5.0, 30.0)
TRAINED_CS_ANGSTROM, MOST_CS_ANGSTROM = 1e4, 1e5
TRAINED_ELECTRONS = 3.0
DEFOCUS_SCHERZER = 6.0
"""What the network has seen (training/airpi/MODEL_CARD.md): a defocus of up to three standard
deviations, each of twice Scherzer's for the Cs trained with."""
BACKLOG_BYTES = 512 * 1024 * 1024
LEAST_BACKLOG_LINES = 4
"""Binned lines that may wait for the network during a scan: so many bytes, at least so many. Binned
patterns of 256 x 256 pixels are forty times smaller: 40 s of 4,000 a second. Lines that need not
wait take no memory."""
NEXT_SCAN = ("model", "backend", "threads", "device", "batch", "oversample", "when_slow",
             "probe", "counts_per_electron", "memory_mb")  # fmt: skip


class AirpiSettings(SlowEngineSettings):
    """`model`: a name of `stemd models list`, or a path; `threads` of the CPU for the network,
    or the number of the GPU, `device`.

    `repetition` m adds up the patterns of m x m positions, "auto" as many as the dose asks for;
    `every`: of m positions and lines one is made, "auto": each half box. `when_slow`: what to do
    when the camera is faster than the network. `probe`: where the disc is and how large, from
    the parameters or from the first patterns; its lens is that of the optics. `least_transfer`: the
    smaller, the more of the coarse structure comes back, and of its noise (`patch_offsets`).
    `use_centre_of_mass`: hold the image to the slopes that the centre of mass of the same patterns
    gives (`measured_slopes`); `use_bright_field`: and the finished one to the linear estimate of
    the bright field, through the lens that the data have (`joined`), for which `memory_mb` of
    it may be kept.
    Repetition, every, these three and the optics' centre, rotation and flip are obeyed at once, the
    others from the next scan on, `complete` when the scan ends.
    """

    model: Annotated[str, Field(min_length=1)] = "airpi"
    backend: BackendName = "auto"
    threads: Annotated[int, Field(ge=1, le=256)] = 2
    device: Annotated[int, Field(ge=0, le=63)] = 0
    batch: Annotated[int, Field(ge=1, le=4096)] = 64
    oversample: Annotated[int, Field(ge=1, le=8)] = 1
    repetition: Literal["auto"] | Annotated[int, Field(ge=1, le=MOST_REPETITION)] = "auto"
    every: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = "auto"
    least_transfer: Annotated[float, Field(gt=0.0, le=1.0)] = 0.3
    use_centre_of_mass: bool = True
    use_bright_field: bool = True
    when_slow: Literal["coarser", "skip"] = "coarser"
    probe: Literal["parameters", "pacbed"] = "parameters"
    counts_per_electron: PositiveFloat = 1.0
    memory_mb: Annotated[float, Field(gt=0.0, le=1e6)] = 512.0

    whole_positions: ClassVar[bool] = True
    keeps_lens: ClassVar[bool] = True

    _trial: bool = PrivateAttr(default=False)

    @property
    def is_trial(self) -> bool:
        """Whether `for_trial` made these: the lens is not looked for far away."""
        return self._trial

    def for_trial(self) -> Self:
        """A trial looks for the lens near the one told only."""
        trial = self.model_copy()
        trial._trial = True
        return trial

    def outputs(self, engine: str) -> tuple[str, ...]:
        """The phase, what it rests on, and its standard error."""
        return (f"{engine}_phase", f"{engine}_weight", f"{engine}_uncertainty")

    def through_lens_told(self) -> bool:
        """The network is given the probe of the optics."""
        return True


@dataclass(frozen=True, slots=True)
class Prepared:
    """An object that is ready for patterns.

    `coarseness` chooses the neighbourhood of each line, `backlog_lines` may wait for the network.
    `electrons` in what it is given as one pattern at first, None where nobody knows.
    """

    thing: ExitWaveObject
    coarseness: Coarseness
    backlog_lines: int
    electrons: float | None


def found_in(first: FirstPatterns, optics: Optics, probe: str) -> Found:
    """What the first patterns say of the disc, as far as the optics and `probe` leave it open."""
    radius, center = None, first.center()
    alpha, pixel = beam_angles(optics)
    seen = disc_seen(first.seen()[0].astype(np.float64), alpha / pixel)
    if seen is not None:
        center = seen.center
    if probe == "pacbed":
        disc = first.disc()
        center, radius = disc.center, disc.radius
    if optics.center != "auto":
        center = float(optics.center[0]), float(optics.center[1])
    return Found(center, first.counts(), radius)


def beyond_training(
    optics: Optics, beam: Beam, step_angstrom: float, electrons: float | None = None
) -> str:
    """In words: what the network was not trained with; empty where it knows all of it.

    `electrons` in what it is given as one pattern, None where nobody knows.
    """
    lens, parts = Aberrations.of_optics(optics), []
    if not lens.round:
        parts.append(
            "the network knows defocus and Cs only; the astigmatism and coma of the optics are "
            "not taken out of the image"
        )
    most = DEFOCUS_SCHERZER * math.sqrt(1.5 * TRAINED_CS_ANGSTROM * beam.wavelength)
    if abs(lens.defocus) > most:
        parts.append(
            f"a defocus of {lens.defocus / 10:.1f} nm is beyond the {most / 10:.1f} nm that the "
            "network has seen"
        )
    low, high = TRAINED_KV
    if not low <= beam.energy_ev / 1e3 <= high:
        parts.append(f"the network knows {low:.0f} to {high:.0f} kV")
    low, high = TRAINED_MRAD
    if not low <= beam.convergence_semi_angle_mrad <= high:
        parts.append(f"the network knows semi-angles of {low:.0f} to {high:.0f} mrad")
    if abs(lens.spherical) > MOST_CS_ANGSTROM:
        parts.append("the network knows corrected lenses, with a Cs of some micrometres")
    if step_angstrom > beam.airy_radius:
        parts.append(
            f"a step of {step_angstrom:.2g} angstrom is more than the Airy disc's radius of "
            f"{beam.airy_radius:.2g}: the patches do not meet"
        )
    if electrons is not None and electrons < TRAINED_ELECTRONS:
        parts.append(
            f"the network knows {TRAINED_ELECTRONS:g} electrons a pattern and more, here are "
            f"{electrons:.2g}, those of all positions that are added up"
        )
    return "; ".join(parts)


def prepared(
    acquisition: Acquisition,
    optics: Optics,
    own: AirpiSettings,
    beam: Beam,
    pixel_mrad: float,
    found: Found,
    *,
    beside: bool,
    begins: bool,
) -> Prepared:
    """Centre, disc and dose are known: allocate the object. Raises StemdError where it cannot be.

    `beside`: a camera waits; `begins`: the first patterns are the scan's.
    """
    scan = acquisition.scan
    assert scan.step_size_angstrom is not None
    if found.radius is not None:
        beam = replace(beam, convergence_semi_angle_mrad=found.radius * pixel_mrad)
    geometry = ObjectGeometry(
        beam,
        scan.step_size_angstrom,
        found.center,
        beam.convergence_semi_angle_mrad / pixel_mrad,
        own.oversample,
        own.counts_per_electron,
    )
    known = not math.isnan(found.counts)
    electrons = found.counts / own.counts_per_electron if known else None
    coarseness = Coarseness(
        scan.shape[1],
        scan.step_size_angstrom / beam.airy_radius,
        electrons,
        own.repetition,
        gives_way=beside and own.when_slow == "coarser",
    )
    line_bytes = scan.shape[1] * GRID.members.size * 4
    backlog_lines = max(LEAST_BACKLOG_LINES, BACKLOG_BYTES // line_bytes)
    reach = coarseness.most.reach.lines
    thing = ExitWaveObject(
        acquisition,
        optics,
        geometry,
        coarseness.choose(own.repetition, own.every),
        batch=own.batch,
        held=min(scan.shape[0], reach + backlog_lines if beside else 2 * reach + 2),
        grows=not beside,
        begins=begins,
    )
    if electrons is not None:
        electrons *= thing.neighbourhood.repetition**2
    return Prepared(thing, coarseness, backlog_lines, electrons)


def described(thing: ExitWaveObject) -> dict[str, Any]:
    """What an image of the object must say of how it was made."""
    of, chosen, counts = thing.geometry, thing.neighbourhood, thing.counts
    return {
        "origin": [of.origin] * 2,
        "reach_semi_angles": round(thing.reach, 3),
        "center": list(of.center),
        "convergence_semi_angle_mrad": of.beam.convergence_semi_angle_mrad,
        "repetition": chosen.repetition,
        "every": chosen.every,
        **{kind: counts[kind] for kind in ("groups", "late", "saturated")},
    }
