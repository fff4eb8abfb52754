"""The disc that is seen is taken, unless what is seen cannot be that disc."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stemd.acquisition import Optics
from stemd.beam import Beam
from stemd.engines.base import PositionMaps
from stemd.engines.bright_field import optics
from stemd.engines.bright_field.optics import OpticsMeasurement
from stemd.engines.bright_field.view import Discs
from stemd.engines.lens.found import DiscFound
from tests.engines.scenes import acquisition_of


@pytest.mark.parametrize(
    ("seen_px", "taken_px"), [(10.5, 10.5), (10.1, 10.1), (10.07, 10.0), (8.5, 8.5), (50.0, 10.0)]
)
def test_an_edge_far_from_the_disc_that_was_told_is_not_the_disc_s(
    monkeypatch: pytest.MonkeyPatch, seen_px: float, taken_px: float
) -> None:
    maps = PositionMaps(acquisition_of(np.zeros((4, 64, 64), np.uint16), (2, 2)))
    measurement = OpticsMeasurement("direct", maps, (64, 64), bounded=False)
    seen = DiscFound((31.5, 31.5), 0.02, seen_px, 0.02)
    monkeypatch.setattr(optics, "disc_found", lambda counts, masked: seen)
    vectors = np.zeros((3, 2))
    discs = Discs(
        lambda columns: np.zeros((3, 4), np.float32), vectors, np.ones((2, 2), np.bool_),
        (31.5, 31.5), 10.0, 1, Beam(300e3, 20.0), 0.2,
    )  # fmt: skip
    about: Any = measurement.about_disc(replace(discs), lambda optics: vectors, Optics())[0]
    assert about.radius == pytest.approx(taken_px)
    assert about.beam.convergence_semi_angle_mrad == pytest.approx(2.0 * taken_px)
