"""What AIRPI's uncertainty says where little or nothing can be known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from stemd.acquisition import Optics
from stemd.engines.airpi.finishing import IGNORANT, error_map
from stemd.results import Result
from stemd.scan.run import ScanRun
from tests.engines.airpi_scenes import linear, write
from tests.engines.scenes import acquisition_of, blocks_of, engine, settings_of

SIDE = 32


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A network that sees nothing."""
    return write(tmp_path_factory.mktemp("airpi"), linear(), "nothing")


def images(nothing: str, shape: tuple[int, int], patterns: NDArray[np.uint16]) -> dict[str, Result]:
    acquisition = acquisition_of(patterns, shape, step_size_angstrom=0.25)
    optics = Optics(
        energy_ev=300e3, convergence_semi_angle_mrad=20.0, pixel_size_mrad=2.5,
        center=(SIDE / 2, SIDE / 2),
    )  # fmt: skip
    choices = [engine("airpi", model=nothing, backend="onnxruntime", repetition=1)]
    run = ScanRun(acquisition, settings_of(choices, optics), choices)
    for block in blocks_of(acquisition, patterns, [shape[0]]):
        run.reduce(block)
    run.end("complete")
    assert not run.failed
    return {result.name: result for result in run.snapshot(final=True).results}


def test_of_one_position_nothing_is_known(nothing: str) -> None:
    """It had an uncertainty of 0."""
    y, x = np.indices((SIDE, SIDE)) - SIDE // 2
    disc = (np.hypot(y, x) < 8).astype(np.uint16)
    made = images(nothing, (1, 1), 100 * disc[None])
    shown = made["airpi_weight"].image > 0.0
    assert made["airpi_uncertainty"].image[shown] == pytest.approx(math.pi / math.sqrt(3.0))
    assert not made["airpi_uncertainty"].image[~shown].any()


def test_no_phase_is_less_known_than_one_of_which_nothing_is(nothing: str) -> None:
    """A single bright pixel had an uncertainty of 51 rad."""
    patterns = np.zeros((256, SIDE, SIDE), np.uint16)
    patterns[100, SIDE // 2, SIDE // 2] = 1000
    error = images(nothing, (16, 16), patterns)["airpi_uncertainty"].image
    assert np.isfinite(error).all()
    assert 0.5 < error.max() <= IGNORANT + 1e-6


def test_the_map_has_the_error_that_it_is_made_of() -> None:
    phase = np.random.default_rng(1).normal(0.0, 0.1, (40, 40)).astype(np.float32)
    phase[:10] = 0.0
    weight = (phase != 0.0).astype(np.float32)
    for even in (0.2, 0.5):
        error = error_map(phase, weight, 0.05, 0.0, even)
        assert not error[:10].any()
        assert np.sqrt(np.mean(error[10:] ** 2)) == pytest.approx(0.05, rel=1e-3)
        assert error[10:].min() >= 0.05 * math.sqrt(even) - 1e-6
        more = error_map(phase, weight, 0.05, 0.04, even)
        assert np.sqrt(np.mean(more[10:] ** 2)) > 0.06, "what the image lacks is added"
