"""A specimen's power in rings of scan frequency: what was seen there beyond its known noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

SURE, ABOUT = 3.0, 3
"""Standard errors from which on a ring's power is taken as it is; rings on either side that bound
it else."""


def ring_powers(seen: F64, error: F64, most: F64, mean: F64) -> F64:
    """The power of each ring (.., rings), of sums over its frequencies, of which there is one of
    each pair q and -q.

    `seen`: |numerator|^2 beyond its noise; `error`: its squared standard error; `most`: of the
    squared denominators; `mean`: of the noise.

    s^3 / (s^2 + e^2), s what is beyond and e its standard error, so that rings without
    specimen give next to nothing. Where noise decides (`by_chance`) a ring has no more than the
    rings about it have together: one ring's noise, or one strong wave of it in a ring of few,
    must not pass for detail that nobody could have seen.
    """
    together = shrunk(_added(seen), _added(error), _added(most))
    alone = shrunk(seen, error, most)
    waves = mean**2 / np.where(error > 0.0, error, 1.0)
    sure = seen > by_chance(waves) * np.sqrt(error)
    return np.where(sure, alone, np.minimum(alone, together))


def by_chance(waves: F64) -> F64:
    """Standard errors by which noise of so many waves together is exceeded once in 740 times.

    |noise|^2 of a wave falls off exponentially: of one wave 5.7, of many SURE (the approximation of
    Wilson and Hilferty, Proc. Natl. Acad. Sci. 17 (1931) 684, at so many standard deviations).
    """
    n = np.maximum(waves, 1.0)
    cube = (1.0 - 1.0 / (9.0 * n) + SURE / 3.0 / np.sqrt(n)) ** 3
    return np.asarray(np.sqrt(n) * (cube - 1.0))


def shrunk(seen: F64, error: F64, most: F64) -> F64:
    """Power of rings: what was seen, as far as it is more than its squared error would make."""
    beyond = np.maximum(seen, 0.0)
    known = (most > 0.0) & (beyond > 0.0)
    divisor = np.where(known, (beyond**2 + error) * most, 1.0)
    return np.where(known, beyond**3 / divisor, 0.0)


def _added(rings: F64) -> F64:
    """Each ring with those about it."""
    size, about = rings.shape[-1], [(0, 0)] * (rings.ndim - 1)
    padded = np.pad(rings, [*about, (ABOUT, ABOUT)])
    total = np.zeros_like(rings)
    for first in range(2 * ABOUT + 1):
        total += padded[..., first : first + size]
    return total
