"""The direct estimate: exact for weak objects, and able to find the lens that made the scan."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemd.beam import Beam
from stemd.engines.direct.aberrations import Aberrations, scales
from stemd.engines.direct.estimate import Cell, Frequencies, Linear
from stemd.engines.direct.measure import Cells, Search, measured
from tests.engines import weak_phase

BEAM = Beam(300e3, 20.0)
POSITIONS, FIELD, PER_ANGLE = 40, 10.0, 4
LENS = Aberrations(defocus=90.0, astigmatism_x=18.0, astigmatism_y=-12.0)


def cells_of(
    patterns: np.ndarray, electrons: float, seed: int = 3, part: slice = slice(None)
) -> Cells:
    """Poisson counts of `electrons` a pattern (0: no noise) in the cells of the disc."""
    shares = patterns[part, part]
    rng = np.random.default_rng(seed)
    counts = rng.poisson(shares * electrons) if electrons else shares * 1e6
    half = patterns.shape[2] // 2
    y, x = np.indices(patterns.shape[2:]) - half
    disc = np.hypot(y, x) < 0.97 * PER_ANGLE
    middle = np.stack([y[disc], x[disc]], axis=1) / PER_ANGLE
    fine = (np.array([-0.25, 0.25])) / PER_ANGLE
    points = middle[:, None] + np.stack(np.meshgrid(fine, fine, indexing="ij"), -1).reshape(1, 4, 2)
    images = np.ascontiguousarray(np.moveaxis(counts[:, :, disc], 2, 0), np.float32)
    at = Frequencies(np.ones(images.shape[1:], np.bool_), BEAM, FIELD / POSITIONS)
    return Cells(at, [Cell(*at.spectrum_of(i), p) for i, p in zip(images, points, strict=True)])


def estimate_of(cells: Cells, lens: Aberrations) -> Linear:
    return Linear.of(cells.at, cells.cells, lens.coefficients(BEAM))


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return weak_phase.random_phase(96, POSITIONS, 0.05, 5, 16.0)


@pytest.fixture(scope="module")
def scan(truth: np.ndarray) -> np.ndarray:
    return weak_phase.patterns(truth, FIELD, POSITIONS, BEAM, LENS, PER_ANGLE)


def on_scan(truth: np.ndarray) -> np.ndarray:
    """The phase at the positions: it has no frequencies that they cannot hold."""
    spectrum = np.fft.fft2(truth)
    kept = np.rint(np.fft.fftfreq(POSITIONS) * POSITIONS).astype(int)
    return np.fft.ifft2(spectrum[np.ix_(kept, kept)]).real * (POSITIONS / truth.shape[0]) ** 2


@given(st.tuples(*[st.floats(-200.0, 200.0)] * 8))
@settings(max_examples=40, deadline=None)
def test_the_aberration_function_is_that_of_the_angles(lengths):
    from stemd.engines.kernels.overlaps import _chi

    lens = Aberrations(*lengths[:7], spherical=lengths[7] * 1e3)
    u = np.array([[0.3, -0.8], [0.0, 0.5], [-0.7, 0.1]])
    k = u * BEAM.aperture
    expected = weak_phase.chi(BEAM, lens, k[:, 0], k[:, 1])
    got = [_chi(lens.coefficients(BEAM), y, x) for y, x in u]
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


def test_lengths_come_back_from_their_coefficients():
    lens = Aberrations(3.0, 1.0, -2.0, 5.0, 6.0, -7.0, 8.0, 1e4)
    back = Aberrations.of(lens.coefficients(BEAM), BEAM)
    np.testing.assert_allclose(back.as_array(), lens.as_array())
    assert Aberrations(astigmatism_x=0.0, astigmatism_y=2.0).astigmatism == (2.0, 45.0)
    assert scales(BEAM).shape == (8,)


def test_without_noise_the_phase_of_a_weak_object_is_exact(scan, truth):
    cells = cells_of(scan, 0.0)
    image = estimate_of(cells, LENS).phase()
    expected = on_scan(truth)
    assert np.corrcoef(image.ravel(), expected.ravel())[0, 1] > 0.995
    slope = np.polyfit(expected.ravel(), image.ravel(), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.05)


def test_a_wrong_lens_gives_a_wrong_image(scan, truth):
    cells = cells_of(scan, 0.0)
    image = estimate_of(cells, Aberrations()).phase()
    assert np.corrcoef(image.ravel(), on_scan(truth).ravel())[0, 1] < 0.5


def test_noise_is_as_large_as_is_said(scan, truth):
    cells = cells_of(scan, 3000.0)
    estimate = estimate_of(cells, LENS)
    error = (estimate.phase() - on_scan(truth)).std()
    assert estimate.deviation() == pytest.approx(error, rel=0.25)


def test_the_lens_is_found_in_the_data(scan):
    middle = slice(4, 36)
    coarse, fine = cells_of(scan, 3000.0, part=middle), cells_of(scan, 3000.0)
    found = measured(coarse, fine, Aberrations(), BEAM, Search(200.0, 40.0))
    assert found.sure
    error = found.aberrations.as_array()[:3] - LENS.as_array()[:3]
    assert np.abs(error).max() < 4.0
    assert (np.abs(error) < 4.0 * found.sigma[:3] + 1.0).all()


def test_an_empty_specimen_claims_no_lens():
    empty = weak_phase.patterns(np.zeros((96, 96)), FIELD, 24, BEAM, LENS, PER_ANGLE)
    cells = cells_of(empty, 300.0)
    found = measured(cells, cells, Aberrations(), BEAM, Search(100.0, 20.0))
    assert not found.sure


def test_positions_that_are_missing_count_as_mean_ones():
    counts = np.ones((6, 6), np.float32)
    counts[2, 3] = 0.0
    done = np.ones((6, 6), np.bool_)
    done[2, 3] = False
    spectrum, mean = Frequencies(done, BEAM, 0.25).spectrum_of(counts)
    assert mean == 1.0
    assert np.abs(spectrum).max() < 1e-5
