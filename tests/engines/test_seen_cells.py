"""Cells across the edge of the disc count: in focus nothing else sees coarse detail."""

from __future__ import annotations

import numpy as np
import pytest

from stemd.aberrations import Aberrations
from stemd.beam import Beam
from stemd.engines.bright_field.seen_cells import points_inside
from stemd.engines.bright_field.view import Discs
from tests.engines import weak_phase
from tests.engines.test_direct import BEAM, FIELD, PER_ANGLE, POSITIONS, camera, made, on_scan


def discs_of(middles: np.ndarray, cell: int, radius: float) -> Discs:
    done = np.ones((2, 2), np.bool_)
    nothing = np.zeros((len(middles), 4), np.float32)
    return Discs(lambda c: nothing[c], middles, done, (0.0, 0.0), radius, cell, Beam(), 0.2)


def test_a_cell_counts_with_the_part_of_it_that_lies_in_the_disc() -> None:
    middles = np.array([[0.0, 0.0], [0.0, 1.0], [1.12, 0.0], [0.8, 0.8], [np.nan, np.nan]])
    inside = dict(points_inside(discs_of(middles, 1, 4.0)))
    assert set(inside) == {0, 1}
    assert len(inside[0]) == 4
    assert len(inside[1]) == 8, "half of the cell"
    for points in inside.values():
        assert (np.hypot(*points.T) < 1.0).all()
    assert inside[1][:, 1].min() == pytest.approx(1.0 - 3 / 32)


def test_coarse_detail_is_seen_in_focus() -> None:
    truth = weak_phase.random_phase(96, POSITIONS, 0.05, 5, 2.5)
    shares = weak_phase.patterns(truth, FIELD, POSITIONS, BEAM, Aberrations(), PER_ANGLE)
    final, _ = made(camera(shares, 300.0), told={"measured": "off"})
    seen = final.results[0].image.ravel().astype(np.float64)
    true = on_scan(truth).ravel()
    assert np.corrcoef(seen, true)[0, 1] > 0.85
