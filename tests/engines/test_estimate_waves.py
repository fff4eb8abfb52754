"""Waves of a noisy image: their sums over it, their peaks, their fit, and all of the search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemd.engines.restoration.estimate import least_squares, peaks
from stemd.engines.restoration.estimate.least_squares import Waves
from stemd.engines.restoration.estimate.noise import Noise, spectrum
from stemd.engines.restoration.estimate.nonuniform import Sums, superposed
from stemd.engines.restoration.estimate.waves import find_waves
from tests.engines.noisy_images import Image, crystal, noise, rms

SHAPE = (120, 160)
MOST = 200
SIDES = st.integers(1, 90)


def wave(shape: tuple[int, int], fy: float, fx: float, height: float, phase: float) -> Image:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (height * np.cos(2 * np.pi * (fy * y + fx * x) + phase)).astype(np.float32)


# Waves


def test_waves_between_the_grids_frequencies_are_found_with_what_they_weigh() -> None:
    parts = [(0.0613, 0.0321, 1.0, 0.4), (-0.1027, 0.2044, 0.6, 2.0), (0.21, 0.0, 0.3, 1.0)]
    truth = sum((wave(SHAPE, *part) for part in parts), np.zeros(SHAPE, np.float32))
    found, mean, level = find_waves(truth + noise(SHAPE, 1.0) + np.float32(5.0), MOST)
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
    counts = [len(find_waves(noise(SHAPE, 2.0, seed), MOST)[0].amplitude) for seed in range(12)]
    assert sum(counts) <= 2


def test_a_crystal_is_seen_through_noise_that_hides_it() -> None:
    truth = crystal((256, 256))
    noisy = truth + noise(truth.shape, 2.0)
    found, mean, _ = find_waves(noisy, MOST)
    assert rms(found.image() + np.float32(mean) - truth) < 0.03 * rms(noisy - truth)


def test_scalar_products_of_waves_are_those_of_their_pixels() -> None:
    frequency = np.array([[0.05, 0.1], [-0.05, 0.1], [0.2, 0.0], [0.21, 0.013], [0.0, 0.25]])
    ny, nx = 13, 20
    y, x = np.arange(ny) - (ny - 1) / 2, np.arange(nx) - (nx - 1) / 2
    phase = 2 * np.pi * (frequency[:, :1, None] * y[:, None] + frequency[:, 1:, None] * x)
    flat = phase.reshape(len(frequency), -1)
    cosine, sine = np.empty((5, 5)), np.empty((5, 5))
    least_squares._products(frequency, ny, nx, 0.0, cosine, sine)
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
    found = Waves((11, 14), frequency, amplitude).image()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_noise_that_is_smeared_along_the_lines_is_seen_as_such() -> None:
    white = noise((256, 260), 1.0)
    smeared = 0.5 * (white[:, 2:258] + white[:, 1:257])
    _, _, level = find_waves(smeared, MOST)
    x = np.linspace(0.0, 0.5, 20)
    np.testing.assert_allclose(level.at(x), np.cos(np.pi * x) ** 2, atol=0.25)


# Sums at any frequency


def phases(frequency: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """exp(2 pi i (fy y + fx x)) for each frequency, (n, ny, nx), y and x from the middle."""
    y, x = (np.arange(size) - (size - 1) / 2 for size in shape)
    return np.exp(2j * np.pi * (frequency[:, :1, None] * y[:, None] + frequency[:, 1:, None] * x))


def some_frequencies(rng: np.random.Generator) -> np.ndarray:
    """Anywhere, on the axes, on the grid, and at the ends of what pixels can show."""
    special = [[0.0, 0.0], [0.5, 0.5], [-0.5, 0.25], [0.1, 0.0], [0.0, 0.31], [-0.2, 0.49]]
    return np.concatenate([rng.uniform(-0.5, 0.5, (20, 2)), special])


@settings(deadline=None, max_examples=25)
@given(SIDES, SIDES, st.integers(0, 9))
def test_sums_of_an_image_are_those_of_its_pixels(ny: int, nx: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(ny, nx)).astype(np.float32)
    frequency = some_frequencies(rng)
    conjugate = phases(frequency, image.shape).conj()
    y, x = (np.arange(size) - (size - 1) / 2 for size in image.shape)
    sums = Sums(image)
    norm = np.linalg.norm(image)
    expected = np.einsum("nji,ji->n", conjugate, image)
    np.testing.assert_allclose(sums.at(frequency), expected, atol=3e-6 * norm)
    along_y = np.einsum("nji,ji->n", conjugate, image * y[:, None])
    along_x = np.einsum("nji,ji->n", conjugate, image * x)
    moments = sums.moments(frequency)
    np.testing.assert_allclose(moments[0], along_y, atol=6e-6 * norm * ny)
    np.testing.assert_allclose(moments[1], along_x, atol=6e-6 * norm * nx)


@settings(deadline=None, max_examples=25)
@given(SIDES, SIDES, st.integers(0, 9))
def test_superposed_waves_are_the_sum_of_their_pixels(ny: int, nx: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    frequency = some_frequencies(rng)
    amplitude = rng.normal(size=len(frequency)) + 1j * rng.normal(size=len(frequency))
    expected = 2 * np.einsum("n,nji->ji", amplitude, phases(frequency, (ny, nx))).real
    found = superposed(frequency, amplitude, (ny, nx))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=4e-6 * np.abs(amplitude).sum())


# Peaks and noise


def test_the_noise_of_a_spectrum_is_what_its_quietest_fifth_says() -> None:
    image = noise((200, 180), 1.5)
    power, level = spectrum(image, 1.0 / image.size)
    direct = np.abs(np.fft.rfft2(image.astype(float))) ** 2 / image.size
    np.testing.assert_allclose(power, direct, rtol=1e-3, atol=1e-4)
    quiet = np.sort(direct, axis=0)[40] / -np.log(0.8)
    assert level.power.mean() == pytest.approx(quiet.mean(), rel=0.02)
    assert level.variance == pytest.approx(1.5**2, rel=0.1)


def test_peaks_are_the_highest_of_their_neighbours_far_above_noise_and_surroundings() -> None:
    rng = np.random.default_rng(4)
    power = rng.exponential(1.0, (60, 41)).astype(np.float32)
    power[[10, 50, 25, 1], [20, 3, 40, 0]] = 300.0  # the third: nx / 2, which has no sign
    power[10, 21] = 299.0  # a neighbour of the first
    power[40:48, 28:36] += 30.0  # broad: above the noise, not above its surroundings
    found = peaks.peaks(power, np.ones(41), 10)
    places = {(round(y * 60), round(x * 80)) for y, x in found}
    assert (10, 20) in places or (10, 21) in places
    assert (50 - 60, 3) in places
    assert len(places) == 2


def test_of_many_peaks_the_strongest_are_taken() -> None:
    power = np.zeros((64, 33), np.float32)
    heights = np.random.default_rng(1).permutation(np.arange(100.0, 148.0)).reshape(8, 6)
    power[4:32:4, 4:28:4] = heights[:7]
    found = peaks.peaks(power, np.full(33, 1e-6), 5)
    strongest = np.argsort(-heights[:7].ravel())[:5]
    expected = np.stack([4 + 4 * (strongest // 6), 4 + 4 * (strongest % 6)], axis=1)
    np.testing.assert_allclose(found * [64, 64], expected, atol=1e-6)


def test_waves_that_are_there_are_not_new_nor_is_their_mirror_image() -> None:
    known = np.array([[0.1, 0.2]])
    found = np.array([[0.1, 0.2], [-0.1, -0.2], [0.1 + 0.6 / 50, 0.2], [0.1 + 0.8 / 50, 0.2]])
    np.testing.assert_array_equal(peaks.new(found, known, (50, 50)), found[3:])
    np.testing.assert_array_equal(peaks.new(found, known[:0], (50, 50)), found)
    close = np.array([[0.1, 0.2], [0.1, 0.21], [0.2, 0.1], [0.1, 0.2]])
    np.testing.assert_array_equal(peaks.lone(close, (50, 50), 1.2), [True, False, True, False])


# The fit


def test_the_moments_of_waves_are_those_of_their_image() -> None:
    rng = np.random.default_rng(0)
    shape = 23, 30
    frequency = np.concatenate([rng.uniform(-0.45, 0.45, (7, 2)), [[0.0, 0.2], [0.1, 0.0]]])
    amplitude = rng.normal(size=9) + 1j * rng.normal(size=9)
    wave_at = phases(frequency, shape)
    image = 2 * np.einsum("n,nji->ji", amplitude, wave_at).real
    y, x = (np.arange(size) - (size - 1) / 2 for size in shape)
    found = np.empty((2, 9), np.complex128)
    least_squares._moments(frequency, amplitude, *shape, found)
    expected_y = np.einsum("nji,ji->n", wave_at.conj(), image * y[:, None])
    expected_x = np.einsum("nji,ji->n", wave_at.conj(), image * x)
    np.testing.assert_allclose(found, [expected_y, expected_x], atol=1e-7)


def test_symmetric_equations_are_solved() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 9, 40):
        root = rng.normal(size=(n, n + 3))
        matrix, b = root @ root.T, rng.normal(size=n)
        found = b.copy()
        least_squares._solve_symmetric(matrix.copy(), found)
        np.testing.assert_allclose(found, np.linalg.solve(matrix, b), rtol=1e-8, atol=1e-10)


def test_a_fit_finds_amplitudes_and_frequencies_between_the_bins() -> None:
    truth = wave(SHAPE, 0.0613, 0.0321, 1.0, 0.4) + wave(SHAPE, -0.1027, 0.2044, 0.6, 2.0)
    waves = Waves(SHAPE, np.array([[0.0620, 0.0315], [-0.1020, 0.2040]]), np.zeros(2, complex))
    sums = Sums(truth)
    for _ in range(4):
        least_squares.fit(waves, sums, Noise(np.full(2, 1e-6)))
    np.testing.assert_allclose(waves.frequency, [[0.0613, 0.0321], [-0.1027, 0.2044]], atol=2e-5)
    assert rms(waves.image() - truth) < 2e-3


# Never too many


@pytest.mark.parametrize("most", [0, 1, 10, 75])
def test_no_more_waves_are_found_than_are_asked_for(most: int) -> None:
    # an image that repeats itself exactly has nothing between its peaks, and all of them count
    tile = crystal((64, 64)) + noise((64, 64), 0.2)
    image = np.tile(tile, (3, 3))
    found, mean, _ = find_waves(image, most)
    assert len(found.amplitude) == len(found.frequency) == most
    again, _, _ = find_waves(image, most + 5, found.frequency)
    assert len(again.amplitude) == most + 5
    left = [rms(image - mean - waves.image()) for waves in (found, again)]
    assert left[1] < left[0]
