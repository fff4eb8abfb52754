"""The images that the network learns from: always the same, correct, and of every kind."""

from __future__ import annotations

import numpy as np
import pytest

from training.restoration import kernels
from training.restoration.fields import blurred, field_scene, smooth_noise
from training.restoration.lattices import Grain, edge_dislocation, lattice_scene
from training.restoration.pairs import pair, truth_scene
from training.restoration.structures import CRYSTALS, invented, library, projected

BY_NAME = {crystal.name: crystal for crystal in CRYSTALS}


def nearest(motif) -> float:
    """Smallest distance between two columns of the infinite lattice, in angstrom."""
    shifts = np.array([(i, j) for i in range(-2, 3) for j in range(-2, 3)])
    places = motif.fractions @ motif.cell
    images = (places[:, None] + (shifts @ motif.cell)[None]).reshape(-1, 2)
    apart = np.linalg.norm(images[:, None] - places[None], axis=2)
    return float(apart[apart > 1e-6].min())


@pytest.mark.parametrize(
    ("name", "zone", "expected"),
    [
        ("Au", (0, 0, 1), 4.08 / 2),
        ("Au", (1, 1, 0), 4.08 * np.sqrt(6) / 4),
        ("Au", (1, 1, 1), 4.08 / np.sqrt(6)),
        ("Fe", (0, 0, 1), 2.87 / np.sqrt(2)),
        ("Ge", (1, 1, 0), 5.66 / 4),
        ("graphite", (0, 0, 1), 2.46 / np.sqrt(3)),
    ],
)
def test_known_crystals_show_their_known_column_distance(name, zone, expected):
    assert nearest(projected(BY_NAME[name], zone)) == pytest.approx(expected, rel=1e-3)


def test_projection_keeps_the_number_of_columns_a_cell():
    along_110 = projected(BY_NAME["Au"], (1, 1, 0))
    area = abs(np.linalg.det(along_110.cell)) / len(along_110.heights)
    assert area == pytest.approx(4.08**2 / np.sqrt(2) / 2, rel=1e-6)


def test_every_structure_can_be_drawn():
    assert len(library()) > 300
    for motif in library():
        assert np.isfinite(motif.fractions).all()
        assert motif.heights.max() == 1.0
        assert (motif.heights > 0.0).all()


def test_invented_structures_keep_their_columns_apart():
    for seed in range(50):
        motif = invented(np.random.default_rng(seed))
        assert 1 <= len(motif.heights) <= 8
        assert nearest(motif) > 0.1 * motif.spacing


def test_columns_are_gaussians_where_they_should_be():
    rng = np.random.default_rng(0)
    y, x = rng.uniform(-5, 45, (2, 30))
    height, sy, sx = rng.uniform(0.5, 2.0, (3, 30))
    image = np.zeros((40, 37), np.float32)
    kernels.add_columns(image, y, x, height, sy, sx)
    jj, ii = np.mgrid[:40, :37]
    expected = sum(
        h * np.exp(-0.5 * ((jj - a) / s) ** 2 - 0.5 * ((ii - b) / t) ** 2)
        for a, b, h, s, t in zip(y, x, height, sy, sx, strict=True)
    )
    np.testing.assert_allclose(image, expected, atol=0.02)


def test_cells_belong_to_their_nearest_seed():
    rng = np.random.default_rng(1)
    y, x = rng.uniform(0, 30, (2, 9))
    still = np.zeros((30, 26), np.float32)
    labels = kernels.nearest_seed((30, 26), y, x, np.zeros(9), still, still)
    jj, ii = np.mgrid[:30, :26]
    expected = np.argmin((jj[..., None] - y) ** 2 + (ii[..., None] - x) ** 2, axis=2)
    np.testing.assert_array_equal(labels, expected)


def test_a_disc_covers_its_area_and_a_square_its_own():
    disc, square = np.zeros((2, 100, 100), np.float32)
    kernels.draw_shape(disc, (50.0, 50.0), (20.0, 20.0), 0.0, np.empty((0, 2)), 0.05, 0, 1.0, False)
    assert disc.sum() == pytest.approx(np.pi * 400, rel=0.01)
    sides = np.array([(n * np.pi / 2, 1.0) for n in range(4)])
    kernels.draw_shape(square, (50.0, 50.0), (20.0, 20.0), 0.3, sides, 0.05, 0, 1.0, False)
    assert square.sum() == pytest.approx(1600, rel=0.02)


def test_a_stroke_has_its_width_everywhere():
    image = np.zeros((60, 60), np.float32)
    points = np.linspace(10.0, 50.0, 9)
    kernels.draw_stroke(image, np.full(9, 30.0), points, 2.0, 1.0, False)
    profile = image[:, 15:45]
    np.testing.assert_allclose(profile, profile[:, :1] * np.ones(30), atol=1e-5)
    assert profile[:, 0].sum() == pytest.approx(2.0 * np.sqrt(2 * np.pi), rel=0.03)


@pytest.mark.parametrize("sigma", [1.0, 1.5, 4.0])
def test_blur_is_a_gaussian_and_keeps_the_mean(sigma):
    image = np.zeros((61, 61), np.float32)
    image[30, 30] = 1.0
    out = blurred(image, sigma)
    jj, ii = np.mgrid[-30:31, -30:31]
    expected = np.exp(-(jj**2 + ii**2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    np.testing.assert_allclose(out, expected, atol=0.01 * expected.max())


def test_noise_is_of_unit_deviation_and_falls_off_as_asked():
    noise = smooth_noise((256, 256), 2.0, np.random.default_rng(2))
    assert noise.std() == pytest.approx(1.0, rel=1e-3)
    spectrum = np.abs(np.fft.fft2(noise))[0]
    fine, coarse = spectrum[40:60].mean(), spectrum[4:6].mean()
    assert coarse / fine == pytest.approx(100.0, rel=0.6)


def test_a_circuit_around_a_dislocation_closes_but_for_its_burgers_vector():
    angles = np.linspace(-np.pi + 1e-6, np.pi - 1e-6, 2001)
    burgers = np.array([0.0, 5.0])
    around = edge_dislocation(50 * np.sin(angles), 50 * np.cos(angles), burgers)
    gap = around[:, -1] - around[:, 0]
    np.testing.assert_allclose(gap, burgers, atol=1e-3)


def test_a_grain_covers_the_image_with_its_density():
    cell = np.array([[5.0, 0.5], [-0.3, 4.0]])
    grain = Grain(cell, np.array([[0.0, 0.0], [0.5, 0.5]]), np.ones(2), np.array([1.0, 2.0]))
    positions, heights = grain.columns((80, 100), margin=0.0)
    assert len(heights) == pytest.approx(2 * 80 * 100 / abs(np.linalg.det(cell)), rel=0.03)
    assert positions.min() > 0.0


def test_a_pair_is_the_same_whenever_it_is_asked_for():
    one, two, other = pair(5, 17, 48), pair(5, 17, 48), pair(5, 18, 48)
    np.testing.assert_array_equal(one.noisy, two.noisy)
    np.testing.assert_array_equal(one.truth, two.truth)
    assert not np.array_equal(one.noisy, other.noisy)


def test_pairs_are_finite_and_on_the_networks_scale():
    for index in range(60):
        made = pair(6, index, 64)
        assert made.noisy.shape == made.truth.shape == (64, 64)
        assert made.noisy.dtype == made.truth.dtype == np.float32
        assert np.isfinite(made.noisy).all()
        assert np.isfinite(made.truth).all()
        assert abs(made.noisy.mean()) < 1e-3
        assert made.noisy.std() == pytest.approx(1.0, rel=1e-2)
        assert abs(made.truth.mean()) < 1.0


def test_without_noise_a_pair_would_be_its_truth():
    gaps = []
    for index in range(150):
        made = pair(7, index, 64)
        gaps.append(np.sqrt(np.mean((made.noisy - made.truth) ** 2)))
    # the best signal-to-noise ratios drawn leave a few percent, the worst only noise
    assert min(gaps) < 0.15
    assert max(gaps) > 0.9


@pytest.mark.parametrize("scene", [lattice_scene, field_scene, truth_scene])
def test_scenes_of_any_shape_are_finite(scene):
    for seed in range(12):
        image = scene((50, 71), np.random.default_rng(seed))
        assert image.shape == (50, 71)
        assert image.dtype == np.float32
        assert np.isfinite(image).all()
