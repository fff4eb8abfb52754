"""What cells of the bright field count in a part of a scan."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stemd.beam import Beam
from stemd.engines.bright_field.counted import patterns_of, points_of, usable_cells
from stemd.engines.bright_field.view import Discs

NY, NX = 6, 5


def discs_of(radius: float, counts: NDArray[np.float32]) -> Discs:
    """Cells of one pixel each, in a row through the middle of a disc of so many pixels."""
    n = len(counts)
    at = (np.arange(n) - n // 2) / radius
    vectors = np.stack([np.zeros(n), at], axis=1)
    done = np.ones((NY, NX), np.bool_)
    done[1, 2] = False
    return Discs(lambda cells: counts[cells], vectors, done, (0.0, 0.0), radius, 1,
                 Beam(300e3, 20.0), 0.3)  # fmt: skip


@pytest.mark.parametrize(("radius", "each"), [(4.0, 4), (10.0, 1)])
def test_a_small_cell_has_one_point_and_a_large_one_several(radius: float, each: int) -> None:
    cells = 25
    counts = np.arange(cells * NY * NX, dtype=np.float32).reshape(cells, -1)
    discs = discs_of(radius, counts)
    used, points = usable_cells(discs)
    assert (np.hypot(*points.T) < 1.0).all()
    inside = np.abs(np.arange(cells) - cells // 2) + 0.25 < radius
    assert 0 < used.size <= inside.sum()
    assert set(used) <= set(np.flatnonzero(inside))
    assert points_of(discs) == used.size * each
    rows, columns = slice(1, 5), slice(2, 4)
    made = patterns_of(discs, rows, columns, slice(1, None, 2))
    assert made.points.shape == (len(used[1::2]), each, 2)
    assert made.width == pytest.approx(1.0 / radius / (2 if each > 1 else 1))
    np.testing.assert_array_equal(made.done, discs.done[1:5, 2:4])
    for seen, cell in zip(made.counts, used[1::2], strict=True):
        np.testing.assert_array_equal(seen, counts[cell].reshape(NY, NX)[1:5, 2:4])


def test_a_cell_that_counts_nothing_there_is_left_out() -> None:
    counts = np.ones((9, NY * NX), np.float32)
    counts[4] = 0.0
    counts[5] = 0.0
    counts[5, 1 * NX + 2] = 7.0  # where no position is
    discs = discs_of(20.0, counts)
    made = patterns_of(discs, slice(0, NY), slice(0, NX), slice(None))
    assert len(made.counts) == 7
    assert len(made.points) == 7
