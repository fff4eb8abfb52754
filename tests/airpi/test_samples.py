"""Training samples: in range, reproducible, whole after any interruption."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra 'training'")

from training.airpi import samples, shards, specimens  # noqa: E402


def same(a: samples.Group, b: samples.Group) -> bool:
    alike = np.array_equal(a.patterns, b.patterns) and np.array_equal(a.wave, b.wave)
    return alike and a.conditions == b.conditions and a.kind == b.kind


def test_a_specimen_is_the_same_whenever_it_is_made():
    first = samples.groups(5, 3, 96, 2)
    samples.groups(5, 4, 96, 2)
    again = samples.groups(5, 3, 96, 2)
    other = samples.groups(6, 3, 96, 2)
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert not same(first[0], other[0])


def test_samples_are_in_range_and_of_every_kind():
    kinds = set()
    rng = np.random.default_rng(1)
    for _ in range(60):
        what = samples.conditions(rng)
        assert 30e3 <= what.beam.energy_ev <= 300e3
        assert 5.0 <= what.beam.convergence_semi_angle_mrad <= 30.0
        assert 0.0 < what.step <= 2.0
        assert what.collection_mrad > what.beam.convergence_semi_angle_mrad
        found = specimens.specimen(25.0, rng)
        kinds.add(found.kind.split()[0])
        if found.atoms.numbers.size:
            assert found.atoms.places[:, 0].min() == 0.0
            assert found.atoms.places[:, 0].max() <= specimens.THICKEST_ANGSTROM
    assert {"crystal", "sheets", "glass"} <= kinds


def test_a_crystal_has_its_own_density_and_axis():
    gold = next(c for c in specimens.CRYSTALS if c.name == "Au")
    turn = specimens.along(gold, (0, 0, 1))
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    atoms = specimens.cut_out(gold, turn, 10 * 4.08, 4.08, np.full(3, 1e-3))
    assert atoms.numbers.size == 4 * 100
    # two layers a cell along [001]
    heights = np.unique(np.round(atoms.places[:, 0], 3))
    assert heights.size == 2
    assert math.isclose(heights[1] - heights[0], 2.04, abs_tol=2e-3)


def test_glass_atoms_keep_their_distance():
    points = np.random.default_rng(2).random((3000, 3)) * 15.0
    kept = points[specimens.apart(points, 2.5)]
    distance = np.linalg.norm(kept[:, None] - kept[None], axis=-1)
    assert distance[~np.eye(len(kept), dtype=bool)].min() >= 2.5
    # random sequential addition fills nearly all that it can: 38 % of the volume by spheres
    assert len(kept) * math.pi / 6 * 2.5**3 / 15.0**3 > 0.28


def test_held_out_compositions_are_never_drawn():
    rng = np.random.default_rng(3)
    magnesia = next(c for c in specimens.CRYSTALS if c.name == "MgO")
    for _ in range(40):
        drawn = {z for z, _ in specimens.substituted(magnesia, rng).atoms}
        assert drawn not in specimens.HELD_OUT
        assert len(drawn) == 2


def test_an_interrupted_series_goes_on_and_reads_back(tmp_path):
    recipe = shards.Recipe(seed=2, samples=96, phonons=1, specimens=2)
    assert shards.make(tmp_path, recipe, range(1)) == 2 * samples.GROUPS
    assert shards.make(tmp_path, recipe, range(2)) == 2 * samples.GROUPS
    assert shards.make(tmp_path, recipe, range(2)) == 0
    read = shards.read_shard(shards.shard_path(tmp_path, recipe, 1))
    truth = samples.groups(2, 2, 96, 1) + samples.groups(2, 3, 96, 1)
    for got, expected in zip(read, truth, strict=True):
        assert got.conditions == expected.conditions
        top = expected.patterns.max()
        seen = expected.patterns > 1e-8 * top
        ratio = got.patterns[seen] / expected.patterns[seen]
        assert np.abs(ratio - 1.0).max() < 0.05
        assert np.abs(got.patterns - expected.patterns).max() < 0.005 * top
        error = np.abs(got.wave - expected.wave).max()
        assert error < 1e-3 * np.abs(expected.wave).max()


def test_dose_gives_so_many_electrons():
    rng = np.random.default_rng(4)
    patterns = np.full((9, 64, 64), 1.0 / 4096, np.float32)
    for electrons in (5.0, 1e4, 1e9):
        counts = samples.with_dose(patterns, electrons, rng)
        total = counts.sum(dtype=np.float64) / 9
        assert abs(total - electrons) < 5 * math.sqrt(electrons)
    doses = [samples.random_dose(rng) for _ in range(200)]
    assert min(doses) >= 3.0
    assert max(doses) <= 3e9
    assert 1e3 < np.median(doses) < 1e7


def test_most_glasses_and_sheets_are_light_and_none_is_a_scored_one():
    rng = np.random.default_rng(6)
    kinds = [set(specimens._glass(8.0, rng).numbers.tolist()) for _ in range(60)]
    assert not any(kind in specimens.HELD_OUT for kind in kinds)
    light = np.mean([max(kind) <= specimens.LIGHTEST for kind in kinds])
    assert 0.4 < light < 0.85
