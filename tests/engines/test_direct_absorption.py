"""What absorption makes of the phase, and that it is taken out."""

from __future__ import annotations

import numpy as np
import pytest

from stemd.aberrations import Aberrations
from stemd.beam import Beam
from stemd.engines.direct.growing import GrowingPhase
from stemd.engines.direct.line_kernels import line_kernels
from stemd.engines.kernels.overlaps import GAMMA, add_both, add_overlaps
from stemd.engines.lens.absorption import Absorbing
from stemd.engines.lens.estimate import Cell, Frequencies, Linear
from tests.engines import weak_phase

BEAM = Beam(300e3, 20.0)
LENS = Aberrations(defocus=80.0)
SIDE, FIELD, PER_ANGLE = 32, 8.0, 4
AT = Frequencies(np.ones((SIDE, SIDE), np.bool_), BEAM, FIELD / SIDE)
HALF = 2 * PER_ANGLE
Y, X = np.indices((2 * HALF + 1, 2 * HALF + 1)) - HALF
DISC = np.hypot(Y, X) < 0.97 * PER_ANGLE
MIDDLES = np.stack([Y[DISC], X[DISC]], axis=1).reshape(-1, 1, 2) / PER_ANGLE
PHASE = weak_phase.random_phase(64, SIDE, 0.05, 5, 12.0)
DARK = weak_phase.random_phase(64, SIDE, 0.05, 6, 3.0)


def images(absorption: np.ndarray, electrons: float = 3e4) -> np.ndarray:
    """Counts (cells, ny, nx) of a specimen exp(i PHASE - absorption)."""
    shares = weak_phase.patterns(
        PHASE + 1j * absorption, FIELD, SIDE, BEAM, LENS, PER_ANGLE
    )[:, :, DISC]  # fmt: skip
    counts = np.random.default_rng(1).poisson(shares * electrons)
    return np.ascontiguousarray(np.moveaxis(counts, 2, 0), np.float32)


def cells(counts: np.ndarray) -> list[Cell]:
    return [Cell(*AT.spectrum_of(i), p) for i, p in zip(counts, MIDDLES, strict=True)]


def alone(counts: np.ndarray) -> Linear:
    return Linear.of(AT, cells(counts), LENS.coefficients(BEAM))


def beside(counts: np.ndarray) -> Absorbing:
    both = Absorbing(AT, LENS.coefficients(BEAM))
    for cell in cells(counts):
        both.add(cell)
    return both


def likeness(image: np.ndarray) -> float:
    kept = np.rint(np.fft.fftfreq(SIDE) * SIDE).astype(int)
    truth = np.fft.ifft2(np.fft.fft2(PHASE)[np.ix_(kept, kept)]).real
    return float(np.corrcoef(image.ravel(), truth.ravel())[0, 1])


@pytest.fixture(scope="module")
def dark() -> np.ndarray:
    return images(DARK)


def test_absorption_does_not_pass_for_coarse_phase(dark):
    phase = beside(dark).phase()
    assert likeness(alone(dark).phase()) < 0.7
    assert likeness(phase.phase()) > 0.9


def test_the_absorption_is_found_where_it_is_and_nowhere_else(dark):
    estimate = beside(dark).absorption()
    kept = np.rint(np.fft.fftfreq(SIDE) * SIDE).astype(int)
    truth = np.fft.ifft2(np.fft.fft2(DARK)[np.ix_(kept, kept)]).real
    assert np.corrcoef(estimate.phase().ravel(), truth.ravel())[0, 1] > 0.8
    assert estimate.ring_power()[10:].sum() < 0.05 * estimate.ring_power().sum()


def test_nothing_changes_for_a_specimen_without_absorption():
    counts = images(np.zeros_like(DARK))
    expected, got = alone(counts), beside(counts).phase()
    assert np.corrcoef(expected.phase().ravel(), got.phase().ravel())[0, 1] > 0.99
    assert got.deviation() == pytest.approx(expected.deviation(), rel=0.1)


def test_the_live_image_takes_it_out_as_well(dark):
    both, means = beside(dark), dark.mean(axis=(1, 2)).astype(np.float64)
    powers = both.phase().ring_power() / AT.positions, both.absorption().ring_power() / AT.positions
    made = line_kernels(
        MIDDLES, means, np.arange(means.size), LENS.coefficients(BEAM), BEAM, FIELD / SIDE, 31,
        SIDE, powers,
    )  # fmt: skip
    growing, lines = GrowingPhase(made, (SIDE, SIDE)), np.ascontiguousarray(dark.transpose(1, 2, 0))
    growing.add(np.arange(SIDE), lambda line: lines[line], np.ones((SIDE, SIDE), np.bool_))
    assert likeness(growing.image()) > likeness(alone(dark).phase()) + 0.1


def test_the_part_of_the_phase_is_that_of_the_phase_alone():
    rng = np.random.default_rng(3)
    n = AT.index.size
    seen = (rng.normal(size=n) + 1j * rng.normal(size=n)).astype(np.complex64)
    points = rng.uniform(-0.6, 0.6, (4, 2))
    lens = Aberrations(defocus=50.0, coma_x=300.0).coefficients(BEAM)
    expected = np.zeros(n, np.complex128), np.zeros(n)
    add_overlaps(seen, points, 3.0, AT.y, AT.x, lens, GAMMA, *expected)
    got = np.zeros(n, np.complex128), np.zeros(n)
    other = np.zeros(n, np.complex128), np.zeros(n), np.zeros(n, np.complex128)
    add_both(seen, points, 3.0, AT.y, AT.x, lens, *got, *other)
    np.testing.assert_allclose(got[0], expected[0], atol=1e-9)
    np.testing.assert_allclose(got[1], expected[1], atol=1e-9)
    # one cell has one weight for each: their common sum follows from the two
    np.testing.assert_allclose(np.abs(other[2]) ** 2, got[1] * other[1], atol=1e-6)


def test_what_phase_and_absorption_explain_is_what_least_squares_explain(dark):
    seen, one = cells(dark), np.ones(AT.index.size, np.complex64)
    found = beside(dark).explained()
    transfers = []
    for cell in seen:  # each sees of either so much of it, times its counts
        phase, absorption = Linear(AT, LENS.coefficients(BEAM)), Linear(AT, np.zeros(8))
        mixed = np.zeros(AT.index.size, np.complex128)
        add_both(
            one, cell.points, 1.0, AT.y, AT.x, LENS.coefficients(BEAM), phase.numerator,
            phase.denominator, absorption.numerator, absorption.denominator, mixed,
        )  # fmt: skip
        transfers.append((phase.numerator.conj(), absorption.numerator.conj()))
    for q in (5, 40, 100, 200, 300):
        root = np.sqrt([cell.counts for cell in seen])
        matrix = root[:, None] * np.array([[a[q], b[q]] for a, b in transfers])
        power = root * np.array([cell.spectrum[q] for cell in seen])
        left = power - matrix @ np.linalg.lstsq(matrix, power, rcond=None)[0]
        explained = np.linalg.norm(power) ** 2 - np.linalg.norm(left) ** 2
        assert found[q] == pytest.approx(explained, rel=1e-5)
