"""The rotation between detector and scan, from the centre-of-mass field itself.

A projected potential has a gradient without curl. A field that is turned by a wrong angle, or
mirrored, has one: the right angle is that at which the curl is smallest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

LEVELS = 5
"""Sizes of detail that are looked at, each twice the one before: noise is worst in the finest."""
MIN_SIDE = 6
"""Lines and columns below which nothing is estimated."""
CLEARLY = 0.8
"""The other hand is taken if its curl is smaller than this part of that of the present one."""
CHANCE = 3.0
"""Standard errors below which a difference counts as chance."""
CLEAR_REST, CLEAR_SIGNIFICANCE = 0.25, 10.0
"""The rotation is clear where less than the first part of the curl is left, and chance would leave
all of it, so many standard errors apart."""
SURE = 6.0
"""Standard errors from which the sign counts as known."""


@dataclass(frozen=True, slots=True)
class RotationEstimate:
    """`rotation_deg` and `flip` as in the optics (docs/conventions.md).

    `confidence` is 0 for a field of noise and 1 for a clean gradient of bright atoms: the part of
    the curl that the rotation takes away, as far as it is more than chance, times how certain
    the sign is.
    """

    rotation_deg: float
    flip: bool
    confidence: float
    determined: bool = True
    """False where it is chance, and rotation and flip are those that were told."""


@dataclass(frozen=True, slots=True)
class _Fit:
    """The best angle for one hand at one size of detail."""

    angle: float
    rest: float
    significance: float
    divergence: F64


def estimate_rotation(
    shift_y: F64, shift_x: F64, *, rotation_deg: float = 0.0, flip: bool = False
) -> RotationEstimate:
    """The rotation, and whether to flip, that leave the COM field the least curl.

    `shift_y`, `shift_x`: (ny, nx) COM shifts in detector axes, at least 6 x 6. Turning by theta
    mixes curl C and divergence D of the field: C' = C cos - D sin, so that sum C'^2 is smallest
    at theta = atan2(2 sum CD, sum DD - sum CC) / 2. Of the two angles half a turn apart the one
    is taken with which atoms are bright: their divergence is sharply negative, so its third
    moment is below 0. Where that is chance the angle closer to the present `rotation_deg` is
    taken, and the present `flip` is kept unless the other one is clearly better.

    Raises ValueError for a smaller field.
    """
    if min(shift_y.shape) < MIN_SIDE:
        raise ValueError(f"a field of {shift_y.shape} positions is too small")
    hands = {mirrored: _best(shift_y, shift_x, mirrored) for mirrored in (False, True)}
    if hands[not flip].rest < CLEARLY * hands[flip].rest:
        flip = not flip
    fit = hands[flip]
    cubes = fit.divergence**3
    error = float(cubes.std()) / math.sqrt(cubes.size / 4) or 1.0  # neighbours share pixels
    sureness = float(cubes.mean()) / error
    angle = math.degrees(fit.angle)
    if abs(sureness) >= CHANCE:
        angle += 180.0 if sureness > 0 else 0.0
    elif math.cos(math.radians(angle - rotation_deg)) < 0:
        angle += 180.0
    gain = (1.0 - fit.rest) * max(0.0, 1.0 - CHANCE / max(fit.significance, 1e-9))
    return RotationEstimate(
        rotation_deg=180.0 - (180.0 - angle) % 360.0,
        flip=flip,
        confidence=gain * min(1.0, abs(sureness) / SURE),
    )


def clear_turn(shift_y: F64, shift_x: F64, *, flip: bool) -> tuple[float, float] | None:
    """The angle in degrees at which nearly no curl is left, up to half a turn, and its error.

    None where it is not clear: the curl that is left at the best angle must be a small part of what
    there is a quarter of a turn away, and far more than chance. What all positions of a line or of
    a column share is taken out first: there the microscope moves the pattern, too.
    """
    y, x = (
        part - part.mean(axis=0, keepdims=True) - part.mean(axis=1, keepdims=True) + part.mean()
        for part in (shift_y, shift_x)
    )
    fit = _best(y, x, flip)
    if fit.rest > CLEAR_REST or fit.significance < CLEAR_SIGNIFICANCE:
        return None
    return math.degrees(fit.angle), math.degrees(0.5 / fit.significance)


def _best(y: F64, x: F64, flip: bool) -> _Fit:
    """The fit at the size of detail at which the curl depends most clearly on the angle."""
    if flip:
        y, x = x, y
    fits = [_fit(y, x)]
    while len(fits) < LEVELS and min(y.shape) >= 4 * MIN_SIDE:
        y, x = _halved(y), _halved(x)
        fits.append(_fit(y, x))
    return max(fits, key=lambda fit: fit.significance)


def _fit(y: F64, x: F64) -> _Fit:
    curl = _slope(y, 1) - _slope(x, 0)
    divergence = _slope(x, 1) + _slope(y, 0)
    # a shift that grows evenly over the scan is the microscope's (descan), not the specimen's
    curl -= curl.mean()
    divergence -= divergence.mean()
    cc, dd = float((curl * curl).mean()), float((divergence * divergence).mean())
    cd = float((curl * divergence).mean())
    angle = 0.5 * math.atan2(2 * cd, dd - cc)
    middle, swing = (cc + dd) / 2, math.hypot((dd - cc) / 2, cd)
    if middle == 0.0:
        return _Fit(0.0, 1.0, 0.0, divergence)
    contrast = swing / middle
    return _Fit(
        angle=angle,
        rest=(1 - contrast) / (1 + contrast),
        significance=contrast * math.sqrt(curl.size / 4),
        divergence=divergence * math.cos(angle) + curl * math.sin(angle),
    )


def _slope(field: F64, axis: int) -> F64:
    """The derivative along an axis (Scharr), (ny - 2, nx - 2): alike in all directions."""
    if axis == 0:
        return _slope(field.T, 1).T
    across = (field[:, 2:] - field[:, :-2]) / 2
    return (3 * across[:-2] + 10 * across[1:-1] + 3 * across[2:]) / 16


def _halved(field: F64) -> F64:
    """The field smoothed by 1-4-6-4-1 in both directions, every second position of it."""
    for _ in range(2):
        smooth = field[:-4] + field[4:] + 4 * (field[1:-3] + field[3:-1]) + 6 * field[2:-2]
        field = (smooth[::2] / 16).T
    return field
