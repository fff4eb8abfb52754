"""The centre of mass says which of two images is nearer to the specimen."""

from __future__ import annotations

import numpy as np
import pytest

from stemd.engines.airpi.arbiter import trust
from stemd.engines.airpi.slopes import Slopes
from tests.engines.test_measured_slopes import BEAM, PIXEL, SCAN, STEP, measured, specimen


def at_positions(image: np.ndarray) -> np.ndarray:
    place = np.minimum(np.rint(np.arange(SCAN) * STEP / PIXEL).astype(int), image.shape[0] - 1)
    return image[np.ix_(place, place)]


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return specimen(0)


def test_a_linear_estimate_that_shows_the_same_is_believed_however_faint(
    truth: np.ndarray,
) -> None:
    seen = at_positions(truth)
    assert trust(measured(truth), BEAM, seen, 0.2 * seen) == 1.0
    assert trust(measured(truth), BEAM, at_positions(specimen(1)), seen) == 1.0


def test_one_that_contradicts_the_centre_of_mass_is_not(truth: np.ndarray) -> None:
    wrong = at_positions(specimen(1))
    assert trust(measured(truth, 0.02), BEAM, at_positions(truth), wrong) == 0.0
    assert trust(measured(truth, 0.02), BEAM, wrong, wrong) == 1.0, "neither is better"


def test_a_centre_of_mass_that_sees_nothing_does_not_decide() -> None:
    rng = np.random.default_rng(2)
    y, x = rng.normal(0, 0.5, (2, SCAN, SCAN)).astype(np.float32)
    slopes = Slopes(y, x, np.ones((SCAN, SCAN), bool), STEP)
    one, other = (at_positions(specimen(seed)) for seed in (1, 2))
    assert trust(slopes, BEAM, one, other) == 1.0
