"""How strong a specimen is, and through which lens it was seen, by what leaves the disc."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.beam import Beam
from stemd.engines.airpi.dark_field import UNSEEN, WIDTH, power_at, power_density
from stemd.engines.airpi.faint_lens import likely_lenses
from stemd.engines.airpi.features import GRID
from stemd.engines.bright_field.view import Discs
from stemd.engines.lens.estimate import Frequencies
from stemd.engines.lens.measure import Search
from tests.engines import weak_phase

F64 = NDArray[np.float64]

BEAM = Beam(300e3, 20.0)
FIELD, POSITIONS, SIDE, PER_ANGLE = 10.0, 40, 96, 4
STEP = FIELD / POSITIONS
STRENGTH = 0.05
LENSES = {
    "in focus": Aberrations(),
    "out of focus": Aberrations(defocus=90.0, astigmatism_x=18.0, astigmatism_y=-12.0),
}
ELECTRONS = 40.0
SEARCH = Search(200.0, 40.0)


@pytest.fixture(scope="module")
def truth() -> F64:
    return weak_phase.random_phase(SIDE, POSITIONS, STRENGTH, 5, 16.0)


@pytest.fixture(scope="module")
def shares(truth: F64) -> dict[str, F64]:
    return {
        name: weak_phase.patterns(truth, FIELD, POSITIONS, BEAM, lens, PER_ANGLE)
        for name, lens in LENSES.items()
    }


def on_grid(pattern: F64) -> tuple[F64, NDArray[np.float32]]:
    """A pattern (s, s) with cells as large as the grid's pixels, and which of those it has."""
    half = pattern.shape[0] // 2
    y, x = np.divmod(GRID.members, GRID.side) - np.array([[GRID.half], [GRID.half]]) + half
    there = (y >= 0) & (y < pattern.shape[0]) & (x >= 0) & (x < pattern.shape[1])
    counts = np.zeros(there.size)
    counts[there] = pattern[y[there], x[there]]
    return counts, there.astype(np.float32)


def seen_part(density: F64) -> float:
    """Mean square of the phase in the rings that scatter far enough, up to twice the semi-angle."""
    edges = WIDTH * np.arange(density.size + 1)
    power = density * np.pi * np.diff(edges**2)
    return float(power[UNSEEN : round(2.0 / WIDTH)].sum())


def true_part(truth: F64) -> float:
    k = np.fft.fftfreq(SIDE, FIELD / SIDE) / BEAM.aperture
    radius = np.hypot(k[:, None], k)
    power = np.abs(np.fft.fft2(truth) / truth.size) ** 2
    return float(power[(radius >= UNSEEN * WIDTH) & (radius < 2.0)].sum())


@pytest.mark.parametrize("lens", LENSES)
def test_the_dark_field_has_the_specimens_strength_through_any_lens(
    shares: dict[str, F64], truth: F64, lens: str
) -> None:
    pattern = shares[lens].mean(axis=(0, 1))
    for electrons in (np.inf, 50_000.0):
        seen = pattern
        if np.isfinite(electrons):
            seen = np.random.default_rng(1).poisson(pattern * electrons).astype(np.float64)
        density = power_density(*on_grid(seen))
        assert density is not None
        strength = np.sqrt(seen_part(density) / true_part(truth))
        assert 0.7 < strength < 1.2


def test_the_power_of_waves_adds_up_to_the_mean_square(shares: dict[str, F64]) -> None:
    density = power_density(*on_grid(shares["in focus"].mean(axis=(0, 1))))
    assert density is not None
    at = Frequencies(np.ones((POSITIONS, POSITIONS), np.bool_), BEAM, STEP)
    power = power_at(density, at, STEP * BEAM.aperture)
    inside = (np.hypot(at.y, at.x) >= UNSEEN * WIDTH) & (np.hypot(at.y, at.x) < 2.0)
    total = float((at.twice * power)[inside].sum()) / (at.positions * at.done.size)
    assert total == pytest.approx(seen_part(density), rel=0.1)


def test_an_even_background_is_no_specimen(shares: dict[str, F64]) -> None:
    pattern = shares["in focus"].mean(axis=(0, 1)) * 1e5
    counts, known = on_grid(pattern)
    alone = power_density(counts, known)
    # as many counts as the specimen scatters
    outside = known * (np.hypot(*GRID.vectors.T) > 1.3)
    more = power_density(counts + known * (counts @ outside) / outside.sum(), known)
    assert alone is not None
    assert more is not None
    assert seen_part(more) < 2.0 * seen_part(alone)


def test_a_detector_that_sees_the_disc_alone_says_nothing(shares: dict[str, F64]) -> None:
    counts, _ = on_grid(shares["in focus"].mean(axis=(0, 1)))
    disc = (np.hypot(*GRID.vectors.T) < 1.2).astype(np.float32)
    assert power_density(counts, disc) is None
    assert power_density(np.zeros(counts.size), np.ones_like(disc)) is None


def discs_of(counts: F64) -> Discs:
    """What the bright field has of counts (ny, nx, s, s)."""
    ny, nx, side, _ = counts.shape
    y, x = (np.indices((side, side)) - side // 2) / PER_ANGLE
    cells = np.hypot(y, x).ravel() < 1.2
    images = counts.reshape(ny * nx, -1).T[cells].astype(np.float32)
    return Discs(
        images.__getitem__, np.stack([y.ravel(), x.ravel()], axis=1)[cells],
        np.ones((ny, nx), np.bool_), (side / 2, side / 2), float(PER_ANGLE), 1, BEAM, STEP,
    )  # fmt: skip


@pytest.mark.parametrize("lens", LENSES)
def test_the_lens_of_a_faint_specimen_is_found_and_one_told_rightly_stays(
    shares: dict[str, F64], lens: str
) -> None:
    true = LENSES[lens]
    for seed in range(3):
        counts = np.random.default_rng(seed).poisson(shares[lens] * ELECTRONS).astype(np.float64)
        density = power_density(*on_grid(counts.sum(axis=(0, 1))))
        assert density is not None
        discs = discs_of(counts)
        kept, parts = likely_lenses(discs, true, (), density, SEARCH, lambda: True)
        assert kept[0] == true
        assert parts.sum() == pytest.approx(1.0)
        wrong = next(other for other in LENSES.values() if other is not true)
        found, parts = likely_lenses(discs, wrong, (), density, SEARCH, lambda: True)
        assert parts.sum() == pytest.approx(1.0)
        assert parts[0] == parts.max()
        assert found[0].defocus == pytest.approx(true.defocus, abs=25.0)
