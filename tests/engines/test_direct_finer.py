"""`direct` on a finer grid than the scan's, and how far it says that it may be off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stemd.aberrations import Aberrations
from stemd.config.problems import ConfigProblemsError
from stemd.engines.direct.uncertainty import (
    MODEL,
    NOT_KNOWN,
    model_error,
    standard_error,
    variance_of,
)
from stemd.engines.lens.estimate import REACH, RING, Cell, Frequencies, Linear
from stemd.engines.lens.finer import Finer
from tests.engines import weak_phase
from tests.engines.scenes import engine
from tests.engines.test_direct import BEAM, FIELD, LENS, PER_ANGLE, POSITIONS, camera, made

TIMES = 2


@pytest.fixture(scope="module")
def fine_truth() -> np.ndarray:
    """Detail of up to 1.4 times what the scan's positions can hold."""
    return weak_phase.random_phase(128, 80, 0.05, 5, 28.0)


@pytest.fixture(scope="module")
def scan(fine_truth: np.ndarray) -> np.ndarray:
    return weak_phase.patterns(fine_truth, FIELD * 3, POSITIONS, BEAM, LENS, PER_ANGLE)


def at(truth: np.ndarray, side: int) -> np.ndarray:
    """The phase at side x side places."""
    kept = np.rint(np.fft.fftfreq(side) * side).astype(int)
    spectrum = np.fft.fft2(truth)[np.ix_(kept, kept)]
    return np.fft.ifft2(spectrum).real * (side / truth.shape[0]) ** 2


def test_detail_that_the_steps_fold_back_is_told_apart(scan, fine_truth):
    told = {**LENS.as_optics(), "measured": "off"}
    patterns = camera(scan, 2e5)
    fine, error = made(patterns, told=told, upsample=TIMES, field=3 * FIELD)[0].results
    coarse = made(patterns, told=told, field=3 * FIELD)[0].results[0]
    truth = at(fine_truth, TIMES * POSITIONS)
    assert fine.image.shape == error.image.shape == truth.shape
    assert fine.pixel_size == pytest.approx(3 * FIELD / POSITIONS / TIMES)
    assert np.corrcoef(fine.image.ravel(), truth.ravel())[0, 1] > 0.97
    # and the image at the positions is told apart likewise, but not by other methods
    folded = made(patterns, told=told, field=3 * FIELD, method="obf")[0].results[0]
    here = at(fine_truth, 2 * POSITIONS)[::2, ::2]
    near, far = (np.corrcoef(i.image.ravel(), here.ravel())[0, 1] for i in (coarse, folded))
    assert near > 0.9
    assert near > far + 0.03
    assert 0.5 < (np.abs(fine.image - truth) < error.image).mean() < 0.98


def test_the_evidence_of_folded_waves_is_largest_for_the_true_lens(scan):
    step = 3 * FIELD / POSITIONS
    found = Frequencies(np.ones((POSITIONS, POSITIONS), np.bool_), BEAM, step, whole=True)
    places = np.indices(scan.shape[2:]).reshape(2, -1).T - scan.shape[2] // 2
    counts = np.random.default_rng(4).poisson(scan * 2e4).reshape(POSITIONS, POSITIONS, -1)

    def evidence(lens: Aberrations) -> float:
        sums = Finer(found, BEAM, step, TIMES, lens.coefficients(BEAM))
        for number in np.flatnonzero(np.hypot(*places.T) < 0.97 * PER_ANGLE):
            spectrum = found.spectrum_of(counts[..., number].astype(np.float32))
            sums.add(Cell(*spectrum, places[number].reshape(1, 2) / PER_ANGLE))
        return sums.solved()[2]

    off = replace(LENS, defocus=LENS.defocus - 25.0)
    aside = replace(LENS, astigmatism_x=LENS.astigmatism_x + 15.0)
    true = evidence(LENS)
    assert true > 1000.0
    assert true > max(evidence(lens) for lens in (off, aside, Aberrations())) + 100.0


@pytest.mark.parametrize("counts", [0.0, 7.0])
def test_where_no_pattern_differs_nothing_is_seen_of_a_specimen(scan, counts):
    found = Frequencies(np.ones((12, 9), np.bool_), BEAM, 3 * FIELD / POSITIONS, whole=True)
    sums = Finer(found, BEAM, 3 * FIELD / POSITIONS, TIMES, LENS.coefficients(BEAM))
    for point in ((0.0, 0.0), (0.5, 0.0), (-0.3, 0.6)):
        spectrum = found.spectrum_of(np.full((12, 9), counts, np.float32))
        sums.add(Cell(*spectrum, np.array([point])))
    phase, variance, evidence = sums.solved()
    assert phase.shape == (12 * TIMES, 9 * TIMES)
    assert not phase.any()
    assert variance == evidence == 0.0
    # and so it is in a whole scan, whose lens is looked for
    alike = np.broadcast_to(camera(scan[:1, :1], 1e4), (POSITIONS**2, 34, 34)).copy()
    final, _ = made(alike, field=3 * FIELD, upsample=TIMES)
    assert not final.results[0].image.any()


def test_a_finer_image_is_refused_where_memory_or_method_do_not_do(scan):
    with pytest.raises(ConfigProblemsError, match="upsample"):
        engine("direct", upsample=2, method="ssb")
    with pytest.raises(AssertionError, match="memory_mb"):
        made(camera(scan, 1e3), upsample=4, memory_mb=10.0)


def test_the_error_is_larger_at_edges_in_bright_places_and_where_nothing_was_measured():
    phase = np.zeros((32, 32), np.float32)
    phase[10, 10] = 1.0
    done = np.ones(phase.shape, np.bool_)
    done[20, 20] = False
    error = standard_error(phase, done, 0.01**2, 3.0)
    plain = error[16, 8]
    assert plain == pytest.approx(0.01, rel=0.01)
    assert error[10, 10] == pytest.approx(NOT_KNOWN, rel=0.05)
    assert error[0, 16] > 1.2 * plain
    assert error[0, 0] > error[0, 16] > error[1, 16] > plain
    assert error[20, 20] > error[20, 22] > plain


def test_the_error_is_larger_where_one_weak_specimen_explains_less_and_lenses_disagree():
    phase, done = np.zeros((16, 16), np.float32), np.ones((16, 16), np.bool_)
    phase[8, 8] = 1.0
    assert model_error(1.0) == MODEL < model_error(0.8) < model_error(0.4)
    assert model_error(1.2) == MODEL
    weak, strong = (
        standard_error(phase, done, 1e-4, 2.0, model_error(part)) for part in (1.0, 0.4)
    )
    assert strong[8, 8] > 3.0 * weak[8, 8]
    apart = np.zeros_like(phase)
    apart[4, 4] = 0.04
    both = standard_error(phase, done, 1e-4, 2.0, model_error(1.0), apart)
    assert both[4, 4] == pytest.approx(np.hypot(weak[4, 4], 0.2), rel=1e-3)
    assert both[8, 8] == weak[8, 8]


def test_what_is_said_of_the_error_holds_for_weak_specimens(fine_truth):
    truth = weak_phase.random_phase(96, POSITIONS, 0.05, 5, 16.0)
    shares = weak_phase.patterns(truth, FIELD, POSITIONS, BEAM, LENS, PER_ANGLE)
    for electrons in (300.0, 3000.0):
        final, _ = made(camera(shares, electrons), told={**LENS.as_optics(), "measured": "off"})
        phase, error = (result.image for result in final.results)
        inner = (slice(6, -6), slice(6, -6))
        off = np.abs(phase - at(truth, POSITIONS))[inner]
        assert 0.58 < (off < error[inner]).mean() < 0.9


def test_waves_at_the_edge_of_what_is_transferred_count_though_hardly_anything_is_seen_of_them():
    """A semi-angle that is a little wrong makes their power too small."""
    at = Frequencies(np.ones((32, 32), np.bool_), BEAM, 0.2)
    last = at.ring == round(REACH / RING) - 1
    transfer = np.where(last, 10.0, 1e7)
    waves = np.random.default_rng(3).standard_normal((at.index.size, 2)) @ np.array([1.0, 1j])
    seen = np.where(last, 0.0, transfer * waves)
    sums = Linear(at, LENS.coefficients(BEAM)).with_sums(seen, transfer)
    whole = at.twice[last].sum() * 2.0 / at.positions**2
    assert variance_of(sums, 0.2 * BEAM.aperture) == pytest.approx(whole, rel=0.2)
