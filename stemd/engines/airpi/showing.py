"""What AIRPI shows of a scan: its images with what they rest on, as results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stemd.engines.airpi.bright import Evidence, about_lenses
from stemd.engines.airpi.object import ExitWaveObject
from stemd.engines.airpi.slopes import Slopes
from stemd.engines.airpi.warnings import Warnings
from stemd.results import Result


def shown(
    thing: ExitWaveObject,
    names: Sequence[str],
    least_transfer: float,
    slopes: Slopes | None,
    evidence: Sequence[Evidence],
    about: Mapping[str, Any],
    warnings: Warnings,
) -> list[Result]:
    """Phase, weight and, where there is evidence, uncertainty, of these names; float32, of the
    object's own size. `about` goes into their descriptions.
    """
    made = thing.images(least_transfer, slopes, evidence)
    if evidence:
        warnings.thick(evidence[0].thick)
    if made.gain is not None:
        warnings.gain(made.gain)
    if made.fitted is not None:
        warnings.fitted(made.fitted)
    size, extra = thing.geometry.pixel_angstrom, dict(about)
    if evidence:
        lenses = about_lenses(evidence)
        extra["held_to"] = {**lenses, "network": round(made.believed or 0.0, 3)}
        if made.fitted is not None:
            extra["held_to"] |= {"specimen": "strong", "fitted": round(made.fitted, 3)}
        warnings.other_lens(evidence[0].disagrees)
        warnings.lens_unsure(evidence[0].unsure)
    phase, weight, uncertainty = names
    results = [
        Result(phase, made.phase, "rad", "scan", size, extra),
        Result(weight, made.weight, "1", "scan", size, extra),
    ]
    if made.sigma is not None:
        results.append(Result(uncertainty, made.sigma, "rad", "scan", size, extra))
    return results
