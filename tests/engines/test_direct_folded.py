"""The lens of a scan whose steps fold detail back, by what is told apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stemd.aberrations import Aberrations
from stemd.engines.direct import finished
from stemd.engines.lens.cells import Cells
from stemd.engines.lens.estimate import Cell, Frequencies
from stemd.engines.lens.finer import grid_times, times_for
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


@pytest.mark.parametrize(("reach", "seen"), [(80.0, True), (18.0, False)])
def test_what_steps_fold_is_told_apart_where_the_cells_say_so(
    monkeypatch: pytest.MonkeyPatch, reach: float, seen: bool
) -> None:
    """Steps of 0.58 Airy radii hold 20 waves across the field, the lens transfers 28."""
    field = 14.0
    truth = weak_phase.random_phase(128, 80, 0.05, 5, reach)
    scan = weak_phase.patterns(truth, field, POSITIONS, BEAM, LENS, PER_ANGLE)
    spectrum, k = np.fft.fft2(truth), np.fft.fftfreq(128, 1 / 128)
    spectrum[np.hypot(k[:, None], k) > 2.0 * BEAM.aperture * field] = 0.0
    waves = np.exp(2j * np.pi * np.arange(POSITIONS)[:, None] / POSITIONS * k)
    expected = (waves @ spectrum @ waves.T).real

    def reached() -> tuple[bool, float]:
        known = {**LENS.as_optics(), "measured": "off"}
        phase = made(camera(scan, 3e4), told=known, field=field)[0].results[0]
        # the specimen is periodic, as nothing real is: only what is told apart is made so, too
        inner = (slice(8, -8), slice(8, -8))
        likeness = np.corrcoef(phase.image[inner].ravel(), expected[inner].ravel())[0, 1]
        return phase.extra["steps_fold"], likeness

    folds, correlation = reached()
    assert folds is seen
    monkeypatch.setattr(finished, "folds_seen", lambda *_: not seen)
    folds, other = reached()
    assert folds is not seen
    assert correlation > (other + 0.05 if seen else other - 0.002)


def test_a_grid_is_as_fine_as_what_is_transferred() -> None:
    nyquist = 0.25 / BEAM.aperture
    assert [grid_times(BEAM, step * nyquist) for step in (0.99, 1.01, 2.01, 9.0)] == [1, 2, 3, 4]
    assert times_for(BEAM, 0.59 * BEAM.airy_radius) == 1
    assert times_for(BEAM, 0.61 * BEAM.airy_radius) == 2
