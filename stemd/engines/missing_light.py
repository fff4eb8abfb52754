"""How many counts pixels that do not count would have, by those beside them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.pixels import Mask, places_in


def missing_share(total: NDArray[np.int64], mask: Mask) -> float:
    """Part of all counts that `mask` takes away from `total` (y, x).

    A masked pixel is taken to have what lies between the pixels left and right of it, or above and
    below, whatever is less: no more is said than both say. Cost: that of finding the masked pixels.
    """
    y, x = places_in(mask)
    if not y.size:
        return 0.0
    down = np.lexsort((y, x))  # the same pixels, column by column
    across = np.empty(y.size)
    across[down] = _between(total.T, x[down], y[down])
    missing = float(np.nansum(np.fmin(_between(total, y, x), across)))
    seen = int(total.sum()) - int(total[y, x].sum())
    return missing / max(1.0, missing + seen)


def _between(
    counts: NDArray[np.int64], rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> NDArray[np.float64]:
    """What masked pixels (n,), row by row, have by the nearest good ones of their row.

    NaN where there is none on either side.
    """
    first = np.ones(rows.size, np.bool_)
    first[1:] = (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1] + 1)
    run = np.cumsum(first) - 1
    last = np.append(first[1:], True)
    left, right, row = columns[first] - 1, columns[last] + 1, rows[first]
    width = counts.shape[1]
    before = np.where(left >= 0, counts[row, left], np.nan)
    behind = np.where(right < width, counts[row, np.minimum(right, width - 1)], np.nan)
    slope = (behind - before) / (right - left)
    return np.asarray(before[run] + slope[run] * (columns - left[run]))
