"""The search for the lens has an end for every aperture, and says how far it went."""

from __future__ import annotations

import numpy as np
import pytest

from stemd.aberrations import scales
from stemd.beam import Beam
from stemd.engines.lens.climb import places, searched
from stemd.engines.lens.measure import MOST_PLACES, Search, affordable


@pytest.mark.parametrize("semi_angle_mrad", [5.0, 20.0, 25.0, 30.0, 60.0])
@pytest.mark.parametrize("energy_ev", [60e3, 300e3])
def test_no_aperture_is_searched_for_minutes(energy_ev: float, semi_angle_mrad: float) -> None:
    unit = scales(Beam(energy_ev, semi_angle_mrad))
    search = affordable(Search(), unit)
    assert places(search.reach(unit)) <= MOST_PLACES
    if semi_angle_mrad <= 25.0:
        assert search == Search(), "small apertures are searched as far as was asked"
    if semi_angle_mrad <= 30.0:
        assert search.defocus > 200.0


def test_places_are_counted_as_they_are_tried() -> None:
    tried: list[float] = []

    def heights(places: np.ndarray) -> np.ndarray:
        tried.extend(places[:, 0])
        return -np.square(places).sum(axis=1)

    peaks, floor = searched(heights, np.zeros(8), (40.0, 9.0, 9.0), 9.001, 3)
    assert [each for each, _ in peaks] == [0.0, -4.0, -4.0], "apart from each other"
    assert floor < -25.0
    assert len(tried) == pytest.approx(places((40.0, 9.0, 9.0)), rel=0.15)
