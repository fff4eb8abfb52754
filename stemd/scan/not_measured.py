"""Why the lens of a scan was not measured, for whoever waits for what was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemd.engines.base import MeasuringEngine
from stemd.scan.run import ScanRun

Json = dict[str, Any]

TOLD = ("_not_measured", "_not_made")
"""Ends of the kinds of notices by which engines tell that they have not measured."""


def why_not_measured(run: ScanRun, document: Mapping[str, Any] | None) -> str | None:
    """Why a scan has no measured defocus; None where it has one.

    `document`: its measured optics, None where there are none.
    """
    if document is not None and document["defocus_nm"] is not None:
        return None
    if run.settings.optics.measured == "off":
        return 'optics.measured is "off"'
    if not run.maps.total.any():
        return "no position of the scan has counts"
    if document is None:
        return "it failed, see the daemon's log"
    if document["quality"] is not None:
        return (
            "the data do not show the lens clearly: more dose, or a specimen with more detail, "
            "would"
        )
    angle = document["convergence_semi_angle_mrad"]
    if angle is not None and angle["agrees"] is False:
        return (
            f"the bright disc is of {angle['value']:.3g} mrad, and {angle['told']:.3g} were told: "
            "set the convergence semi-angle, or the pixel size, to what it is"
        )
    return _by_engines(run)


def _by_engines(run: ScanRun) -> str:
    """Why no engine has looked for the lens."""
    measuring = [each.name for each in run.engines.every if isinstance(each, MeasuringEngine)]
    if not measuring:
        return "no engine of the config measures the lens, as direct, ssb or measured_optics do"
    for name in measuring:
        if name in run.failed:
            why = " ".join(run.failed[name].split())
            return f"engine {name}: {why}"
    for notice in run.notices:
        if notice["kind"].endswith(TOLD):
            return str(notice["text"])
    if run.ended.is_set() and run.status != "complete":
        return f"the scan is {run.status}"
    return "nothing that tells of it is seen"
