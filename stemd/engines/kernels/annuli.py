"""Virtual detectors as masks over the detector's pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def annuli(
    shape: tuple[int, int],
    center: tuple[float, float],
    detectors_px: Mapping[str, Sequence[float]],
) -> list[NDArray[np.bool_]]:
    """Masks (height, width) of annular detectors `{name: (inner radius, outer radius)}` in pixels.

    A pixel (y, x) belongs to a detector if inner <= |(y, x) - center| < outer, with `center`
    (y, x) in pixels and a pixel's coordinates at its centre.
    """
    y, x = np.ogrid[: shape[0], : shape[1]]
    square = (y - center[0]) ** 2 + (x - center[1]) ** 2
    return [(square < b**2) & ~(square < a**2) for a, b in detectors_px.values()]
