"""The score table measures what it says: fits find columns, specimens are what they claim."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.restoration.measures import column_errors, fitted_columns, psnr
from benchmarks.restoration.score import CONDITIONS, recorded, table
from benchmarks.restoration.specimens import SIZE, specimens
from benchmarks.restoration.truthful import gates


def columns_image(positions, sigma: float, height: float, background: float) -> np.ndarray:
    jj, ii = np.mgrid[:80, :80]
    image = np.full((80, 80), background)
    for y, x in positions:
        image += height * np.exp(-0.5 * ((jj - y) ** 2 + (ii - x) ** 2) / sigma**2)
    return image.astype(np.float32)


def test_a_fit_finds_position_and_volume_of_every_column():
    rng = np.random.default_rng(0)
    true = np.stack(np.meshgrid([20.0, 40.0, 60.0], [20.0, 40.0, 60.0]), -1).reshape(-1, 2)
    true = true + rng.uniform(-1.0, 1.0, true.shape)
    image = columns_image(true, 2.5, 30.0, 4.0)
    guesses = true + rng.uniform(-1.0, 1.0, true.shape)
    found = fitted_columns(image, guesses, 7.0, 3.0)
    np.testing.assert_allclose(found[:, :2], true, atol=1e-3)
    np.testing.assert_allclose(found[:, 2], 2 * np.pi * 2.5**2 * 30.0, rtol=1e-3)


def test_column_errors_are_the_shift_and_the_gain_that_were_put_in():
    true = np.array([[30.0, 30.0], [30.0, 52.0], [52.0, 41.0]])
    truth = columns_image(true, 2.5, 30.0, 4.0)
    moved = columns_image(true + np.array([0.3, -0.4]), 2.5, 33.0, 4.0)
    position, section = column_errors(moved, truth, true, 7.0, 2.5)
    assert position == pytest.approx(0.5, abs=1e-3)
    assert section == pytest.approx(0.1, abs=1e-3)


def test_psnr_is_twenty_decibels_for_a_tenth_of_the_range():
    truth = np.linspace(0.0, 10.0, 100, dtype=np.float32).reshape(10, 10)
    assert psnr(truth + np.float32(1.0), truth) == pytest.approx(20.0, abs=1e-4)


@pytest.mark.parametrize("specimen", specimens(), ids=lambda s: s.name)
def test_a_specimen_shows_its_columns_where_it_says(specimen):
    fraction = specimen.fraction
    assert fraction.shape == (SIZE, SIZE)
    assert fraction.min() > 0.0
    assert fraction.max() < 0.5
    for y, x in np.round(specimen.columns).astype(int):
        around = fraction[y - 3 : y + 4, x - 3 : x + 4]
        assert fraction[y - 1 : y + 2, x - 1 : x + 2].max() == around.max()


def test_the_dislocated_crystal_has_one_more_half_plane_above_than_below():
    specimen = next(s for s in specimens() if s.name == "edge dislocation")
    # strontium columns in the lines near the upper and the lower edge
    strong = specimen.columns

    def per_line(y0: float) -> float:
        line = strong[np.abs(strong[:, 0] - y0) < 30.0]
        return len(line) / (line[:, 0].max() - line[:, 0].min())

    assert abs(per_line(40.0) - per_line(SIZE - 40.0)) > 0.02


def test_recordings_are_repeatable_and_differ_between_conditions():
    specimen = specimens()[0]
    images = [recorded(specimen, 0, condition, 1e3)[0] for condition in CONDITIONS]
    again = recorded(specimen, 0, "still", 1e3)[0]
    np.testing.assert_array_equal(images[0], again)
    assert not np.array_equal(images[0], images[1])
    assert images[0].mean() == pytest.approx(specimen.electrons(1e3).mean(), rel=0.02)


def test_the_table_holds_means_over_specimens():
    rows = {
        "still|500|a|raw": {"psnr": 10.0},
        "still|500|b|raw": {"psnr": 12.0},
        "still|500|a|network": {"psnr": 20.0},
        "still|500|b|network": {"psnr": 21.0},
    }
    assert "| still, 500 e/A^2 | 11.00 | 20.50 |" in table(rows, "psnr")


def test_the_gate_of_a_defect_is_that_of_how_clearly_it_was_recorded() -> None:
    rows = {
        "still|500|MoS2|raw": {"half": 0.8, "half detected": 1.4},
        "still|500|MoS2|stemd": {"half": 0.4, "half detected": 1.4},
        "still|500|MoS2|other": {"half": 0.0, "half detected": 1.4},
        "still|2000|MoS2|raw": {"half": 1.0, "half detected": 6.0},
        "still|2000|MoS2|stemd": {"half": 0.89, "half detected": 6.0},
    }
    faint, clear = gates(rows, "stemd").splitlines()[2:]
    assert "within 0.71" in faint
    assert faint.endswith("| yes |")
    assert "at least 0.9" in clear
    assert clear.endswith("| NO |")
    assert gates(rows, "other").splitlines()[2].endswith("| NO |")
