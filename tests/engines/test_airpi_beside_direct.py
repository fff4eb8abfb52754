"""AIRPI is held to what `direct` makes of the same scan: its image is not the worse one of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from stemd.aberrations import Aberrations
from stemd.acquisition import Optics
from stemd.beam import Beam
from stemd.results import Result
from stemd.scan.run import ScanRun
from tests.engines import weak_phase
from tests.engines.scenes import acquisition_of, blocks_of, engine, settings_of

F64 = NDArray[np.float64]

BEAM = Beam(300e3, 20.0)
PER_ANGLE, FIELD, POSITIONS, SIDE = 4, 14.0, 56, 112
"""The specimen is periodic in a field of which the scan has the middle: beyond its edges there is
something else than at the opposite ones."""
CELL, STRENGTH = np.array([[3.2, 0.0], [1.6, 2.77]]), 0.15
FIRST, SCANNED = 12, 32
STEP = FIELD / POSITIONS
ELECTRONS = 500.0 * STEP**2
LENSES = {
    "10 nm out of focus": Aberrations(defocus=100.0),
    "10 nm on the other side": Aberrations(defocus=-100.0),
}
RIM = 4


@pytest.fixture(scope="module")
def truth() -> F64:
    """Two sheets of atom columns, one turned against the other, radian."""
    pixel = (np.arange(SIDE) - SIDE / 2) * FIELD / SIDE
    number = np.arange(-8, 9)
    cell = np.stack(np.meshgrid(number, number, indexing="ij"), axis=-1).reshape(-1, 2) @ CELL
    phase = np.zeros((SIDE, SIDE))
    for angle in (0.2, 0.55):
        cos, sin = math.cos(angle), math.sin(angle)
        for y, x in cell @ np.array([[cos, sin], [-sin, cos]]):
            far = np.hypot(*np.meshgrid(pixel - y, pixel - x, indexing="ij"))
            phase += np.exp(-0.5 * (far / 0.3) ** 2)
    return np.asarray(STRENGTH * (phase - phase.mean()) / phase.std())


@pytest.fixture(scope="module", params=list(LENSES))
def lens(request: pytest.FixtureRequest) -> Aberrations:
    return LENSES[request.param]


@pytest.fixture(scope="module")
def patterns(truth: F64, lens: Aberrations) -> NDArray[np.uint16]:
    shares = weak_phase.patterns(truth, FIELD, POSITIONS, BEAM, lens, PER_ANGLE)
    part = slice(FIRST, FIRST + SCANNED)
    counts = np.random.default_rng(3).poisson(shares[part, part] * ELECTRONS)
    return counts.astype(np.uint16).reshape(-1, *shares.shape[2:])


def image_of(name: str, patterns: NDArray[np.uint16], lens: Aberrations, **own: object) -> Result:
    acquisition = acquisition_of(patterns, (SCANNED, SCANNED), step_size_angstrom=STEP)
    optics = Optics(
        energy_ev=BEAM.energy_ev, convergence_semi_angle_mrad=20.0, measured="off",
        pixel_size_mrad=20.0 / PER_ANGLE, center=(2.0 * PER_ANGLE, 2.0 * PER_ANGLE),
        **lens.as_optics(),
    )  # fmt: skip
    choices = [engine(name, **own)]
    run = ScanRun(acquisition, settings_of(choices, optics), choices)
    for block in blocks_of(acquisition, patterns, [SCANNED]):
        run.reduce(block)
    run.end("complete")
    found = {result.name: result for result in run.snapshot(final=True).results}
    assert not run.failed
    return found[f"{name}_phase"]


def likeness(result: Result, truth: F64) -> float:
    """Correlation with the true phase at the scan's positions, but for those at the border."""
    assert result.pixel_size is not None
    first = result.extra.get("origin", (0, 0))[0]
    at = first + np.arange(RIM, SCANNED - RIM) * STEP / result.pixel_size
    places = np.meshgrid(at, at, indexing="ij")
    seen = ndimage.map_coordinates(result.image.astype(np.float64), places, mode="nearest")
    part = slice((FIRST + RIM) * 2, (FIRST + SCANNED - RIM) * 2, 2)
    return float(np.corrcoef(seen.ravel(), truth[part, part].ravel())[0, 1])


def test_out_of_focus_with_few_electrons_it_is_not_below_direct(
    patterns: NDArray[np.uint16], lens: Aberrations, truth: F64
) -> None:
    """It was by 0.015: opposite edges of the scan were neighbours in what it was held to."""
    by_direct = likeness(image_of("direct", patterns, lens), truth)
    by_airpi = likeness(image_of("airpi", patterns, lens, repetition=1), truth)
    assert by_direct > 0.6
    assert by_airpi > by_direct - 0.005
