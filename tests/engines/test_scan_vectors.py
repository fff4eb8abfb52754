"""The one pass from maps to vectors gives what arrays give, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from stemd.acquisition import Acquisition, Detector, Optics, Scan
from stemd.engines import vectors
from stemd.engines.base import PositionMaps
from stemd.engines.vectors import (
    Zero,
    middle_shifts,
    shifts,
    shifts_from,
    to_scan_axes,
    vectors_of,
)

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


def test_of_a_large_scan_the_field_is_that_of_its_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    random, (ny, nx) = np.random.default_rng(5), (9, 12)
    maps = PositionMaps(Acquisition(Scan(shape=(ny, nx)), Detector("x", (16, 16), "u2", 16)))
    maps.done[:] = random.random(ny * nx) < 0.9
    maps.total[:] = random.integers(0, 9, ny * nx)
    maps.moment_y[:], maps.moment_x[:] = random.integers(0, 50, (2, ny * nx))
    field = [part.reshape(ny, nx) for part in shifts(maps, (1.0, 2.0))]
    np.testing.assert_array_equal(middle_shifts(maps, (1.0, 2.0)), field)
    monkeypatch.setattr(vectors, "FIELD_SIDE", 4)
    middle = [part[1:5, 4:8] for part in field]
    np.testing.assert_array_equal(middle_shifts(maps, (1.0, 2.0), lines=7), middle)
