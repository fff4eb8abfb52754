"""The lens of a scan whose steps fold detail back, by what is told apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stemd.aberrations import Aberrations
from stemd.engines.lens.cells import Cells
from stemd.engines.lens.estimate import Cell, Frequencies
from stemd.engines.lens.folded import Folded
from stemd.engines.lens.measure import Search, StoppedError
from tests.engines import weak_phase
from tests.engines.test_direct import BEAM, FIELD, LENS, PER_ANGLE, POSITIONS, camera, made

TIMES_FIELD = 2.9 * FIELD
STEP = TIMES_FIELD / POSITIONS
"""1.2 radii of the Airy disc."""
SIDE = 16
NEAR = Aberrations(defocus=70.0)


@pytest.fixture(scope="module")
def scan() -> np.ndarray:
    truth = weak_phase.random_phase(128, 80, 0.05, 5, 28.0)
    return weak_phase.patterns(truth, TIMES_FIELD, POSITIONS, BEAM, LENS, PER_ANGLE)


@pytest.fixture(scope="module")
def cells(scan: np.ndarray) -> Cells:
    middle = slice(12, 12 + SIDE)
    at = Frequencies(np.ones((SIDE, SIDE), np.bool_), BEAM, STEP, level=True, whole=True)
    places = np.indices(scan.shape[2:]).reshape(2, -1).T - scan.shape[2] // 2
    counts = np.random.default_rng(4).poisson(scan[middle, middle] * 2e4).reshape(SIDE, SIDE, -1)
    found = []
    for number in np.flatnonzero(np.hypot(*places.T) < 0.97 * PER_ANGLE):
        spectrum = at.spectrum_of(counts[..., number].astype(np.float32))
        found.append(Cell(*spectrum, places[number].reshape(1, 2) / PER_ANGLE))
    return Cells.of(at, found)


def test_the_lens_is_found_where_steps_fold(cells: Cells) -> None:
    folded = Folded(cells, BEAM, STEP, lambda: True)
    tops = folded.tops(NEAR, Search(30.0, 16.0))
    height, lens = tops[0]
    off = lens.as_array()[:3] - LENS.as_array()[:3]
    assert np.abs(off).max() < 6.0
    assert height == pytest.approx(folded.evidence(lens), rel=1e-6)
    assert all(height > other and folded.apart(lens, place) for other, place in tops[1:])
    assert not folded.apart(lens, replace(lens, defocus=lens.defocus + 1.0))


def test_peaks_that_noise_has_as_well_are_not_climbed(cells: Cells) -> None:
    folded = Folded(cells, BEAM, STEP, lambda: True)
    assert folded.tops(NEAR, Search(30.0, 16.0), least=1e9) == []


def test_a_search_ends_when_there_is_no_time(cells: Cells) -> None:
    with pytest.raises(StoppedError):
        Folded(cells, BEAM, STEP, lambda: False).tops(NEAR, Search(30.0, 16.0))


def test_the_engine_shows_such_a_scan_through_its_lens(scan: np.ndarray) -> None:
    told = NEAR.as_optics()
    near = {"search_defocus_nm": 3.0, "search_astigmatism_nm": 2.0}
    final, _ = made(camera(scan, 3e3), told=told, field=TIMES_FIELD, **near)
    known = {**LENS.as_optics(), "measured": "off"}
    best, _ = made(camera(scan, 3e3), told=known, field=TIMES_FIELD)
    assert final.results[0].extra["defocus_nm"] == pytest.approx(LENS.defocus / 10, abs=0.7)
    image, reached = (each.results[0].image.ravel() for each in (final, best))
    assert np.corrcoef(image, reached)[0, 1] > 0.95
