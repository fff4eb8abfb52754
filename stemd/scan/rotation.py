"""The rotation between scan and camera, from a scan's own centre-of-mass field."""

from __future__ import annotations

from stemd.engines.rotation import MIN_SIDE, RotationEstimate, estimate_rotation
from stemd.engines.vectors import middle_shifts, resolve_centre
from stemd.errors import StemdError
from stemd.scan.run import ScanRun


def rotation_of(run: ScanRun) -> RotationEstimate:
    """From the lines up to the newest position; one that is missing counts as no shift.

    Of a large scan from the middle of these: see `middle_shifts`.
    """
    optics, (_, columns) = run.settings.optics, run.maps.shape
    done = run.maps.done.nonzero()[0]
    lines = (int(done[-1]) + 1) // columns if done.size else 0
    if min(lines, columns) < MIN_SIDE:
        raise StemdError(
            f"{lines} scanned lines of {columns} positions are too few for the rotation",
            f"ask again when {MIN_SIDE} x {MIN_SIDE} positions are scanned",
        )
    centre = resolve_centre(run.maps, optics, run.acquisition.detector.shape)
    field = middle_shifts(run.maps, centre, lines)
    return estimate_rotation(*field, rotation_deg=optics.rotation_deg, flip=optics.flip)
