"""One function an engine: the data of a scan in, its image out.

All of them take the same arguments as `process` for scan, optics, threads, progress, and what of a
file is meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stemd.api import plan
from stemd.api.images import Image, Images
from stemd.api.plan import OpticsLike, ScanLike
from stemd.api.processing import Part, made
from stemd.api.progress import ProgressLike
from stemd.errors import UsageError


def com(
    data: Any,
    *,
    scan: ScanLike = None,
    optics: OpticsLike = None,
    jobs: int | None = None,
    progress: ProgressLike = None,
    scan_number: int | None = None,
    dataset: str | None = None,
) -> Images:
    """Centre of mass of each pattern, and the electric field that follows from it.

    `com_y`, `com_x`: shift from the centre in detector pixels, in detector axes.
    `field_magnitude` (detector pixels) and `field_direction` (rad, counter-clockwise from +x as
    displayed) in scan axes. Optics that matter: `center`, `rotation_deg`, `flip`. Arguments and
    errors as in `process`.
    """
    return _made(data, "com", {}, scan, optics, jobs, progress, Part(scan_number, dataset))


def ricom(
    data: Any,
    *,
    kernel_size: int = 61,
    band_pass: tuple[float, float] | None = None,
    scan: ScanLike = None,
    optics: OpticsLike = None,
    jobs: int | None = None,
    progress: ProgressLike = None,
    scan_number: int | None = None,
    dataset: str | None = None,
) -> Image:
    """Real-time integrated centre of mass, in detector pixels times scan pixels ("px*px").

    `kernel_size`: odd, 3 to 4095 scan pixels; a small one shows fine structure only.
    `band_pass`: (k_min, k_max) in inverse pixels of the image. Bright at atoms. Optics that
    matter: `center`, `rotation_deg`, `flip`. Arguments and errors as in `process`.
    """
    own = {"kernel_size": kernel_size, "band_pass": band_pass}
    return _made(data, "ricom", own, scan, optics, jobs, progress, Part(scan_number, dataset))[
        "ricom"
    ]


def icom(
    data: Any,
    *,
    scan: ScanLike = None,
    optics: OpticsLike = None,
    jobs: int | None = None,
    progress: ProgressLike = None,
    scan_number: int | None = None,
    dataset: str | None = None,
) -> Image:
    """Integrated centre of mass of the whole scan ("px*px"): riCOM without a kernel's limit.

    Optics that matter: `center`, `rotation_deg`, `flip`. Arguments and errors as in `process`.
    """
    return _made(data, "icom", {}, scan, optics, jobs, progress, Part(scan_number, dataset))["icom"]


def virtual_detectors(
    data: Any,
    detectors: Mapping[str, Sequence[float]],
    *,
    units: str = "mrad",
    scan: ScanLike = None,
    optics: OpticsLike = None,
    jobs: int | None = None,
    progress: ProgressLike = None,
    scan_number: int | None = None,
    dataset: str | None = None,
) -> Images:
    """Counts on discs and rings around the centre: {"bf": (0, 20), "adf": (22, 60)}.

    A pixel counts if inner <= distance from the centre < outer. Radii are in `units`: "mrad",
    for which the optics need `pixel_size_mrad`, or "px". The images have the detectors' names.
    Arguments and errors as in `process`.
    """
    if units not in ("mrad", "px"):
        raise UsageError(f"units={units!r} is not a unit of radii", 'give "mrad" or "px"')
    if not isinstance(detectors, Mapping) or not detectors:
        raise UsageError(f"{detectors!r} names no virtual detector", 'give {"adf": (inner, outer)}')
    own = {"detectors" if units == "mrad" else "detectors_px": detectors}
    return _made(
        data, "virtual_detector", own, scan, optics, jobs, progress, Part(scan_number, dataset)
    )


def airpi(
    data: Any,
    *,
    model: str = "airpi",
    backend: str = "auto",
    scan: ScanLike = None,
    optics: OpticsLike = None,
    jobs: int | None = None,
    progress: ProgressLike = None,
    scan_number: int | None = None,
    dataset: str | None = None,
    **settings: Any,
) -> Images:
    """Phase of a thin specimen from a network: `airpi_phase`, `airpi_uncertainty` (rad) and
    `airpi_weight`.

    Pixels are finer than the scan step where the optics allow it; `pixel_size` says how fine.
    `model`: a name of `stemd models list`, or a path. `backend`: "auto", "tensorrt", "openvino" or
    "onnxruntime". `settings`: any other key of the engine `airpi` (docs/reference/config.md), such
    as `repetition`. Needs the optics' `energy_ev`,
    `convergence_semi_angle_mrad`, `pixel_size_mrad` and the scan's `step_size_angstrom`. Arguments
    and errors as in `process`; ModelError where the network cannot be used.
    """
    own = {"model": model, "backend": backend, **settings}
    return _made(data, "airpi", own, scan, optics, jobs, progress, Part(scan_number, dataset))


def ssb(
    data: Any,
    *,
    regularisation: float = 0.1,
    scan: ScanLike = None,
    optics: OpticsLike = None,
    jobs: int | None = None,
    progress: ProgressLike = None,
    scan_number: int | None = None,
    dataset: str | None = None,
    **settings: Any,
) -> Image:
    """Phase by single side-band ptychography in rad, without its mean; for thin specimens.

    `regularisation`: small for high doses. The aberrations of the optics (`defocus_nm`, ...) are
    taken out. `settings`: any other key of the engine `ssb`. Needs the same optics as `airpi`.
    Arguments and errors as in `process`.
    """
    own = {"regularisation": regularisation, **settings}
    part = Part(scan_number, dataset)
    return _made(data, "ssb", own, scan, optics, jobs, progress, part)["ssb_phase"]


def _made(
    data: Any,
    engine: str,
    own: Mapping[str, Any],
    scan: ScanLike,
    optics: OpticsLike,
    jobs: int | None,
    progress: ProgressLike,
    part: Part,
) -> Images:
    given = {key: value for key, value in own.items() if value is not None}
    chosen = plan.engines_of({engine: given})
    images, errors = made(data, chosen, optics, scan, None, False, jobs, progress, part)
    if errors:
        raise next(iter(errors.values()))
    return images
