"""How many counts pixels that do not count would have, by those beside them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.pixels import Mask


def missing_share(total: NDArray[np.int64], mask: Mask) -> float:
    """Part of all counts that `mask` takes away from `total` (y, x).

    A masked pixel is taken to have what lies between the pixels left and right of it, or above and
    below, whatever is less: no more is said than both say.
    """
    counts = np.where(mask, 0, total).astype(np.float64)
    filled = np.fmin(_filled(counts, mask), _filled(counts.T, mask.T).T)
    missing = float(np.nansum(np.where(mask, filled, 0.0)))
    return missing / max(1.0, missing + float(counts.sum()))


def _filled(counts: NDArray[np.float64], mask: Mask) -> NDArray[np.float64]:
    """Counts with each row's masked pixels interpolated; NaN beyond the last good one."""
    filled = counts.copy()
    along = np.arange(counts.shape[1])
    for row in np.flatnonzero(mask.any(axis=1)):
        bad = mask[row]
        filled[row, bad] = np.nan
        if not bad.all():
            filled[row, bad] = np.interp(
                along[bad], along[~bad], counts[row, ~bad], left=np.nan, right=np.nan
            )
    return filled
