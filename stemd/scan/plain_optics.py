"""What any scan says of its optics, whatever its engines: where the disc is, how the camera stands.

Rougher than what engines measure, and claimed only where it is clear.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stemd.acquisition import Optics
from stemd.blocks import Notice
from stemd.engines.probe import OTHER_SIZE, SEEN_COUNTS, fit_disc
from stemd.engines.rotation import MIN_SIDE, clear_turn
from stemd.engines.vectors import middle_shifts, resolve_centre
from stemd.errors import StemdError
from stemd.scan.run import ScanRun

Json = dict[str, Any]

LEAST_CENTER, OF_RADIUS = 1.0, 0.1
"""Pixels, and part of the disc's radius, by which the centre is off before it is said so: a strong
specimen takes light from one side of the disc."""
LEAST_TURN_DEG, SIGMAS = 15.0, 5.0
"""Degrees and standard errors by which the camera is turned before it is said so."""
LEAST_POSITIONS = 16
"""Positions a side below which nothing is said of the rotation."""
MOST_DESCAN, OF_DISC = 2.0, 0.1
"""Pixels across the scan, and part of the disc's radius where that is known, from which on it is
said that the disc wanders."""


def plain_center(run: ScanRun) -> Json | None:
    """The middle of the disc in the sum of some patterns, beside a centre that was told.

    None where none was told, no disc is seen, or one of another size than was told.
    """
    optics = run.settings.optics
    if optics.center == "auto" or not run.ended.is_set():
        return None
    total, rows, masked = run.sums.sampled.total()
    if total is None:
        return None
    image = np.where(masked, 0, total).astype(np.float64)
    image = np.repeat(image, rows, axis=0)[: run.acquisition.detector.shape[0]]
    try:
        disc = fit_disc(image)
    except StemdError:
        return None
    angle, pixel = optics.convergence_semi_angle_mrad, optics.pixel_size_mrad
    if angle is not None and pixel is not None:
        other = abs(disc.radius * pixel / angle - 1.0) > OTHER_SIZE
        if other:
            return None
    if image.sum() < SEEN_COUNTS * math.pi * disc.radius**2:
        return None
    off = math.dist(disc.center, optics.center)
    return {
        "value": [round(part, 3) for part in disc.center],
        "sigma": round(disc.spread, 3),
        "told": list(optics.center),
        "agrees": off <= max(LEAST_CENTER, rows, OF_RADIUS * disc.radius, SIGMAS * disc.spread),
    }


def plain_rotation(run: ScanRun) -> Json | None:
    """The rotation at which the shifts of the patterns are a gradient, beside the one told.

    Half a turn more does the same: the one that is nearer to what was told is given. None where it
    is not clear.
    """
    optics, (lines, columns) = run.settings.optics, run.maps.shape
    few = min(lines, columns) < max(MIN_SIDE, LEAST_POSITIONS)
    if few or not run.ended.is_set() or not run.maps.done.all():
        return None
    centre = resolve_centre(run.maps, optics, run.acquisition.detector.shape)
    turn = clear_turn(*middle_shifts(run.maps, centre), flip=optics.flip)
    if turn is None:
        return None
    angle, sigma = turn
    off = (angle - optics.rotation_deg + 90.0) % 180.0 - 90.0
    value = (optics.rotation_deg + off + 180.0) % 360.0 - 180.0
    return {
        "value": round(value, 1),
        "sigma": round(sigma, 1),
        "told": optics.rotation_deg,
        "agrees": abs(off) <= max(LEAST_TURN_DEG, SIGMAS * sigma),
    }


def wandering(document: Json, optics: Optics) -> Notice | None:
    """That the disc wanders over the detector while the beam scans, where that is not little.

    `document`: measured optics.
    """
    descan = document["descan_px"]
    if descan is None:
        return None
    across, sure = np.array(descan["value"]), SIGMAS * descan["sigma"]
    lines, columns = np.hypot(*across)
    angle, pixel = optics.convergence_semi_angle_mrad, optics.pixel_size_mrad
    most = MOST_DESCAN if angle is None or pixel is None else OF_DISC * angle / pixel
    if max(lines, columns) < max(most, sure):
        return None
    return Notice(
        "descan",
        f"the pattern wanders over the detector, by {lines:.1f} pixels from the first line to the "
        f"last and by {columns:.1f} along the lines (descan): ricom, icom, direct and ssb take "
        "that out as far as they can, virtual detectors and the network of airpi do not",
        remedy="correct the descan at the microscope, or scan a smaller field",
    )
