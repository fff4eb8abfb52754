"""What single side-band ptychography cannot serve, in words."""

from __future__ import annotations

import numpy as np

from stemd.aberrations import Aberrations
from stemd.engines.bright_field.view import Discs
from stemd.engines.lens.estimate import COARSE_AIRY
from stemd.engines.lens.found import LensFound

MOST_RADIAN = 3.0
"""Change of the lens's phase over a cell of the disc beyond which its middle does not stand for it:
a third of what it transfers is lost."""
FIELD_SHARE = 0.25
"""Of the field that the probe may spread over."""


def beyond_limits(discs: Discs, lens: Aberrations, found: LensFound | None) -> list[str]:
    """Reasons why an image through this lens may show what is not there; empty: none is known.

    `found`: what the data say of the lens, once it was looked for.
    """
    beam, step, reasons = discs.beam, discs.step_angstrom, []
    if step > COARSE_AIRY * beam.airy_radius:
        reasons.append(
            f"with a step of {step:.2g} angstrom detail folds back that a probe of "
            f"{beam.airy_radius:.2g} angstrom shows (take {COARSE_AIRY * beam.airy_radius:.2g} or "
            "less)"
        )
    change = _steepest(lens, discs) * discs.cell / discs.radius
    if change > MOST_RADIAN:
        reasons.append(
            f"so far out of focus the lens changes by {change:.1f} radian over one cell of the "
            "disc (a larger pixels_per_angle, or less defocus)"
        )
    spread = lens.reach(beam) / (step * min(discs.done.shape))
    if spread > FIELD_SHARE:
        reasons.append(f"the probe spreads over {2 * spread:.0%} of the field")
    if found is not None and not found.sure:
        has = found.found
        if has.explained <= has.least_explained:
            reasons.append(
                f"one thin specimen explains {max(0.0, has.explained):.0%} of what the bright "
                "field sees: the specimen is too thick"
            )
        else:
            reasons.append("the data do not say which lens they were taken with: the dose is low, "
                           "or there is little to see")  # fmt: skip
    return reasons


def _steepest(lens: Aberrations, discs: Discs) -> float:
    """Largest slope of the aberration function at the aperture's edge, radian an aperture."""
    c1, *rest, c7 = np.abs(lens.coefficients(discs.beam))
    axial, coma, threefold = (np.hypot(*rest[n : n + 2]) for n in (0, 2, 4))
    return float(2 * (c1 + axial) + 3 * (coma + threefold) + 4 * c7)
