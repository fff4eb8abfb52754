"""Scans of one position, of one line and of a few positions make every image without an error."""

from __future__ import annotations

import numpy as np
import pytest

from stemd import api
from stemd.beam import Beam
from stemd.engines.airpi import through
from stemd.engines.direct import line_kernels
from stemd.engines.lens.estimate import Frequencies

OPTICS = {"energy_ev": 3e5, "convergence_semi_angle_mrad": 20.0, "pixel_size_mrad": 20 / 20}
ENGINES = ["sum", "com", "ricom", "icom", "airpi", "direct", "ssb", "measured_optics"]


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 1), (2, 2), (3, 3)])
def test_so_few_positions_are_no_error(shape: tuple[int, int]) -> None:
    y, x = np.mgrid[:64, :64] - 31.5
    disc = 40.0 * (np.hypot(y, x) < 20)
    data = np.random.default_rng(3).poisson(disc, (*shape, 64, 64)).astype("u2")
    scan = {"shape": shape, "step_size_angstrom": 0.3}
    made = api.process(data, ENGINES, scan=scan, optics=OPTICS, jobs=1)
    assert not made.failed
    for image in made.values():
        assert np.isfinite(np.asarray(image)).all()


def test_a_single_position_has_no_frequency_and_explains_nothing() -> None:
    at = Frequencies(np.ones((1, 1), np.bool_), Beam(3e5, 20.0), 0.3)
    none = np.zeros(0)
    assert through.unexplained(at, none, none, 100) == 0.0
    assert line_kernels._power_at(at, None).size == 0
