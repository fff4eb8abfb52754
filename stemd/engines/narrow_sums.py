"""Sums of blocks of patterns added to maps that have 32 bits as long as these suffice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.engines.base import PositionMaps
from stemd.engines.kernels.narrow import add_narrow


def add_sums(maps: PositionMaps, probe: NDArray[np.int64], sums: NDArray[np.int64]) -> None:
    """Add the sums (3 + detectors, n) of n patterns to the maps at their positions; -1 is none.

    Exact: maps become `wide` where a sum does not fit. Several threads may add at the same time.
    """
    with maps.changing:
        added = 0
        if maps.narrow:
            added = add_narrow(
                sums, probe, maps.total, maps.moment_y, maps.moment_x, maps.detector_sums
            )
        if added == probe.size:
            return
        maps.wide()
        left = added + np.flatnonzero(probe[added:] >= 0)
        for each, values in zip(
            (maps.total, maps.moment_y, maps.moment_x, *maps.detector_sums), sums, strict=True
        ):
            np.add.at(each, probe[left], values[left])
