"""From the maps of some positions to their centre-of-mass vectors, in one pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit


@njit(nogil=True, cache=True)
def scan_vectors(
    total: NDArray[np.int64],
    moment_y: NDArray[np.int64],
    moment_x: NDArray[np.int64],
    done: NDArray[np.bool_],
    first: int,
    shape: tuple[int, int],
    centre: tuple[float, float],
    slopes: tuple[float, float, float, float],
    flip: bool,
    cos: float,
    sin: float,
    vector_y: NDArray[np.float32],
    vector_x: NDArray[np.float32],
) -> None:
    """COM shifts of some positions in scan axes, in detector pixels; 0 where nothing is known.

    As `engines.vectors` says it with arrays, to the last bit: com = sum k I / sum I (thesis
    eq. 3.1) minus its zero, then to scan axes. total, moment_y, moment_x, done: the maps of these
    positions alone, from number `first` on of a scan of `shape` (ny, nx); centre, and slopes (the
    rows of `across`): of `Zero`; flip, and cos and sin of the rotation: of the optics. vector_y,
    vector_x: float32, as long as the maps, written. 3 ns a position.
    """
    ny, nx = shape
    sloping = slopes[0] != 0.0 or slopes[1] != 0.0 or slopes[2] != 0.0 or slopes[3] != 0.0
    for k in range(total.size):
        y = x = 0.0
        if done[k] and total[k] > 0:
            y = moment_y[k] / total[k] - centre[0]
            x = moment_x[k] / total[k] - centre[1]
            if sloping:
                row, column = (first + k) // nx, (first + k) % nx
                along_y = row / max(1, ny - 1) - 0.5
                along_x = column / max(1, nx - 1) - 0.5
                y = y - slopes[0] * along_y - slopes[1] * along_x
                x = x - slopes[2] * along_y - slopes[3] * along_x
        if flip:
            y, x = x, y
        vector_y[k] = np.float32(-x * sin + y * cos)
        vector_x[k] = np.float32(x * cos + y * sin)
