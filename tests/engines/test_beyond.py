"""The lens of a scan that is smaller than its probe: most of what cells see lies beyond it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from stemd.aberrations import Aberrations
from stemd.acquisition import Optics
from stemd.engines.bright_field.measuring import lens_found
from stemd.engines.bright_field.view import Discs
from stemd.engines.kernels.shifted import add_shifted
from stemd.engines.lens.beyond import found_beyond, may_spread_beyond, spreads_beyond
from stemd.engines.lens.estimate import Cell, Frequencies, Linear
from stemd.engines.lens.measure import Measured, Search, StoppedError
from stemd.engines.lens.patterns import Patterns
from stemd.engines.lens.shifts import CHUNK, HALVED, Shifts
from tests.engines.test_jointly import BEAM, SIDE, TURN, patterns_of

F64 = NDArray[np.float64]
STEP = 0.3
FIELD = SIDE * STEP
LENS = Aberrations(250.0, 20.0, -25.0)
"""Its probe is 12 angstrom wide, the scan 7.2."""
SEARCH = Search()


@pytest.fixture(scope="module")
def patterns() -> Patterns:
    return patterns_of(LENS, STEP)


def shifts_of(patterns: Patterns) -> Shifts:
    middles = patterns.points.mean(axis=1)
    return Shifts(patterns.counts, middles, patterns.done, BEAM, STEP)


def test_the_shifts_have_the_lens_and_the_rotation(patterns: Patterns) -> None:
    assert spreads_beyond(LENS, BEAM, FIELD)
    found = shifts_of(patterns).place(Aberrations(), SEARCH)
    assert found is not None
    place, clear = found
    off = place - np.append(LENS.coefficients(BEAM), TURN)
    assert np.linalg.norm(off[:3]) < 1.5
    assert abs(math.degrees(off[8])) < 3.0
    assert clear > 6.0


def test_a_wide_search_is_bounded_and_ends_when_it_is_told_to(
    patterns: Patterns, monkeypatch: pytest.MonkeyPatch
) -> None:
    shifts, looked_at = shifts_of(patterns), []
    heights = Shifts._heights_of

    def counted(self: Shifts, numbers: F64) -> F64:
        looked_at.append(len(numbers))
        return heights(self, numbers)

    monkeypatch.setattr(Shifts, "_heights_of", counted)
    monkeypatch.setattr("stemd.engines.lens.shifts.MOST_PLACES", 50_000)
    found = shifts.place(Aberrations(200.0), Search(100_000.0, 10_000.0))
    assert found is not None
    assert 5_000 < sum(looked_at) <= 50_000 + HALVED * 81
    assert max(looked_at) <= CHUNK
    with pytest.raises(StoppedError):
        shifts.place(Aberrations(), SEARCH, lambda: False)


def test_of_a_field_that_no_probe_of_the_search_leaves_the_shifts_are_not_asked() -> None:
    assert may_spread_beyond(Aberrations(), SEARCH, BEAM, FIELD)
    assert not may_spread_beyond(Aberrations(), SEARCH, BEAM, 40.0)
    assert may_spread_beyond(Aberrations(600.0), SEARCH, BEAM, 40.0)


def test_correlations_are_taken_between_pixels_and_end_with_the_map() -> None:
    rng = np.random.default_rng(8)
    maps, apart = rng.normal(size=(5, 12, 10)), rng.uniform(-1.0, 1.0, (5, 2))
    numbers = rng.uniform(-3.0, 3.0, (200, 4))
    z, x, y, w = numbers.T
    expected = np.zeros(200)
    for found, (dy, dx) in zip(maps, apart, strict=True):
        at = np.stack([(z + x) * dy + (y - w) * dx, (y + w) * dy + (z - x) * dx]) / 0.5
        at += np.array([[6.0], [5.0]])
        inside = ((at >= 0.0) & (at < np.array([[11.0], [9.0]]))).all(axis=0)
        expected += np.where(inside, map_coordinates(found, at, order=1), 0.0)
    assert inside.sum() > 20
    assert (~inside).sum() > 20
    got = np.zeros(200)
    add_shifted(maps, apart, numbers, 0.5, got)
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_noise_has_no_shift(patterns: Patterns) -> None:
    means = patterns.counts.mean(axis=(1, 2), keepdims=True)
    counts = np.random.default_rng(3).poisson(means + 0.0 * patterns.counts).astype(np.float32)
    found = shifts_of(replace(patterns, counts=counts)).place(Aberrations(), SEARCH)
    assert found is not None
    assert found[1] < 6.0


def test_a_lens_is_claimed_where_the_linear_model_has_a_wrong_one(patterns: Patterns) -> None:
    wrong = Aberrations(140.0, 30.0, 10.0)
    found = shifts_of(patterns).place(Aberrations(), SEARCH)
    assert found is not None
    lens = found_beyond(
        found[0], [wrong], Aberrations(), patterns, BEAM, STEP, SEARCH, lambda: True
    )
    assert lens is not None
    assert lens.sure
    off = np.abs(lens.aberrations.as_array() - LENS.as_array())[:3]
    assert (off < 4.0).all()
    assert (off < 3.0 * lens.sigma[:3]).all()
    assert lens.turn_deg == pytest.approx(math.degrees(TURN), abs=0.6)
    # from a lens that is far off nothing is claimed
    start = np.append(LENS.seen_from_behind().coefficients(BEAM), 0.0)
    other = found_beyond(start, [], LENS, patterns, BEAM, STEP, SEARCH, lambda: True)
    assert other is not None
    assert not other.sure


def test_the_optics_of_such_a_scan_are_measured_so(
    patterns: Patterns, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, points = patterns.counts.reshape(len(patterns.counts), -1), patterns.points[:, 0]
    discs = Discs(
        lambda cells: seen[cells], points, patterns.done, (0.0, 0.0), 25.0, 1, BEAM, STEP
    )  # fmt: skip
    optics = Optics(energy_ev=300e3, convergence_semi_angle_mrad=20.0, pixel_size_mrad=0.8)
    # what the linear model is sure of is not asked again
    monkeypatch.setattr(Measured, "sure", property(lambda found: found.explained > 0.9))
    found = lens_found(discs, lambda turned: points, [], optics, SEARCH, lambda: True, None)
    assert found is not None
    assert found.sure
    off = np.abs(found.found.aberrations.as_array() - LENS.as_array())[:3]
    assert (off < 4.0).all()
    assert found.rotation_deg == pytest.approx(math.degrees(TURN), abs=0.6)
    assert found.disagrees


def test_of_a_scan_that_shows_nothing_no_lens_is_claimed(patterns: Patterns) -> None:
    flat = replace(patterns, counts=np.full_like(patterns.counts, 4.0))
    start = np.append(LENS.coefficients(BEAM), 0.0)
    assert found_beyond(start, [], LENS, flat, BEAM, STEP, SEARCH, lambda: True) is None


def test_rings_without_a_frequency_of_a_small_field_have_power_too() -> None:
    at = Frequencies(np.ones((16, 16), np.bool_), BEAM, 0.3)
    there = np.bincount(at.ring) > 0
    assert not there.all()
    points = np.array([[[0.3, -0.2]], [[-0.4, 0.1]]])
    rng = np.random.default_rng(5)
    cells = [
        Cell(rng.normal(size=(at.index.size, 2)).view(complex)[:, 0].astype(np.complex64), 1e3, one)
        for one in points
    ]
    power = Linear.of(at, cells, LENS.coefficients(BEAM)).ring_power()
    first, last = np.flatnonzero(there)[[0, -1]]
    empty = np.flatnonzero(~there)
    for ring in empty[(empty > first) & (empty < last)]:
        near = power[[there[:ring].nonzero()[0][-1], ring + there[ring:].nonzero()[0][0]]]
        assert near.min() <= power[ring] <= near.max()
    assert power[0] == power[first]


def test_of_noise_no_phase_is_sought(patterns: Patterns, monkeypatch: pytest.MonkeyPatch) -> None:
    means = patterns.counts.mean(axis=(1, 2), keepdims=True)
    counts = np.random.default_rng(5).poisson(means + 0.0 * patterns.counts).astype(np.float32)
    monkeypatch.setattr("stemd.engines.lens.beyond.Jointly.improve", None)
    start = np.append(LENS.coefficients(BEAM), 0.0)
    noise = replace(patterns, counts=counts)
    found = found_beyond(start, (), Aberrations(), noise, BEAM, STEP, SEARCH, lambda: True)
    assert found is None
