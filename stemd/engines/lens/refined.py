"""The lens that the linear model has found, made more exact with the phase (`lens.jointly`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations, scales
from stemd.beam import Beam
from stemd.engines.lens.cells import TURN
from stemd.engines.lens.climb import APART_RADIAN, Peak
from stemd.engines.lens.jointly import Jointly
from stemd.engines.lens.measure import AXIAL, Measured
from stemd.engines.lens.patterns import Patterns

F64 = NDArray[np.float64]

TIMES, MODEL, MODEL_ANGSTROM = 1.3, np.array([0.002, 0.0004, 0.0004]), 0.1
"""Times the errors that the counts make, and beside them a part of the defocus (in defocus and in
astigmatism) and angstrom, from trials on the virtual microscope (seed 7001 of the acceptance)."""
FIELD_SHARE, OUTSIDE = 0.4, 2.0
"""Of the field's width, the radius to which the probe spreads from which on most of what cells see
lies beyond it, and the angstrom by which the lens is off then (8 scans of seed 7005)."""
TURN_TIMES, MODEL_TURN = 1.5, 0.0005
"""Likewise of the rotation, in radian."""


def refined(
    found: Measured, patterns: Patterns, beam: Beam, step_angstrom: float, go_on: Callable[[], bool]
) -> Measured:
    """Defocus, two-fold astigmatism and rotation from these patterns, where they are better known
    so than before; the rest stays. Raises StoppedError once `go_on` says no.
    """
    start = np.append(found.aberrations.coefficients(beam), math.radians(found.turn_deg))
    peak = Jointly(patterns, beam, step_angstrom, start, go_on).improve(AXIAL)
    errors = errors_of(peak, beam, min(patterns.done.shape) * step_angstrom)
    if errors is None or np.linalg.norm((peak.place - start)[:3]) > APART_RADIAN:
        return found
    sigma, turn_sigma = errors
    if np.linalg.norm(sigma) > np.linalg.norm(found.sigma[:3]):
        return found
    return replace(
        found,
        aberrations=Aberrations.of(peak.place[:TURN], beam),
        sigma=np.concatenate([sigma, found.sigma[3:]]),
        turn_deg=math.degrees(float(peak.place[TURN])),
        turn_sigma_deg=turn_sigma,
    )


def warm(settings: object) -> Iterable[object]:
    """Compile what only a lens that is sure needs: that of a trial scan is not. A `Plugin.warm`."""
    there = np.ones((4, 4), np.bool_)
    patterns = Patterns(np.ones((1, 4, 4), np.float32), np.zeros((1, 1, 2)), 0.1, there, False)
    Jointly(patterns, Beam(), 0.5, np.zeros(TURN + 1)).improve(AXIAL)
    return ()


def errors_of(peak: Peak, beam: Beam, field_angstrom: float) -> tuple[F64, float] | None:
    """Standard errors of defocus and astigmatism in angstrom, and of the rotation in degree, of a
    field so wide."""
    variance, unit = peak.variance(), scales(beam)
    if variance is None:
        return None
    model = MODEL * abs(float(peak.place[0])) / unit[0] + MODEL_ANGSTROM
    outside = Aberrations.of(peak.place[:TURN], beam).reach(beam) > FIELD_SHARE * field_angstrom
    if outside:
        model = np.hypot(model, OUTSIDE)
    sigma = np.hypot(TIMES * np.sqrt(variance[:3]) / unit[:3], model)
    times = OUTSIDE if outside else 1.0
    return sigma, math.degrees(times * math.hypot(TURN_TIMES * math.sqrt(variance[3]), MODEL_TURN))
