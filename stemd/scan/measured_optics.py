"""The optics of a scan as its data have them, beside what was told: one document."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.acquisition import Optics, iso_utc
from stemd.blocks import Notice
from stemd.engines.base import MeasuringEngine
from stemd.engines.lens.found import DISAGREES, LEAST_TURN_DEG, PHYSICS_ANGSTROM, OpticsFound
from stemd.engines.vectors import descan_of
from stemd.scan.drift import Seen, drift_between
from stemd.scan.not_measured import why_not_measured
from stemd.scan.plain_optics import plain_center, plain_rotation, wandering
from stemd.scan.run import ScanRun

Json = dict[str, Any]

THIRD_ORDER_ANGSTROM = 200.0
"""Coma and three-fold astigmatism below which nothing is said."""
LEAST_ANGLE, LEAST_CENTER, LEAST_OVAL = 0.02, 0.5, 0.02
"""Part of the semi-angle, pixels of the centre, and part by which the disc is longer than wide,
below which nothing is said."""
NAMES = (
    "defocus_nm", "astigmatism_nm", "coma_nm", "threefold_nm", "rotation_deg", "flip",
    "convergence_semi_angle_mrad", "center", "ellipticity_percent", "descan_px",
    "dose_e_per_square_angstrom", "drift_nm_per_s", "masked_pixels",
)  # fmt: skip


def measured_optics(run: ScanRun, before: Seen | None = None) -> Json | None:
    """What the data of a scan say of the optics; None where that was not to be measured.

    Each of NAMES is `value`, `sigma` (standard error), `told`, `agrees` (None where nothing was
    told), or None where the data cannot say; directions are `angle_deg`. `before`: the scan before,
    against which drift is measured. `quality`: how clearly
    the lens stands out in the data, 0 to 1, None where no engine has looked for it. `usable`: keys
    of the optics as they were measured, of which the data are sure and which are not as told.
    `not_measured`: why there is no defocus, None where there is one.
    `lines`: the first so many were measured; `preliminary`: those are not all. Of a scan that is
    not over yet what there is; by any thread.
    """
    optics = run.settings.optics
    if optics.measured == "off" or not run.maps.total.any():
        return None
    found, engine = _found(run)
    lens = found.lens if found is not None else None
    document = _of_scan(run, engine)
    lines = found.lines if found is not None else None
    document |= {"lines": lines, "preliminary": not run.ended.is_set() or _partly(run, lines)}
    document["quality"] = round(lens.found.quality, 3) if lens is not None else None
    usable: Json = {}
    if found is not None and lens is not None and lens.sure:
        document |= _lens(found, optics)
        if lens.disagrees or lens.turned:
            now, then = lens.in_optics(optics).model_dump(), optics.model_dump()
            usable = {key: value for key, value in now.items() if value != then[key]}
    if found is not None and found.disc is not None:
        document |= _disc(found, optics)
    if lens is None:
        document["rotation_deg"] = plain_rotation(run)
    if document["center"] is None:
        document["center"] = plain_center(run)
    document |= _of_maps(run)
    document["drift_nm_per_s"] = _drift(before, Seen.of(run)) if before is not None else None
    if run.repeats is not None:
        document["drift_nm_per_s"] = _drift_of_frames(run.repeats.about())
    document["usable"] = usable
    elsewhere = lens is not None and lens.one_of_two
    document["agrees"] = False if elsewhere else _agrees(document)
    document["not_measured"] = why_not_measured(run, document)
    return document


def nothing_measured(run: ScanRun) -> Json:
    """The document of a scan that is over and of which nothing was measured: it says why.

    Whoever waits for that of the newest scan must not take an older one's for it.
    """
    why: Json = {"preliminary": False, "lines": None, "quality": None, "usable": {}, "agrees": None}
    return _of_scan(run, None) | why | {"not_measured": why_not_measured(run, None)}


def _of_scan(run: ScanRun, engine: str | None) -> Json:
    began = run.acquisition.started_ns
    document: Json = dict.fromkeys(NAMES) | {"scan": run.acquisition.id, "engine": engine}
    return document | {"started": iso_utc(began), "started_ns": began}


def _agrees(document: Json) -> bool | None:
    """Whether the data have what was told; None where nothing differs but the lens is not known."""
    entries = [each for each in document.values() if isinstance(each, Mapping) and "agrees" in each]
    if any(each["agrees"] is False for each in entries):
        return False
    return True if document["defocus_nm"] is not None else None


def _found(run: ScanRun) -> tuple[OpticsFound | None, str | None]:
    """What the engine that measures has found, and its name."""
    for engine in run.engines.every:
        if isinstance(engine, MeasuringEngine) and run.engines.works(engine):
            found = engine.optics_found()
            if found is not None:
                return found, engine.name
    return None, None


def lines_measured(run: ScanRun) -> int:
    """Of how many lines of a scan the lens has been looked for by now; by any thread."""
    found, _ = _found(run)
    return found.lines if found is not None else 0


def _partly(run: ScanRun, lines: int | None) -> bool:
    return lines is not None and lines < run.maps.shape[0]


def _entry(value: Any, sigma: Any, told: Any, agrees: bool | None, **more: Any) -> Json:
    return {"value": value, "sigma": sigma, "told": told, "agrees": agrees, **more}


def _lens(found: OpticsFound, optics: Optics) -> Json:
    lens = found.lens
    assert lens is not None
    has, told, sigma = lens.found.aberrations, lens.told, lens.found.sigma
    off = abs(has.defocus - told.defocus)
    entries = {
        "defocus_nm": _entry(
            round(has.defocus / 10, 3),
            round(float(sigma[0]) / 10, 3),
            optics.defocus_nm,
            bool(off <= max(DISAGREES * sigma[0], PHYSICS_ANGSTROM)),
        ),
        "astigmatism_nm": _vector("astigmatism", has, told, sigma[1:3], PHYSICS_ANGSTROM),
        "rotation_deg": _entry(
            round(lens.rotation_deg, 2),
            round(lens.found.turn_sigma_deg, 2),
            optics.rotation_deg,
            abs((lens.rotation_deg - optics.rotation_deg + 180.0) % 360.0 - 180.0)
            <= max(DISAGREES * lens.found.turn_sigma_deg, LEAST_TURN_DEG),
        ),
        "flip": _entry(lens.flip, None, optics.flip, lens.flip == optics.flip),
    }
    if np.isfinite(sigma[3:7]).all():
        third = Aberrations(*[0.0] * 3, *(float(value) for value in lens.found.third_order))
        entries["coma_nm"] = _vector("coma", third, told, sigma[3:5], THIRD_ORDER_ANGSTROM)
        entries["threefold_nm"] = _vector(
            "threefold", third, told, sigma[5:7], THIRD_ORDER_ANGSTROM
        )
    return entries


def _vector(
    name: str, has: Aberrations, told: Aberrations, sigma: NDArray[np.float64], least: float
) -> Json:
    """The entry of an aberration that has a direction; `sigma` of its components."""
    size, angle = getattr(has, name)
    told_size, told_angle = getattr(told, name)
    off = max(
        abs(getattr(has, f"{name}_{axis}") - getattr(told, f"{name}_{axis}")) for axis in "xy"
    )
    error = float(np.sqrt((sigma**2).mean()))
    return _entry(
        round(size / 10, 3),
        round(error / 10, 3),
        round(told_size / 10, 3),
        bool(off <= max(DISAGREES * error, least)),
        angle_deg=round(angle, 1),
        told_angle_deg=round(told_angle, 1),
    )


def _disc(found: OpticsFound, optics: Optics) -> Json:
    disc, pixel = found.disc, optics.pixel_size_mrad
    assert disc is not None
    assert pixel is not None
    angle, told = disc.radius * pixel, optics.convergence_semi_angle_mrad
    sigma = disc.radius_sigma * pixel
    center = None if optics.center == "auto" else list(optics.center)
    near = None
    if optics.center != "auto":
        near = math.dist(disc.center, optics.center) <= max(
            DISAGREES * disc.center_sigma, LEAST_CENTER
        )
    agrees = told is None or abs(angle - told) <= max(DISAGREES * sigma, LEAST_ANGLE * told)
    return {
        "convergence_semi_angle_mrad": _entry(
            round(angle, 3), round(sigma, 3), told, agrees if told is not None else None
        ),
        "center": _entry(
            [round(part, 3) for part in disc.center], round(disc.center_sigma, 3), center, near
        ),
        "ellipticity_percent": _entry(
            round(100 * disc.oval[0], 2),
            round(100 * disc.oval_sigma, 2),
            None,
            disc.oval[0] <= max(DISAGREES * disc.oval_sigma, LEAST_OVAL),
            angle_deg=round(disc.oval[1], 1),
        ),
    }


def _of_maps(run: ScanRun) -> Json:
    """Descan, dose and masked pixels: no engine is needed for them."""
    maps, step = run.maps, run.acquisition.scan.step_size_angstrom
    entries: Json = {}
    descan = descan_of(maps)
    if descan is not None:
        entries["descan_px"] = _entry(
            [[round(float(part), 3) for part in row] for row in descan.across],
            round(float(descan.sigma.max()), 3),
            None,
            None,
        )
    total, done = int(maps.total.sum()), int(np.count_nonzero(maps.done))
    if step is not None and done:
        area = done * step**2 / run.acquisition.detector.scale
        entries["dose_e_per_square_angstrom"] = _entry(
            round(total / area, 3), round(math.sqrt(max(1, total)) / area, 4), None, None
        )
    masked = 0 if maps.masked is None else int(np.count_nonzero(maps.masked))
    entries["masked_pixels"] = _entry(masked, 0, None, None)
    return entries


def _drift_of_frames(about: Json) -> Json | None:
    """From frame to frame of a place that was scanned several times."""
    found = about.get("drift_nm_per_s")
    return _entry(found["value"], found["sigma"], None, None) if found else None


def _drift(before: Seen | None, now: Seen | None) -> Json | None:
    found = drift_between(before, now)
    if found is None:
        return None
    (y, x), sigma = found
    return _entry([round(y, 5), round(x, 5)], round(sigma, 5), None, None)


_WORDS = {
    "rotation_deg": "a camera that is turned by {value} degrees or half a turn more, if flip is "
    "as told (told {told})",
    "convergence_semi_angle_mrad": "a convergence semi-angle of {value} mrad (told {told})",
    "center": "the disc at {value} pixels (told {told})",
    "ellipticity_percent": "a disc that is {value} % longer than wide, at {angle_deg} degrees on "
    "the detector, as a tilted detector or a distorting lens makes it",
    "coma_nm": "a coma of {value} nm (told {told})",
    "threefold_nm": "a three-fold astigmatism of {value} nm (told {told})",
}


def said_by_data(document: Json | None, optics: Optics) -> list[Notice]:
    """What people are told of measured optics, beside what engines say; None: nothing measured."""
    if document is None:
        return []
    both = other_than_told(document), wandering(document, optics)
    return [notice for notice in both if notice is not None]


def other_than_told(document: Json) -> Notice | None:
    """What disagrees beside what `usable` has, or nothing; engines tell of defocus and rotation."""
    text = _words_of(document)
    if not text or document["usable"]:
        return None
    remedy = "correct it in the optics"
    angle = document["convergence_semi_angle_mrad"]
    if document["defocus_nm"] is None and angle is not None and angle["agrees"] is False:
        remedy += ": the semi-angle, or the pixel size; until then no lens is claimed where they "
        remedy += "are far off"
    return Notice("optics", text, remedy=remedy)


def _words_of(document: Json) -> str:
    parts = [
        text.format(**document[name])
        for name, text in _WORDS.items()
        if document[name] is not None
        and document[name]["agrees"] is False
        # an engine that has found the lens tells of the rotation itself
        and (name != "rotation_deg" or document["defocus_nm"] is None)
    ]
    return f"the data have {', and '.join(parts)}" if parts else ""
