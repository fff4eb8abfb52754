"""How strong a specimen is at each frequency, from what it scatters out of the disc.

A thin specimen's transmission t turns the aperture A into psi(k) = sum_q t(q) A(k - q) for each
position of the probe. Averaged over the positions of a scan all that is left is

    I(k) = sum_q S(q) |A(k - q)|^2,

S the power of t: of a weak phase its own. The lens is not in this, and what lies outside of the
disc is nearly free of noise: sheets of a dichalcogenide with 500 e/angstrom^2 give a thousand
electrons there, a sheet of carbon twenty, where the bright field has 60,000 with all their noise.

S is found in rings by the steps of Richardson and Lucy (J. Opt. Soc. Am. 62 (1972) 55), which do
not follow the noise of so few counts in so few steps, with an even background beside it.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from stemd.engines.airpi.features import GRID
from stemd.engines.lens.estimate import Frequencies

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

WIDTH, FURTHEST = 0.25, 5.0
"""Of the rings of the specimen's power, and how far they reach, in apertures."""
FIRST, UNSEEN = 1.3, 2
"""Semi-angles from which on nothing of the disc is left, its edge divided among pixels and a
detector's point spread included; and the first rings, which scatter to less than that."""
KNEE = 0.8
"""Aperture beyond which the power falls off, before anything is known: that of atoms."""
BACKGROUND = 0.05
"""Part of what lies outside that is an even background, before anything is known."""
STEPS = 4
LEAST_PIXELS = 100
"""Of the grid that the detector has outside of the disc: all have 657."""
PIECES = 5
"""In which a ring and a pixel are divided."""


def power_density(counts: F64, known: F32) -> F64 | None:
    """The specimen's power in radian^2 an aperture^2 of frequency, in rings of `WIDTH`.

    `counts` (K,): the sum of all patterns on `features.GRID`; `known` (K,): 1 where the detector
    sees them. None where it does not see enough.
    """
    outside = np.flatnonzero((_radius() > FIRST) & (known > 0.0))
    total = float(counts[known > 0.0].sum())
    seen = counts[outside]
    if outside.size < LEAST_PIXELS or not (total > 0.0 and seen.sum() > 0.0):
        return None
    middle = WIDTH * (np.arange(_scattering().shape[1]) + 0.5)
    transfer = np.column_stack([_scattering()[outside] * total, np.ones(outside.size)])
    found = np.append(1.0 / (1.0 + (middle / KNEE) ** 2) ** 2, 0.0)
    found *= (1.0 - BACKGROUND) * seen.sum() / (transfer @ found).sum()
    found[-1] = BACKGROUND * seen.mean()
    whole = np.maximum(transfer.sum(axis=0), 1e-300)
    for _ in range(STEPS):
        times = transfer.T @ (seen / (transfer @ found)) / whole
        times[:UNSEEN] = times[UNSEEN]  # as strong as those beside them
        found *= times
    return np.asarray(found[:-1], np.float64)


def power_at(density: F64, at: Frequencies, step: float) -> F64:
    """Of the waves of a specimen, (n,), at the frequencies of a scan with this `step`, apertures^-1
    (radii of the Airy disc, but for a factor)."""
    q = np.hypot(at.y, at.x)
    middle = WIDTH * (np.arange(density.size) + 0.5)
    each = np.exp(np.interp(q, middle, np.log(np.maximum(density, 1e-30))))
    return np.asarray(each * at.positions / step**2)


@cache
def _radius() -> F64:
    return np.asarray(np.hypot(*GRID.vectors.T))


@cache
def _scattering() -> F64:
    """(K, rings): the share of all electrons that a power density of 1 in a ring brings to each
    pixel of the grid."""
    part = (np.arange(PIECES) + 0.5) / PIECES
    q = (WIDTH * (np.arange(round(FURTHEST / WIDTH))[:, None] + part)).ravel()
    radius, inverse = np.unique(np.round(_radius(), 6), return_inverse=True)
    shares = np.zeros((radius.size, q.size))
    for beside in (part - 0.5) / GRID.per_angle:
        k = np.maximum(radius + beside, 1e-3)[:, None]
        # of the circle of waves that are scattered by q to k so much comes from the disc
        shares += np.arccos(np.clip((k**2 + q**2 - 1.0) / (2.0 * k * q), -1.0, 1.0)) / math.pi
    shares *= 2.0 * q * WIDTH / PIECES / PIECES / GRID.per_angle**2
    return np.asarray(shares.reshape(radius.size, -1, PIECES).sum(axis=2)[inverse])
