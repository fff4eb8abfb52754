"""What a config allows and an experiment does not: doubts with numbers, for `stemd check`."""

from __future__ import annotations

import math
from collections.abc import Iterator

from stemd.acquisition import Optics, Scan
from stemd.beam import Beam
from stemd.config.resolved import EngineConfig, PipelineConfig
from stemd.errors import ConfigError
from stemd.settings import SlowEngineSettings, masks_of

ENERGIES_EV = 1e3, 3e6
"""Between these lie the beams of electron microscopes."""
ANGLES_MRAD = 0.05, 150.0
FINEST_STEP = 1 / 40
"""Of the probe's radius; nobody gains by smaller steps."""
FARTHEST_MRAD = 1571.0
"""A right angle."""
LEAST_DISC_PX = 2.0
"""A smaller disc falls on a few pixels, and its shift hardly changes their counts."""


def doubts(pipeline: PipelineConfig) -> list[str]:
    """Sentences about what cannot be meant so in one pipeline, each with numbers and a remedy."""
    if pipeline.adapter_plugin.works_on == "images":
        return []
    optics, scan = pipeline.optics, pipeline.adapter.scan
    shape = pipeline.adapter.detector_shape()
    return [
        *_beam(optics),
        *_disc(optics, shape),
        *_rings(pipeline, shape),
        *_step(pipeline, optics, scan),
        *_lens(optics, scan),
        *_lacking(pipeline, optics, scan),
    ]


def _beam(optics: Optics) -> Iterator[str]:
    energy, alpha = optics.energy_ev, optics.convergence_semi_angle_mrad
    if energy is not None and not ENERGIES_EV[0] <= energy <= ENERGIES_EV[1]:
        hint = f": {energy:g} keV is {energy:g}e3" if 1.0 <= energy < ENERGIES_EV[0] else ""
        yield f"optics.energy_ev = {energy:g} is the energy of no microscope's beam{hint}"
    if alpha is not None and not ANGLES_MRAD[0] <= alpha <= ANGLES_MRAD[1]:
        hint = f": {alpha:g} rad are {alpha * 1e3:g} mrad" if alpha < ANGLES_MRAD[0] else ""
        yield f"optics.convergence_semi_angle_mrad = {alpha:g} is the angle of no probe{hint}"


def _disc(optics: Optics, shape: tuple[int, int] | None) -> Iterator[str]:
    """The undiffracted disc on the detector."""
    alpha, pixel = optics.convergence_semi_angle_mrad, optics.pixel_size_mrad
    if optics.center != "auto" and shape is not None:
        y, x = optics.center
        if not (0 <= y <= shape[0] - 1 and 0 <= x <= shape[1] - 1):
            yield (
                f"optics.center = [{y:g}, {x:g}] lies outside the detector of "
                f"{shape[0]} x {shape[1]} pixels"
            )
    if pixel is not None and shape is not None and pixel * min(shape) / 2 > FARTHEST_MRAD:
        yield (
            f"optics.pixel_size_mrad = {pixel:g}: {min(shape)} pixels would see electrons at "
            f"{pixel * min(shape) / 2:,.0f} mrad, beyond a right angle"
        )
    if alpha is None or pixel is None:
        return
    radius = alpha / pixel
    what = f"the disc of {alpha:g} mrad has a radius of {radius:.1f} pixels of {pixel:g} mrad"
    if radius < LEAST_DISC_PX:
        yield f"{what}: too few for a centre of mass; check both, or use a longer camera length"
    elif shape is not None and 2 * radius > min(shape):
        yield (
            f"{what} and does not fit on the detector of {shape[0]} x {shape[1]} pixels; "
            "check both, or use a shorter camera length"
        )


def _rings(pipeline: PipelineConfig, shape: tuple[int, int] | None) -> Iterator[str]:
    """Virtual detectors on the detector there is."""
    if shape is None:
        return
    center = pipeline.optics.center
    y, x = ((shape[0] - 1) / 2, (shape[1] - 1) / 2) if center == "auto" else center
    across, along = max(y, shape[0] - 1 - y), max(x, shape[1] - 1 - x)
    corner = math.hypot(across, along)
    edge = min(y, x, shape[0] - 1 - y, shape[1] - 1 - x) + 0.5
    size = pipeline.optics.pixel_size_mrad
    for engine in pipeline.engines:
        for name, (inner, outer) in _masks(engine, pipeline.optics).items():
            where = f"engine {engine.name}: {name} = [{_angle(inner, size)}, {_angle(outer, size)}]"
            if inner > corner:
                yield f"{where} sees nothing: the detector ends at {_angle(corner, size)}"
            elif inner > edge:
                yield (
                    f"{where} sees the detector's corners only: its edge is at {_angle(edge, size)}"
                )
            elif outer > corner + 1.0:
                yield (
                    f"{where} ends beyond the detector: its edge is at {_angle(edge, size)}, its "
                    f"corner at {_angle(corner, size)}"
                )


def _masks(engine: EngineConfig, optics: Optics) -> dict[str, tuple[float, float]]:
    try:
        return masks_of(engine.name, engine.settings, optics)
    except ConfigError:
        return {}


def _angle(radius_px: float, pixel_mrad: float | None) -> str:
    return f"{radius_px:.0f} px" if pixel_mrad is None else f"{radius_px * pixel_mrad:.0f} mrad"


def _step(pipeline: PipelineConfig, optics: Optics, scan: Scan | None) -> Iterator[str]:
    """The scan's step against the probe, as wide as diffraction and the lens make it."""
    step = None if scan is None else scan.step_size_angstrom
    energy, alpha = optics.energy_ev, optics.convergence_semi_angle_mrad
    if step is None or energy is None or alpha is None:
        return
    beam = Beam(energy, alpha, 10.0 * optics.defocus_nm, optics.cs_mm)
    radius = max(beam.airy_radius, beam.blur_radius)
    if step > 2 * radius:
        yield (
            f"scan.step_size_angstrom = {step:g} is more than the probe is wide "
            f"({2 * radius:.2g} Å): the beam never reaches what lies between two positions"
        )
    elif step < FINEST_STEP * beam.airy_radius:
        yield (
            f"scan.step_size_angstrom = {step:g} is {beam.airy_radius / step:,.0f} times finer "
            f"than the probe's radius of {beam.airy_radius:.2g} Å: is it in nm?"
        )
    elif step > radius and (phases := _phases(pipeline)):
        yield (
            f"scan.step_size_angstrom = {step:g} is more than the probe's radius of "
            f"{radius:.2g} Å: the images of {', '.join(phases)} need probes that overlap"
        )


def _lens(optics: Optics, scan: Scan | None) -> Iterator[str]:
    """Aberrations that spread the beam, by geometrical optics, over more than is scanned."""
    step = None if scan is None else scan.step_size_angstrom
    alpha = 1e-3 * (optics.convergence_semi_angle_mrad or 0.0)
    if scan is None or step is None:
        return
    field = min(scan.shape) * step
    spread = {
        "defocus_nm": 10 * alpha,
        "cs_mm": 1e7 * alpha**3,
        "astigmatism_nm": 10 * alpha,
        "coma_nm": 30 * alpha**2,
        "threefold_nm": 10 * alpha**2,
    }
    for key, angstrom in spread.items():
        value = getattr(optics, key)
        if (wide := 2 * abs(value) * angstrom) > field:
            yield (
                f"optics.{key} = {value:g} makes the beam {wide / 10:,.3g} nm wide, wider than the "
                f"scan of {field / 10:,.3g} nm"
            )


def _lacking(pipeline: PipelineConfig, optics: Optics, scan: Scan | None) -> Iterator[str]:
    """What a phase cannot be made without."""
    keys = ("energy_ev", "convergence_semi_angle_mrad", "pixel_size_mrad")
    lacking = [f"optics.{key}" for key in keys if getattr(optics, key) is None]
    if scan is not None and scan.step_size_angstrom is None:
        lacking.append("scan.step_size_angstrom")
    if lacking and (phases := _phases(pipeline)):
        yield f"{', '.join(phases)} will make no image: {', '.join(lacking)} is not set"


def _phases(pipeline: PipelineConfig) -> list[str]:
    return [
        engine.name
        for engine in pipeline.engines
        if isinstance(engine.settings, SlowEngineSettings)
    ]
