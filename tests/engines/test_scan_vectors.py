"""The one pass from maps to vectors gives what arrays give, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from stemd.acquisition import Acquisition, Detector, Optics, Scan
from stemd.engines.base import PositionMaps
from stemd.engines.vectors import Zero, shifts_from, to_scan_axes, vectors_of

LEVEL, SLOPING = np.zeros((2, 2)), np.array([[0.3, 0.2], [0.0, -3.1]])


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("across", [LEVEL, SLOPING])
@pytest.mark.parametrize(("flip", "rotation"), [(False, 0.0), (True, 33.3), (False, -120.0)])
def test_vectors_in_one_pass_are_those_of_the_arrays(
    narrow: bool, across: np.ndarray, flip: bool, rotation: float
) -> None:
    random = np.random.default_rng(0)
    detector = Detector("x", (256, 256), "u2", 16)
    maps = PositionMaps(Acquisition(Scan(shape=(21, 13)), detector), narrow=narrow)
    n = maps.total.size
    maps.total[:] = random.integers(0, 9, n)
    maps.moment_y[:] = maps.total * 100 + random.integers(0, 99, n)
    maps.moment_x[:] = maps.total * 90
    maps.done[:] = random.random(n) < 0.9
    optics = Optics(flip=flip, rotation_deg=rotation)
    zero = Zero((101.1, 88.2), across)
    for part in ((0, n), (17, 200), (5, 5)):
        arrays = to_scan_axes(*shifts_from(maps, zero, *part), optics)
        for mine, theirs in zip(vectors_of(maps, zero, optics, *part), arrays, strict=True):
            assert mine.tobytes() == theirs.astype(np.float32).tobytes()
