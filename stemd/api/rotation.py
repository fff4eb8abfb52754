"""`estimate_rotation`: how the camera is turned against the scan, from the data themselves."""

from __future__ import annotations

from typing import Any, NamedTuple

from stemd.adapters.recordings.bands import is_lazy
from stemd.api import plan
from stemd.api.arrays import READERS
from stemd.api.plan import OpticsLike, ScanLike
from stemd.api.processing import Part, opened
from stemd.api.progress import ProgressLike, showing


class Rotation(NamedTuple):
    """What makes the centre-of-mass field free of curl, as keys of the optics have it.

    `confidence` from 0 (chance) to 1. Not `determined`: it is chance, and the others are as told.
    """

    rotation_deg: float
    flip: bool
    confidence: float
    determined: bool


def estimate_rotation(
    data: Any,
    *,
    scan: ScanLike = None,
    optics: OpticsLike = None,
    jobs: int | None = None,
    progress: ProgressLike = None,
    scan_number: int | None = None,
    dataset: str | None = None,
) -> Rotation:
    """`rotation_deg` and `flip` for the optics, from the scan's centre-of-mass field.

    Where the data cannot decide, between half turns say, what `optics` says is kept. Arguments as
    in `process`. Raises StemdError for a scan that is too small, and as `process`.
    """
    from stemd.scan.processing import process_recording
    from stemd.scan.rotation import rotation_of

    threads = plan.jobs_of(jobs, most=READERS if is_lazy(data) else None)
    with opened(data, scan, None, Part(scan_number, dataset)) as (recording, asked):
        settings = plan.settings_of([], plan.optics_of(optics), asked)
        with showing(progress, recording.acquisition.source) as update:
            run, _ = process_recording(recording, settings, [], threads, update)
    found = rotation_of(run)
    return Rotation(found.rotation_deg, found.flip, found.confidence, found.determined)
