"""What optics, scan and detector say together and no experiment does: sentences with numbers.

Where they are wrong an image looks right and is not, or is empty: so they are said by `stemd
check`, when a setting is changed, and of each scan, whose detector is known then.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from stemd.acquisition import Optics, Scan
from stemd.beam import Beam
from stemd.errors import ConfigError
from stemd.pixels import mask_of
from stemd.settings import Settings, masks_of

Shape = tuple[int, int]

ENERGIES_EV = 1e3, 3e6
"""Between these lie the beams of electron microscopes."""
ANGLES_MRAD = 0.05, 150.0
FINEST_STEP = 1 / 40
"""Of the probe's radius; nobody gains by smaller steps."""
FARTHEST_MRAD = 1571.0
"""A right angle."""
LEAST_DISC_PX = 2.0
"""A smaller disc falls on a few pixels, and its shift hardly changes their counts."""


def doubts_of(settings: Settings, shape: Shape | None) -> list[str]:
    """All of them for live settings and a detector of `shape` (height, width), if it is known."""
    optics, scan = settings.optics, settings.scan
    return [
        *mask_doubts(optics, shape),
        *beam_doubts(optics),
        *centre_doubts(optics, shape),
        *angle_doubts(optics, shape),
        *disc_doubts(optics, shape),
        *blind_doubts(settings, shape),
        *ring_doubts(settings, shape),
        *step_doubts(optics, scan),
    ]


def grave_doubts_of(settings: Settings, shape: Shape) -> list[str]:
    """Those that make an image empty or wrong, of a scan whose detector is known."""
    return [
        *beam_doubts(settings.optics),
        *centre_doubts(settings.optics, shape),
        *angle_doubts(settings.optics, shape),
        *blind_doubts(settings, shape),
        *step_doubts(settings.optics, settings.scan),
    ]


def mask_doubts(optics: Optics, shape: Shape | None) -> Iterator[str]:
    """Listed pixels that the detector has not: scans would be made without the mask."""
    if isinstance(optics.mask, tuple) and shape is not None:
        try:
            mask_of(optics.mask, shape)
        except ValueError as error:
            yield f"scans would be made without optics.mask: {error}"


def beam_doubts(optics: Optics) -> Iterator[str]:
    """An energy or an angle that no microscope has."""
    energy, alpha = optics.energy_ev, optics.convergence_semi_angle_mrad
    if energy is not None and not ENERGIES_EV[0] <= energy <= ENERGIES_EV[1]:
        hint = f": {energy:g} keV is {energy:g}e3" if 1.0 <= energy < ENERGIES_EV[0] else ""
        yield f"optics.energy_ev = {energy:g} is the energy of no microscope's beam{hint}"
    if alpha is not None and not ANGLES_MRAD[0] <= alpha <= ANGLES_MRAD[1]:
        hint = f": {alpha:g} rad are {alpha * 1e3:g} mrad" if alpha < ANGLES_MRAD[0] else ""
        yield f"optics.convergence_semi_angle_mrad = {alpha:g} is the angle of no probe{hint}"


def centre_doubts(optics: Optics, shape: Shape | None) -> Iterator[str]:
    """A centre beside the detector."""
    if optics.center != "auto" and shape is not None:
        y, x = optics.center
        if not (0 <= y <= shape[0] - 1 and 0 <= x <= shape[1] - 1):
            yield (
                f"optics.center = [{y:g}, {x:g}] lies outside the detector of "
                f"{shape[0]} x {shape[1]} pixels"
            )


def angle_doubts(optics: Optics, shape: Shape | None) -> Iterator[str]:
    """Pixels that see more than comes through a specimen."""
    pixel = optics.pixel_size_mrad
    if pixel is not None and shape is not None and pixel * min(shape) / 2 > FARTHEST_MRAD:
        yield (
            f"optics.pixel_size_mrad = {pixel:g}: {min(shape)} pixels would see electrons at "
            f"{pixel * min(shape) / 2:,.0f} mrad, beyond a right angle"
        )


def disc_doubts(optics: Optics, shape: Shape | None) -> Iterator[str]:
    """The undiffracted disc on the detector."""
    alpha, pixel = optics.convergence_semi_angle_mrad, optics.pixel_size_mrad
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


def blind_doubts(settings: Settings, shape: Shape | None) -> Iterator[str]:
    """Virtual detectors beside the detector: their images are 0."""
    size = settings.optics.pixel_size_mrad
    for where, inner, _, corner, _ in _rings(settings, shape):
        if inner > corner:
            yield f"{where} sees nothing: the detector ends at {_angle(corner, size)}"


def ring_doubts(settings: Settings, shape: Shape | None) -> Iterator[str]:
    """Virtual detectors of which a part lies beside the detector."""
    size = settings.optics.pixel_size_mrad
    for where, inner, outer, corner, edge in _rings(settings, shape):
        if edge < inner <= corner:
            yield f"{where} sees the detector's corners only: its edge is at {_angle(edge, size)}"
        elif inner <= edge and outer > corner + 1.0:
            yield (
                f"{where} ends beyond the detector: its edge is at {_angle(edge, size)}, its "
                f"corner at {_angle(corner, size)}"
            )


def step_doubts(optics: Optics, scan: Scan | None) -> Iterator[str]:
    """The scan's step against the probe, as wide as diffraction and the lens make it."""
    step = None if scan is None else scan.step_size_angstrom
    beam = beam_of(optics)
    if step is None or beam is None:
        return
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


def beam_of(optics: Optics) -> Beam | None:
    """The probe, where energy and angle are told."""
    energy, alpha = optics.energy_ev, optics.convergence_semi_angle_mrad
    if energy is None or alpha is None:
        return None
    return Beam(energy, alpha, 10.0 * optics.defocus_nm, optics.cs_mm)


def _rings(
    settings: Settings, shape: Shape | None
) -> Iterator[tuple[str, float, float, float, float]]:
    """Of each ring what it is called, its radii, and the detector's corner and edge, in pixels."""
    if shape is None:
        return
    center = settings.optics.center
    y, x = ((shape[0] - 1) / 2, (shape[1] - 1) / 2) if center == "auto" else center
    corner = math.hypot(max(y, shape[0] - 1 - y), max(x, shape[1] - 1 - x))
    edge = min(y, x, shape[0] - 1 - y, shape[1] - 1 - x) + 0.5
    size = settings.optics.pixel_size_mrad
    for engine, own in settings.engines.items():
        try:
            rings = masks_of(engine, own, settings.optics)
        except ConfigError:
            continue
        for name, (inner, outer) in rings.items():
            where = f"engine {engine}: {name} = [{_angle(inner, size)}, {_angle(outer, size)}]"
            yield where, inner, outer, corner, edge


def _angle(radius_px: float, pixel_mrad: float | None) -> str:
    return f"{radius_px:.0f} px" if pixel_mrad is None else f"{radius_px * pixel_mrad:.0f} mrad"
