"""What is known of an image without a network: waves, windows, lines, and their noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemd.engines.distortions import ar1, displace_lines
from stemd.engines.estimate import lines, waves, windows
from stemd.engines.estimate.channels import CHANNELS, LEAST_DEVIATION, channels, estimate

Image = np.ndarray[Any, np.dtype[np.float32]]
SHAPE = (120, 160)


def wave(shape: tuple[int, int], fy: float, fx: float, height: float, phase: float) -> Image:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (height * np.cos(2 * np.pi * (fy * y + fx * x) + phase)).astype(np.float32)


def crystal(shape: tuple[int, int]) -> Image:
    """Two sets of columns on an oblique lattice, the period no whole number of pixels."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.zeros(shape)
    for n in range(-4, 30):
        for m in range(-20, 30):
            for dy, dx, height in ((0.0, 0.0, 1.0), (0.5, 0.4, 0.5)):
                py, px = 11.3 * (n + dy) + 1.7 * (m + dx), -3.1 * (n + dy) + 12.6 * (m + dx)
                if -9 < py < shape[0] + 9 and -9 < px < shape[1] + 9:
                    image += height * np.exp(-((y - py) ** 2 + (x - px) ** 2) / (2 * 2.2**2))
    return image.astype(np.float32)


def noise(shape: tuple[int, int], sigma: float, seed: int = 0) -> Image:
    return np.random.default_rng(seed).normal(0.0, sigma, shape).astype(np.float32)


def rms(values: Any) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


# Waves


def test_waves_between_the_grids_frequencies_are_found_with_what_they_weigh() -> None:
    parts = [(0.0613, 0.0321, 1.0, 0.4), (-0.1027, 0.2044, 0.6, 2.0), (0.21, 0.0, 0.3, 1.0)]
    truth = sum((wave(SHAPE, *part) for part in parts), np.zeros(SHAPE, np.float32))
    found, mean, level = waves.find_waves(truth + noise(SHAPE, 1.0) + np.float32(5.0))
    assert mean == pytest.approx(5.0, abs=0.05)
    assert level.variance == pytest.approx(1.0, rel=0.15)
    for fy, fx, height, _ in parts:
        gaps = (found.frequency - np.array([fy, fx])) * SHAPE
        nearest = int(np.argmin(np.hypot(*gaps.T)))
        assert np.hypot(*gaps[nearest]) < 0.1
        assert 2 * abs(found.amplitude[nearest]) == pytest.approx(height, abs=0.06)
    # four numbers a wave out of 19,200: the noise that a least-squares fit lets in
    assert rms(found.image() - truth) < 3.0 * np.sqrt(4 * 3 / truth.size)


def test_noise_alone_has_no_waves() -> None:
    counts = [len(waves.find_waves(noise(SHAPE, 2.0, seed))[0].amplitude) for seed in range(12)]
    assert sum(counts) <= 2


def test_a_crystal_is_seen_through_noise_that_hides_it() -> None:
    truth = crystal((256, 256))
    noisy = truth + noise(truth.shape, 2.0)
    found, mean, _ = waves.find_waves(noisy)
    assert rms(found.image() + np.float32(mean) - truth) < 0.03 * rms(noisy - truth)


def test_scalar_products_of_waves_are_those_of_their_pixels() -> None:
    frequency = np.array([[0.05, 0.1], [-0.05, 0.1], [0.2, 0.0], [0.21, 0.013], [0.0, 0.25]])
    ny, nx = 13, 20
    y, x = np.arange(ny) - (ny - 1) / 2, np.arange(nx) - (nx - 1) / 2
    phase = 2 * np.pi * (frequency[:, :1, None] * y[:, None] + frequency[:, 1:, None] * x)
    flat = phase.reshape(len(frequency), -1)
    cosine, sine = np.empty((5, 5)), np.empty((5, 5))
    waves._products(frequency, ny, nx, 0.0, cosine, sine)
    np.testing.assert_allclose(cosine, np.cos(flat) @ np.cos(flat).T, atol=1e-8)
    np.testing.assert_allclose(sine, np.sin(flat) @ np.sin(flat).T, atol=1e-8)


def test_an_image_of_waves_is_their_sum() -> None:
    frequency = np.array([[0.05, 0.1], [-0.2, 0.03]])
    amplitude = np.array([0.5 + 0.2j, -0.1j])
    y, x = np.mgrid[:11, :14]
    y, x = y - 5.0, x - 6.5
    expected = np.zeros((11, 14))
    for (fy, fx), a in zip(frequency, amplitude, strict=True):
        expected += 2 * np.real(a * np.exp(2j * np.pi * (fy * y + fx * x)))
    found = waves.Waves((11, 14), frequency, amplitude).image()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_noise_that_is_smeared_along_the_lines_is_seen_as_such() -> None:
    white = noise((256, 260), 1.0)
    smeared = 0.5 * (white[:, 2:258] + white[:, 1:257])
    _, _, level = waves.find_waves(smeared)
    x = np.linspace(0.0, 0.5, 20)
    np.testing.assert_allclose(level.at(x), np.cos(np.pi * x) ** 2, atol=0.25)


# Windows


def test_windows_leave_nothing_of_noise_and_keep_what_stands_out() -> None:
    y, x = np.mgrid[:128, :190]
    bump = (8.0 * np.exp(-((y - 60) ** 2 + (x - 90) ** 2) / (2 * 4.0**2))).astype(np.float32)
    level = waves.Noise(np.ones(5))
    assert rms(windows.shrunk(noise(bump.shape, 1.0), level)) < 0.12
    kept = windows.shrunk(bump + noise(bump.shape, 1.0), level)
    assert rms(kept - bump) < 0.2
    assert kept.max() > 6.5


def test_without_noise_windows_change_nothing() -> None:
    image = crystal((100, 130))
    image -= image.mean()
    kept = windows.shrunk(image, waves.Noise(np.full(5, 1e-12)))
    np.testing.assert_allclose(kept, image, atol=1e-3)


# Lines


def test_the_most_likely_series_is_that_of_the_dense_equations() -> None:
    rng = np.random.default_rng(0)
    n, phi, prior = 7, 0.5, np.array([4.0, 0.7])
    root = rng.normal(size=(n, 2, 2))
    information = np.einsum("nab,ncb->nac", root, root)
    pull = rng.normal(size=(n, 2))
    dense = np.zeros((2 * n, 2 * n))
    index = np.arange(n)
    for a in range(2):
        covariance = phi ** np.abs(index[:, None] - index) / prior[a]
        dense[a::2, a::2] = np.linalg.inv(covariance)
    for j in range(n):
        dense[2 * j : 2 * j + 2, 2 * j : 2 * j + 2] += information[j]
    expected = np.linalg.solve(dense, pull.reshape(-1)).reshape(n, 2)
    np.testing.assert_allclose(lines._smoothed(information, pull, prior, phi), expected, atol=1e-9)


def test_displaced_lines_are_found_and_still_ones_stay() -> None:
    rng = np.random.default_rng(1)
    truth = crystal((160, 200)) * np.float32(20.0)
    dy, dx = ar1(160, 0.5, 0.25, rng), ar1(160, 0.5, 0.5, rng)
    moved = displace_lines(truth, dy, dx, cubic=True) + noise(truth.shape, 1.0)
    variance = np.ones_like(truth)
    nothing = np.zeros((160, 2))
    found, worth = lines.displacements(moved, truth, variance, nothing)
    assert worth > 10.0
    inner = slice(3, -3)
    assert rms(found[inner, 0] - dy[inner]) < 0.1
    assert rms(found[inner, 1] - dx[inner]) < 0.06
    still, _ = lines.displacements(truth + noise(truth.shape, 1.0), truth, variance, nothing)
    assert rms(still) < 0.02


def test_an_image_that_is_shown_wrongly_is_not_taken_for_moved_lines() -> None:
    shown = crystal((160, 200)) * np.float32(20.0)
    # errors that know nothing of lines: columns that are wider than is shown
    image = shown + np.abs(np.gradient(shown)[1]) * np.float32(0.2) + noise(shown.shape, 0.3)
    found, _ = lines.displacements(image, shown, np.full_like(shown, 0.09), np.zeros((160, 2)))
    assert rms(found) < 0.05


def test_the_noise_of_counting_grows_with_brightness() -> None:
    shown = np.float32(5.0) + np.float32(60.0) * crystal((200, 200))
    image = np.random.default_rng(3).poisson(shown).astype(np.float32)
    variance = lines.noise_variance(image, shown)
    np.testing.assert_allclose(variance, shown, rtol=0.15)


# All of it


def test_a_moved_and_noisy_crystal_is_shown_better_than_it_was_recorded() -> None:
    rng = np.random.default_rng(2)
    truth = crystal((200, 220)) * np.float32(6.0)
    dy, dx = ar1(200, 0.5, 0.25, rng), ar1(200, 0.5, 0.5, rng)
    moved = displace_lines(truth, dy, dx) + noise(truth.shape, 0.5)
    known = estimate(moved)
    assert rms(known.shown - truth) < 0.35 * rms(moved - truth)
    assert rms(known.aligned - truth) < 0.9 * rms(moved - truth)
    assert rms(known.shifts[5:-5, 1] - dx[5:-5]) < 0.6 * rms(dx)
    assert float(np.sqrt(known.variance).mean()) == pytest.approx(0.5, rel=0.2)


def test_of_pure_noise_next_to_nothing_is_shown() -> None:
    known = estimate(noise((256, 256), 1.0))
    assert rms(known.shown - known.shown.mean()) < 0.1
    assert rms(known.variance - np.float32(1.0)) < 0.1


@settings(deadline=None, max_examples=12)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 5))
def test_any_size_has_its_channels(ny: int, nx: int, seed: int) -> None:
    given_ = channels(noise((ny, nx), 1.0, seed))
    assert given_.shape == (len(CHANNELS), ny, nx)
    assert given_.dtype == np.float32
    assert np.isfinite(given_).all()


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_an_even_image_is_shown_as_it_is(value: float) -> None:
    given_ = channels(np.full((70, 80), value, np.float32))
    shown = given_[CHANNELS.index("shown")]
    np.testing.assert_allclose(shown, value, atol=1e-5)
    np.testing.assert_allclose(given_[CHANNELS.index("deviation")], np.log(LEAST_DEVIATION))


def test_the_unit_does_not_matter() -> None:
    image = crystal((100, 120)) + noise((100, 120), 0.5)
    small, large = estimate(image), estimate(image * np.float32(1e4))
    np.testing.assert_allclose(large.shown, small.shown * 1e4, atol=10.0)
    np.testing.assert_allclose(large.shifts, small.shifts, atol=1e-3)
