"""The lens of a scan that is not much wider than the probe, where the linear model is wrong.

It takes the scan to be periodic. Where a cell sees mostly what lies beyond the edges no lens
explains the cells so, and the evidence is largest for a wrong one (`lens.shifts`). Phase and lens
together (`lens.jointly`) know of the specimen beyond; they need a lens that is nearly right, which
the shifts of the cells' images give, and say by what remains whether it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.beam import Beam
from stemd.engines.lens.cells import SEEN, TURN
from stemd.engines.lens.climb import APART_RADIAN, Peak
from stemd.engines.lens.jointly import Jointly
from stemd.engines.lens.measure import AXIAL, BEYOND, Measured, Search
from stemd.engines.lens.patterns import Patterns
from stemd.engines.lens.refined import errors_of

F64 = NDArray[np.float64]

FIELD_SHARE = 0.25
"""Of the field's width, the radius to which the probe spreads, from which on this is needed."""
WIDER = 1.1
"""A lens that is found through a camera that is turned may lie so much beyond a search's limits."""
MOST_RIVALS = 2
"""Other lenses that are tried, each of which takes some seconds."""


def spreads_beyond(lens: Aberrations, beam: Beam, field_angstrom: float) -> bool:
    """Whether cells see so much beyond the edges of a field so wide that the linear model fails."""
    return lens.reach(beam) > FIELD_SHARE * field_angstrom


def may_spread_beyond(told: Aberrations, search: Search, beam: Beam, field_angstrom: float) -> bool:
    """Whether any lens within the limits of a search may do so."""
    alpha = beam.convergence_semi_angle_mrad * 1e-3
    aside = alpha * (search.defocus + search.astigmatism)
    return WIDER * (told.reach(beam) + aside) > FIELD_SHARE * field_angstrom


def found_beyond(
    start: F64,
    rivals: Sequence[Aberrations],
    told: Aberrations,
    patterns: Patterns,
    beam: Beam,
    step_angstrom: float,
    search: Search,
    go_on: Callable[[], bool],
) -> Measured | None:
    """The lens near the place `start`, with what speaks for it; None where nothing is seen.

    `rivals`: other lenses that may be the true one. The floor is the evidence of the lens of the
    other sign. Raises StoppedError once `go_on` says no.
    """

    peaks: list[Peak] = []

    def at(place: F64) -> Jointly:
        return Jointly(patterns, beam, step_angstrom, place, go_on)

    def improved(joint: Jointly) -> Jointly:
        peaks.append(joint.improve(AXIAL))
        return joint

    best = at(start)
    number = patterns.counts.shape[0] * int(np.count_nonzero(patterns.done))
    seen = best.shown - number
    if seen <= SEEN * math.sqrt(2.0 * number):
        return None  # the best of many shifts of noise may be clear: no fit is asked for seconds
    best = improved(best)
    peak = peaks[0]
    lens = Aberrations.of(peak.place[:TURN], beam)
    width = min(patterns.done.shape) * step_angstrom
    errors = errors_of(peak, beam, width)
    sigma = np.full(TURN, np.nan)
    if errors is not None:
        sigma[:3] = errors[0]
    behind = np.append(lens.seen_from_behind().coefficients(beam), peak.place[TURN])
    floor = improved(at(behind)).evidence
    lead = best.evidence - floor
    others = [each for each in (told, *rivals) if _apart(each, lens, beam) > APART_RADIAN]
    for other in others[:MOST_RIVALS]:
        joint = improved(at(np.append(other.coefficients(beam), 0.0)))
        if _apart(Aberrations.of(joint.place[:TURN], beam), lens, beam) > APART_RADIAN / 2:
            lead = min(lead, best.evidence - joint.evidence)
    off = np.abs(lens.as_array() - told.as_array())
    return Measured(
        aberrations=lens,
        sigma=sigma,
        turn_deg=math.degrees(float(peak.place[TURN])),
        turn_sigma_deg=errors[1] if errors is not None else math.nan,
        third_order=np.full(4, np.nan),
        evidence=best.evidence,
        floor=floor,
        within=bool(
            off[0] < BEYOND * search.defocus + 1.0
            and math.hypot(*off[1:3]) < BEYOND * search.astigmatism + 1.0
        ),
        lead=lead,
        explained=2.0 * best.evidence / seen,
        upright=False,
        possible=(lens,),
    )


def _apart(one: Aberrations, other: Aberrations, beam: Beam) -> float:
    change = one.coefficients(beam) - other.coefficients(beam)
    return float(np.linalg.norm(change[:3]))
