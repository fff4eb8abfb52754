"""Noise is no evidence: hot pixels, crowded places, dark columns, smears, perfect lattices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from benchmarks.restoration.measures import psnr
from benchmarks.restoration.specimens import pyrite_boundary, strontium_titanate
from benchmarks.restoration.truthful import fresh_seed
from stemd.engines.restoration.distortions import Tail, smear_lines, tail_kernel
from stemd.engines.restoration.evidence.columns import Columns, dark, profile_of
from stemd.engines.restoration.evidence.crowding import crowded
from stemd.engines.restoration.evidence.everywhere import seen
from stemd.engines.restoration.evidence.faithful import faithful
from stemd.engines.restoration.evidence.noise import (
    pixel_variance,
    without_outliers,
    without_tail,
)
from stemd.engines.restoration.robust_scale import normalise

Image = np.ndarray[Any, np.dtype[np.float32]]


def lattice(dose: float, seed: int) -> tuple[Image, Image]:
    """(data, truth) of a perfect crystal."""
    truth = strontium_titanate().electrons(dose)
    return np.random.default_rng(fresh_seed(seed)).poisson(truth).astype(np.float32), truth


@pytest.mark.parametrize("dose", [1e3, 2e4])
def test_hot_pixels_are_no_evidence(dose: float) -> None:
    truth = pyrite_boundary().electrons(dose)
    rng = np.random.default_rng(fresh_seed(70))
    data = rng.poisson(truth).astype(np.float32)
    plain = faithful(data, truth)
    # apart from each other: two in one column of pixels are not told from a narrow column
    hot = np.arange(37, data.size, 997)
    data.reshape(-1)[hot] = 5.0 * (truth.max() + 3.0 * np.sqrt(truth.max()) + 1.0)
    found = without_outliers(data, truth)
    at = np.unravel_index(hot, data.shape)
    assert np.mean(found[at] < data[at]) > 0.95
    shown = faithful(data, truth)
    assert psnr(shown.image, truth) > psnr(plain.image, truth) - 0.5


def test_hot_pixels_do_not_hide_each_other() -> None:
    data, truth = lattice(2e4, 77)
    hot = np.arange(41, data.size, 499)
    top = float(truth.max())
    data.reshape(-1)[hot] = 3.0 * (top + 3.0 * np.sqrt(top) + 1.0)
    found = without_outliers(data, truth).reshape(-1)[hot]
    # they add as much noise as counting, and the same to all brightnesses
    assert np.mean(found == truth.reshape(-1)[hot]) > 0.95


def test_counted_electrons_narrow_columns_and_displaced_edges_are_evidence() -> None:
    rng = np.random.default_rng(fresh_seed(71))
    few = rng.poisson(0.02, (256, 256)).astype(np.float32)
    flat = np.full_like(few, 0.02)
    # the scale of the network cuts the highest down, and nothing else is changed
    cut = normalise(few)
    np.testing.assert_array_equal(without_outliers(few, flat), cut.undone(cut.values))
    ground = np.full((96, 96), 4.0, np.float32)
    column = Columns(np.array([[40, 40]]), profile_of(0.8), 5.0).drawn(np.array([18.0]), (96, 96))
    data = rng.poisson(ground + column).astype(np.float32)
    np.testing.assert_allclose(without_outliers(data, ground)[40, 40], data[40, 40], rtol=0.1)
    edge = np.where(np.arange(96) < 48, 1000.0, 2000.0) * np.ones((96, 1))
    data = rng.poisson(edge).astype(np.float32)
    data[30] = np.roll(data[30], 2)
    data[30, :2] = 1000.0
    np.testing.assert_allclose(without_outliers(data, edge.astype(np.float32)), data, rtol=1e-3)


def test_a_dead_pixel_is_no_evidence() -> None:
    truth = np.full((96, 96), 400.0, np.float32)
    data = np.random.default_rng(fresh_seed(72)).poisson(truth).astype(np.float32)
    data[50, 60] = 0.0
    assert without_outliers(data, truth)[50, 60] == pytest.approx(400.0)


def test_the_error_of_crowded_heights_is_that_of_least_squares() -> None:
    places = np.array([[20, 20], [20, 26], [25, 22], [40, 40], [40, 43], [60, 20]])
    columns = Columns(places, profile_of(2.6), 16.0)
    drawn = []
    reach = len(columns.profile) // 2
    for y, x in places + 30:
        one = np.zeros((128, 128))
        one[y - reach : y + reach + 1, x - reach : x + reach + 1] = columns.profile
        drawn.append(one.ravel())
    gram = np.stack(drawn) @ np.stack(drawn).T
    exact = np.sqrt(np.diag(np.linalg.inv(gram)) * np.diag(gram))
    found = crowded(places, columns.profile)
    np.testing.assert_allclose(found, exact, rtol=0.02)
    assert found.max() > 1.2, "else the test says nothing"


@pytest.mark.parametrize(("dose", "least"), [(1e3, 8.0), (2e4, 8.0)])
def test_of_the_noise_of_a_perfect_lattice_next_to_nothing_is_given_back(
    dose: float, least: float
) -> None:
    data, truth = lattice(dose, 73)
    found = faithful(data, truth)
    left = float(np.square(found.image - truth).mean() / np.square(data - truth).mean())
    assert -10.0 * np.log10(left) > 10.0 + least


def test_dark_columns_are_judged_as_bright_ones() -> None:
    data, truth = lattice(2e3, 74)
    top = np.float32(data.max())
    bright, inverted = faithful(data, truth), faithful(top - data, top - truth)
    assert not dark(truth)
    assert dark(-truth)
    np.testing.assert_allclose(top - inverted.image, bright.image, atol=0.02 * truth.max())
    np.testing.assert_allclose(inverted.uncertainty, bright.uncertainty, rtol=0.05)


def test_an_inverted_image_has_the_noise_of_the_other() -> None:
    data, truth = lattice(2e3, 76)
    for counted in (False, True):
        one, other = (
            pixel_variance(sign * data, sign * truth, counted=counted)
            for sign in (np.float32(1.0), np.float32(-1.0))
        )
        np.testing.assert_allclose(one, other, rtol=0.05, atol=0.02 * float(one.mean()))


def test_what_a_box_has_wiped_out_is_not_made_up() -> None:
    truth = np.full((160, 192), 4.0, np.float32)
    truth[40:120, 60:130] = 8.0
    data = np.random.default_rng(fresh_seed(75)).poisson(truth).astype(np.float32)
    smeared = smear_lines(data, tail_kernel(Tail("box", 3.0)))
    undone = without_tail(smeared, truth, smeared - truth)
    inner = np.s_[:, 8:-8]
    assert np.std((undone - truth)[inner]) < 1.5 * np.std((data - truth)[inner])


def test_of_places_nearly_all_of_which_are_hollows_nothing_overflows() -> None:
    image = np.zeros((64, 64), np.float32)
    image[32, 32] = 5.0
    places = np.array([[32, 32], *([8 + 4 * n, 8] for n in range(12))])
    found = seen(image, image, np.ones_like(image), places, profile_of(1.5))
    assert np.isfinite(found).all()


def test_noise_that_is_not_white_is_no_texture_and_shows_no_atoms() -> None:
    y, x = np.mgrid[:192, :192]
    truth = (200.0 + 60.0 * np.sin(x / 30.0) * np.cos(y / 25.0)).astype(np.float32)
    rng = np.random.default_rng(fresh_seed(77))
    for coloured in (False, True):
        noise = rng.normal(0.0, 12.0, truth.shape)
        if coloured:  # a third fine, the rest as an interpolated image has it
            soft = ndimage.gaussian_filter(rng.normal(0.0, 12.0, truth.shape), (1.2, 0.8))
            noise = 0.4 * noise + 2.5 * soft
        found = faithful((truth + noise).astype(np.float32), truth)
        assert found.strays <= 2
        assert psnr(found.image, truth) > 35.0, coloured
