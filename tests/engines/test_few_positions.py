"""Scans of one position, of one line and of a few positions make every image without an error."""

from __future__ import annotations

import numpy as np
import pytest

from stemd import api

OPTICS = {"energy_ev": 3e5, "convergence_semi_angle_mrad": 20.0, "pixel_size_mrad": 20 / 6}
ENGINES = ["sum", "com", "ricom", "icom", "airpi", "direct", "ssb", "measured_optics"]


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 1), (2, 2), (3, 3)])
def test_so_few_positions_are_no_error(shape: tuple[int, int]) -> None:
    y, x = np.mgrid[:32, :32] - 15.5
    disc = 40.0 * (np.hypot(y, x) < 6)
    data = np.random.default_rng(3).poisson(disc, (*shape, 32, 32)).astype("u2")
    scan = {"shape": shape, "step_size_angstrom": 0.3}
    made = api.process(data, ENGINES, scan=scan, optics=OPTICS, jobs=1)
    assert not made.failed
    for image in made.values():
        assert np.isfinite(np.asarray(image)).all()
