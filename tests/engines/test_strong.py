"""AIRPI's image of a strong specimen is fitted to what the cells count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.beam import Beam
from stemd.engines.airpi import strong as module
from stemd.engines.airpi.bright import Evidence
from stemd.engines.airpi.full_model import Part
from stemd.engines.airpi.slopes import Frame
from stemd.engines.airpi.strong import fitted, strong
from stemd.engines.bright_field.seen_cells import cells_of
from stemd.engines.bright_field.view import Discs
from stemd.engines.lens.absorption import Absorbing
from stemd.engines.lens.estimate import Frequencies
from tests.engines import weak_phase

BEAM = Beam(300e3, 20.0)
POSITIONS, FIELD, PER_ANGLE, FINE = 40, 10.0, 5, 80
STEP, PIXEL = FIELD / POSITIONS, FIELD / FINE
LENS = Aberrations(60.0, astigmatism_x=30.0)
ELECTRONS = 500.0
FRAME = Frame(PIXEL, (0.0, 0.0))


def atoms() -> NDArray[np.float64]:
    """Columns of up to 4 radian, at random, none near another."""
    rng, places = np.random.default_rng(5), np.empty((0, 2))
    while len(places) < 18:
        new = rng.uniform(0.0, FIELD, 2)
        apart = np.abs(places - new)
        if np.hypot(*np.minimum(apart, FIELD - apart).T).min(initial=9.0) > 1.7:
            places = np.vstack([places, new])
    y, x = (np.arange(FINE) * PIXEL for _ in range(2))
    phase = np.zeros((FINE, FINE))
    for place, height in zip(places, rng.uniform(2.0, 4.0, len(places)), strict=True):
        away = [np.abs(part - at) for part, at in zip((y, x), place, strict=True)]
        near = [np.exp(-((np.minimum(a, FIELD - a) / 0.4) ** 2)) for a in away]
        phase += height * np.outer(*near)
    return phase - phase.mean()


def evidence_of(phase: NDArray[np.float64], electrons: float = ELECTRONS) -> Evidence:
    """What a scan of it leaves of the bright field, through a lens that is known."""
    shares = weak_phase.patterns(phase, FIELD, POSITIONS, BEAM, LENS, PER_ANGLE)
    counts = np.random.default_rng(3).poisson(shares * electrons).astype(np.float32)
    cells = np.ascontiguousarray(counts.reshape(POSITIONS**2, -1).T)
    at = (np.arange(4 * PER_ANGLE + 1) - 2.0 * PER_ANGLE) / PER_ANGLE
    vectors = np.stack(np.meshgrid(at, at, indexing="ij"), axis=-1).reshape(-1, 2)
    discs = Discs(
        lambda columns: cells[columns], vectors, np.ones((POSITIONS, POSITIONS), np.bool_),
        (10.0, 10.0), float(PER_ANGLE), 1, BEAM, STEP,
    )  # fmt: skip
    frequencies = Frequencies(discs.done, BEAM, STEP)
    both = Absorbing(frequencies, LENS.coefficients(BEAM))
    for cell in cells_of(discs, frequencies):
        both.add(cell)
    linear = both.phase()
    return Evidence(linear, np.ones(frequencies.index.size), {}, lens=LENS, discs=discs)


@pytest.fixture(scope="module")
def truth() -> NDArray[np.float64]:
    return atoms()


@pytest.fixture(scope="module")
def evidence(truth: NDArray[np.float64]) -> Evidence:
    return evidence_of(truth)


def faint(truth: NDArray[np.float64]) -> NDArray[np.float32]:
    """As a network shows what it is not sure of: too weak, saturated and not quite in place."""
    low = np.tanh(truth) + 0.4 * weak_phase.random_phase(FINE, POSITIONS, 0.3, 9, 12.0)
    return np.asarray(0.35 * low, np.float32)


def alike(image: NDArray[np.floating], truth: NDArray[np.float64]) -> float:
    """Correlation where cells see all of the specimen."""
    inner = np.s_[8:-8, 8:-8]
    return float(np.corrcoef(image[inner].ravel(), truth[inner].ravel())[0, 1])


def test_the_phase_of_a_strong_specimen_is_what_its_cells_count(
    truth: NDArray[np.float64], evidence: Evidence
) -> None:
    network = faint(truth)
    found = strong(network, FRAME, evidence)
    assert found is not None
    made = fitted(network, FRAME, evidence, found)
    linear = evidence.linear.phase()
    assert alike(made.phase, truth) > 0.95
    assert alike(made.phase, truth) > alike(network, truth) + 0.03
    assert alike(made.phase, truth) > alike(linear, truth[::2, ::2]) + 0.05
    inner = np.s_[8:-8, 8:-8]
    slope = np.polyfit(truth[inner].ravel(), made.phase[inner].ravel(), 1)[0]
    assert 0.85 < slope < 1.2
    error = made.phase[inner] - truth[inner]
    within = np.abs(error - error.mean()) < made.sigma
    assert 0.55 < within.mean() < 0.95
    # the middle that was fitted first says which of two images is nearer to the specimen
    worse = np.asarray(np.roll(network, 12, axis=0), np.float32)
    assert found.alike(network, FRAME) > found.alike(worse, FRAME) + 0.3


def test_tiles_that_overlap_make_the_same_image(
    truth: NDArray[np.float64], evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = faint(truth)
    found = strong(network, FRAME, evidence)
    assert found is not None
    whole = fitted(network, FRAME, evidence, found).phase
    monkeypatch.setattr(module, "TILE", 32)
    stretches = module._cut(POSITIONS, 16)
    assert len(stretches) > 1
    assert {n for part in stretches for n in range(part.start, part.stop)} == set(range(POSITIONS))
    tiles = fitted(network, FRAME, evidence, found).phase
    assert alike(tiles, truth) > alike(whole, truth) - 0.02
    assert alike(tiles, whole.astype(np.float64)) > 0.98


def test_of_a_scan_with_many_tiles_the_middle_is_fitted(
    truth: NDArray[np.float64], evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = faint(truth)
    found = strong(network, FRAME, evidence)
    assert found is not None
    monkeypatch.setattr(module, "TILE", 20)
    monkeypatch.setattr(module, "TOLD_S", 0.0)
    told: list[int] = []
    monkeypatch.setattr(module.log, "info", lambda text, tiles, done: told.append(done))
    whole = fitted(network, FRAME, evidence, found)
    assert whole.part == 1.0
    assert whole.where.all()
    tiles = len(module._cut(POSITIONS, 10)) ** 2
    assert tiles > 4
    assert told == list(range(tiles))
    monkeypatch.setattr(module, "MOST_TILES", 1)
    first = fitted(network, FRAME, evidence, found)
    assert first.part == pytest.approx((20 / POSITIONS) ** 2)
    y, x = np.nonzero(first.where)
    middle = FINE // 2
    assert abs(y.mean() - middle) < 2.0
    assert abs(x.mean() - middle) < 2.0
    assert first.where.mean() == pytest.approx(first.part, abs=0.05)
    # beyond, what the network has
    np.testing.assert_allclose(first.phase[0], np.float32(found.scale) * network[0], atol=1e-4)
    assert np.abs(first.phase - np.float32(found.scale) * network)[first.where].max() > 0.05


def test_steps_go_on_as_long_as_they_gain(
    truth: NDArray[np.float64], evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the counts say much and the phase begins far from it many are needed, else few."""
    all_of_it = slice(0, POSITIONS)
    steps, gained = [], []
    for each in (evidence, evidence_of(truth, 5.0)):
        assert each.discs is not None
        part = Part(each.discs, LENS, all_of_it, all_of_it, 0, 1)
        thought = part.thought(module.coefficients(faint(truth)), FRAME)
        seen: list[int] = []
        back = part._fit._back
        monkeypatch.setattr(part._fit, "_back", lambda d, b=back, s=seen: (s.append(1), b(d))[1])
        best = part.likely(*part.fitted(thought, 1.0, 1.0, 60)[:2])
        steps.append(len(seen))
        gained.append(best - part.likely(*part.fitted(thought, 1.0, 1.0, 4)[:2]))
    assert 8 < steps[0] < 60
    assert 1 < steps[1] < steps[0]
    assert gained[0] > 50.0
    assert gained[1] < 5.0


def test_a_weak_or_unclear_specimen_is_left_to_the_linear_estimate(
    truth: NDArray[np.float64], evidence: Evidence
) -> None:
    weak = evidence_of(0.05 * truth)
    assert strong(np.asarray(0.05 * faint(truth)), FRAME, weak) is None
    # a network that claims a strong specimen where the counts have none
    assert strong(faint(truth), FRAME, weak) is None
    network = faint(truth)
    assert strong(network, FRAME, replace(evidence, part=0.4)) is None
    assert strong(network, FRAME, replace(evidence, discs=None)) is None
    # so far out of focus that every position sees what lies beyond the scan
    assert strong(network, FRAME, replace(evidence, lens=Aberrations(300.0))) is None


def test_where_the_linear_estimate_is_good_the_dose_decides(
    truth: NDArray[np.float64], evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ENOUGH", 0.02)
    monkeypatch.setattr(module, "WRONG", 0.01)  # whatever it is, it counts as good
    network = faint(truth)
    many = strong(network, FRAME, evidence)
    assert many is not None
    assert many.better == 1.0
    few = strong(network, FRAME, evidence_of(truth, 15.0))
    assert few is not None
    assert 0.3 < few.better < 0.9
    assert strong(network, FRAME, evidence_of(truth, 4.0)) is None


def test_half_of_the_cells_say_what_all_would_leave_open(
    truth: NDArray[np.float64], evidence: Evidence
) -> None:
    assert evidence.discs is not None
    all_of_it = slice(0, POSITIONS)
    spline = module.coefficients(faint(truth))
    left = []
    for stride, cells in ((1, 1.0), (2, 2.0), (2, 1.0)):
        part = Part(evidence.discs, LENS, all_of_it, all_of_it, 0, stride)
        left.append(part.fitted(part.thought(spline, FRAME), 1.0, cells)[2])
    assert left[1] == pytest.approx(left[0], rel=0.15)
    assert left[2] > 1.2 * left[0]


@pytest.mark.parametrize("electrons", [15.0, 300.0])
def test_what_the_linear_estimate_holds_back_with_few_electrons_is_not_lacking(
    electrons: float,
) -> None:
    """Weak specimens were taken for strong ones of which it is wrong."""
    weak = weak_phase.random_phase(FINE, POSITIONS, 0.1, 5, 12.0)
    discs = evidence_of(weak, electrons).discs
    assert discs is not None
    whole = slice(0, POSITIONS)
    part = Part(discs, LENS, whole, whole, 0, 1)
    linear, deviation = part.linear()
    shown = float(linear[: part.shape[0], : part.shape[1]].std())
    assert np.hypot(shown, deviation) == pytest.approx(weak.std(), rel=0.15)
    if electrons < 100.0:
        assert shown < 0.8 * weak.std()
