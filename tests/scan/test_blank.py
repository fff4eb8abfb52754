"""Patterns without counts where chance cannot have made them are told, and no others."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, Detector, Scan
from stemd.engines.base import PositionMaps
from stemd.scan.blank import blank_notices, negative_notices


def maps_of(totals: NDArray[np.integer]) -> PositionMaps:
    shape = (int(totals.shape[0]), int(totals.shape[1]))
    maps = PositionMaps(
        Acquisition(scan=Scan(shape=shape), detector=Detector("test", (8, 8), "u2", 16))
    )
    maps.total[:] = totals.ravel()
    maps.done[:] = True
    return maps


def poisson(mean: float, gain: int = 1) -> NDArray[np.integer]:
    return gain * np.random.default_rng(3).poisson(mean, (32, 40))


def test_a_scan_without_any_counts_is_told() -> None:
    (notice,) = blank_notices(maps_of(np.zeros((4, 5), np.int64)))
    assert notice.text == "none of the 20 patterns has a single count"
    assert notice.level == "warning"
    assert notice.count == 20


@pytest.mark.parametrize("first", [0, 15, 31])
def test_a_blanked_line_is_told_with_its_place(first: int) -> None:
    totals = poisson(50.0)
    totals[first, 3:] = 0
    (notice,) = blank_notices(maps_of(totals))
    assert "37 of 1,280 patterns have no counts, the others 5" in notice.text
    assert f"({first}, 3) to ({first}, 39)" in notice.text


def test_a_thick_grain_in_the_beam_hides_no_blanked_pattern() -> None:
    totals = poisson(400.0)
    totals[8:24, 10:30] = totals[8:24, 10:30] // 4
    totals[31, 39] = 0
    (notice,) = blank_notices(maps_of(totals))
    assert notice.text.endswith("(31, 39)")


@pytest.mark.parametrize(("mean", "gain"), [(0.5, 1), (3.0, 1), (3.0, 200), (1.0, 1000)])
def test_few_electrons_are_no_blanked_beam_whatever_counts_they_make(
    mean: float, gain: int
) -> None:
    totals = poisson(mean, gain)
    assert (totals == 0).any()
    assert not blank_notices(maps_of(totals))


def test_missing_positions_are_not_blank() -> None:
    maps = maps_of(poisson(50.0))
    maps.total[7:90] = 0
    maps.done[7:90] = False
    assert not blank_notices(maps)


def test_negative_counts_that_leave_no_centre_of_mass_are_told() -> None:
    rng = np.random.default_rng(4)
    patterns = rng.integers(0, 4, (6, 5, 8, 8))
    y, x = np.mgrid[:8, :8]

    def told(values: NDArray[np.integer]) -> list[int | None]:
        maps = maps_of(values.sum((2, 3)))
        maps.moment_y[:] = (values * y).sum((2, 3)).ravel()
        maps.moment_x[:] = (values * x).sum((2, 3)).ravel()
        return [notice.count for notice in negative_notices(maps, (8, 8))]

    assert not told(patterns)
    assert not told(np.zeros_like(patterns))
    assert not told(patterns * (y == 7) * (x == 7)), "in the corner, but on the detector"
    weak = patterns.copy()
    weak[0, 0, 3, 3] = -1
    assert not told(weak), "some negative counts do no harm"
    patterns[2, 1] -= 4
    patterns[4] -= np.where(y < 4, 9, 0)
    assert told(patterns) == [6]
