"""How much of the specimen a network claims to know, by which its image is believed or left out.

A network that was trained for the least mean square error makes weaker what it is unsure of: of a
specimen of the power P it shows a power rho^2 P, with rho the correlation that it expects of its
image with the true phase. Where it shows next to nothing of what the data see it knows nothing of
such a specimen. What little it shows then is not merely faint: coarse waves, which come from small
differences between patches, were found to have the wrong sign (zeolites and amorphous films at
500 e/angstrom^2), and spoil what the centre of mass has of them.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stemd.engines.airpi.bright import Evidence

C128 = NDArray[np.complex128]

NOTHING, ENOUGH = 0.03, 0.06
"""rho^2 up to which a network's image is left out, and from which on it counts wholly. Chosen on
the even draws of benchmarks/airpi/fresh.py."""


def belief(network: C128, evidence: Evidence) -> float:
    """How far a network's waves (n,), at the linear estimate's frequencies, are believed, 0 to 1.

    P is what the linear estimate has beyond its noise, and a standard error more: a specimen that
    the data may well have is not less there because they do not see it clearly. Frequencies count
    by how well they are known. 1 where nothing is known of any.
    """
    linear = evidence.linear
    at, transfer = linear.at, linear.denominator
    weight = at.twice * transfer**2
    known = transfer > 0.0
    divisor = np.where(known, transfer, 1.0)
    noise = np.where(known, at.positions / divisor, 0.0)
    power = np.abs(np.where(known, linear.numerator / divisor, 0.0)) ** 2
    seen = float((weight * (power - noise)).sum())
    error = math.sqrt(float((weight**2 * noise**2).sum()) / at.share)
    if not error > 0.0:
        return 1.0
    claimed = float((weight * np.abs(network) ** 2).sum()) / (max(seen, 0.0) + error)
    return float(np.clip((claimed - NOTHING) / (ENOUGH - NOTHING), 0.0, 1.0))
