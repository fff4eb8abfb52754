"""The score of phase images: the simulation by plane waves, the methods, the measures."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the extra 'training'")

from benchmarks.airpi import fresh, measures, methods, simulate, specimens
from benchmarks.airpi.scan4d import SCALE, Picture, Scan4D
from stemd.results import Result
from training.airpi.multislice import displacements
from training.airpi.potential import Grid

PLAN = simulate.Plan("little", specimens.mos2_bilayer, (24, 28), 0.2)


def phase_scan() -> Scan4D:
    """Patterns without content and a truth of broad hills, to measure pictures against."""
    y, x = np.mgrid[:120, :140]
    truth = np.sin(y / 9.0) * np.cos(x / 7.0)
    patterns = np.full((32, 36, 64, 64), SCALE / 4096, np.float16)
    return Scan4D("hills", patterns, PLAN.beam, 0.1, truth.astype(np.float32), 0.05, 1.0)


def sampled(scan: Scan4D, pixel: float, count: tuple[int, int], origin: float) -> Picture:
    y, x = (origin + pixel * np.arange(n) for n in count)
    image = np.outer(np.sin((y + 1.0) / 0.45), np.cos((x + 1.0) / 0.35))
    return Picture(5.0 - 0.0 + 3.0 * image, pixel, (origin, origin))


def test_plane_waves_and_single_positions_give_the_same_patterns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(simulate, "SAMPLES", 160)
    beam = PLAN.beam
    grid = Grid(160, simulate.FIELDS * simulate.field_of_view(beam))
    atoms = specimens.mos2_bilayer(grid.side)
    moved = displacements(atoms, 1, 0.08, np.random.default_rng(0))
    y, x = np.array([7.0, 7.3]), np.array([6.5, 8.0, 9.1])
    one = simulate.patterns_by_positions(atoms, beam, grid, y, x, moved)
    other = simulate.patterns_by_plane_waves(atoms, beam, grid, y, x, moved)
    np.testing.assert_allclose(one, other, atol=1e-3 * one.max())
    np.testing.assert_allclose(one.sum(axis=(2, 3)), 1.0, atol=0.02)


def test_blocks_cover_every_position_once() -> None:
    for plan in simulate.plans():
        seen = np.zeros(plan.shape, int)
        for rows, columns in simulate.blocks(plan):
            seen[rows, columns] += 1
        assert (seen == 1).all()


def test_a_picture_is_judged_where_its_pixels_are_whatever_its_unit_and_sampling() -> None:
    scan = phase_scan()
    for pixel, count, origin in ((0.1, (32, 36), 0.0), (0.123, (40, 40), -0.31)):
        picture = sampled(scan, pixel, count, origin)
        assert measures.score(picture, scan) > 0.999
        assert measures.common_score(picture, scan) > 0.999
        moved = replace(picture, origin=(origin + 0.5, origin))
        assert measures.score(moved, scan) < 0.9


def test_dose_is_that_of_the_patterns_area_and_the_same_every_time() -> None:
    scan = phase_scan()
    noisy = scan.at_dose(1e4)
    assert noisy.electrons == pytest.approx(100.0)
    assert noisy.patterns.sum(dtype=float) / (32 * 36) == pytest.approx(100.0, rel=0.01)
    np.testing.assert_array_equal(noisy.patterns, scan.at_dose(1e4).patterns)
    assert scan.at_dose(math.inf) is scan


def test_a_scan_is_stored_whole_and_comes_back(tmp_path: Path) -> None:
    plan = simulate.Plan("nothing", specimens.vacuum, (4, 5), 0.1)
    made = simulate.scan(plan, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["nothing.npz"]
    again = simulate.scan(plan, tmp_path)
    np.testing.assert_array_equal(made.patterns, again.patterns)
    assert again.beam == made.beam
    assert methods.ssb(again).values.std() < 1e-3


def test_the_best_low_pass_is_never_worse_and_finds_the_noise() -> None:
    scan = phase_scan()
    picture = sampled(scan, 0.1, (32, 36), 0.0)
    noise = np.random.default_rng(0).normal(size=(32, 36))
    noisy = replace(picture, values=picture.values + 6.0 * noise)
    before = measures.score(noisy, scan)
    assert measures.score(measures.best_low_pass(noisy, scan), scan) > before + 0.2


def test_an_uncertainty_is_read_off_at_each_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error was compared with the largest value of the map: too many pixels were within it."""
    scan = phase_scan()
    count = (round(scan.step * (scan.shape[0] - 1) / 0.2) + 1,) * 2
    like = sampled(scan, 0.2, count, 0.0)
    error = np.random.default_rng(1).normal(0.0, 0.01, like.values.shape)
    large = np.where(np.arange(count[1]) > count[1] // 2, 10.0, 1e-4) + 0.0 * error
    extra = {"origin": (0, 0)}
    made = {
        f"airpi_{name}": Result(
            f"airpi_{name}", values.astype(np.float32), "rad", "scan", 0.2, extra
        )
        for name, values in (("phase", like.values + error), ("uncertainty", large))
    }
    monkeypatch.setattr(fresh, "results", lambda *of, **table: made)
    row = fresh.scored(fresh.Case("in focus", scan, {}), math.inf, "airpi")
    assert 0.3 < row["within"] < 0.8
    assert row["sigma"] == pytest.approx(10.0 * math.sqrt(row["within"]), rel=0.1)
