"""Lattices whose lines are displaced by pixels are put together again; nothing else is moved."""

from __future__ import annotations

import numpy as np
import pytest

from stemd.engines.restoration.distortions import ar1, displace_lines
from stemd.engines.restoration.estimate.channels import estimate
from stemd.engines.restoration.estimate.phases import placed

SIZE = 224


def waves(seed: int, *vectors: tuple[float, float], size: int = SIZE) -> np.ndarray:
    """A lattice of these frequencies (y, x) in cycles a pixel, (size, size), 0 to about 1."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    parts = [np.cos(2 * np.pi * (fy * y + fx * x + rng.random())) for fy, fx in vectors]
    return (0.5 + 0.5 * np.mean(parts, axis=0)).astype(np.float32)


def lattice(seed: int) -> np.ndarray:
    return waves(seed, (0.01, 0.19), (0.16, -0.02), (0.17, 0.17))


def recorded(truth: np.ndarray, seed: int, electrons: float, sigma_x: float = 0.0):
    """(image of mean 0 and deviation 1, displacements along x)."""
    rng = np.random.default_rng(seed)
    dx = ar1(len(truth), 0.5, sigma_x, rng)
    dy = ar1(len(truth), 0.5, 0.3 * sigma_x, rng)
    moved = displace_lines(np.ascontiguousarray(truth), dy, dx, cubic=True)
    image = rng.poisson(electrons * np.maximum(moved, 0.0)).astype(np.float32)
    return ((image - image.mean()) / image.std()).astype(np.float32), dx


def alike(image: np.ndarray, truth: np.ndarray) -> float:
    """Correlation at the best shift along x: the start of a shaken scan is nowhere."""
    turned = np.fft.fft2(image - image.mean()) * np.conj(np.fft.fft2(truth - truth.mean()))
    best = float(np.fft.ifft2(turned).real.max())
    return best / float(image.std() * truth.std() * image.size)


@pytest.mark.parametrize("electrons", [5.0, 200.0])
@pytest.mark.parametrize("sigma", [0.8, 1.1, 1.4])
def test_shaken_lines_are_found_but_for_whole_periods(sigma, electrons):
    for seed in range(3):
        truth = lattice(seed)
        image, dx = recorded(truth, 10 + seed, electrons, sigma)
        found = placed(image)
        assert found.any()
        # a line displaced by a period looks like one that is not, and a slope along y like a
        # lattice at another angle
        phase = np.exp(2j * np.pi * 0.19 * (found - dx))
        power = np.abs(np.fft.fft(phase * np.hanning(SIZE), 4 * SIZE)) / np.hanning(SIZE).sum()
        assert power.max() > 0.8
        assert np.abs(phase.mean()) > 0.5


def test_a_shaken_lattice_is_shown_as_one():
    truth = lattice(3)
    image, _ = recorded(truth, 4, 20.0, 1.4)
    streaks = alike(image, truth)
    known = estimate(image)
    assert streaks < 0.5
    assert alike(known.shown, truth) > 0.85
    assert known.shifts[:, 1].std() > 0.7


def bent(seed: int) -> np.ndarray:
    """A lattice that swings by three pixels from top to bottom."""
    y = np.arange(SIZE) / SIZE
    still = np.zeros(SIZE)
    return displace_lines(lattice(seed), still, 3.0 * np.sin(2 * np.pi * y), cubic=True)


def stacked(seed: int) -> np.ndarray:
    """Two crystals, one above the other, turned by three degrees."""
    above = lattice(seed)
    below = waves(seed + 1, (0.02, 0.19), (0.16, -0.03), (0.18, 0.16))
    return np.concatenate([above[: SIZE // 2], below[SIZE // 2 :]])


def texture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    f = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None])
    ring = np.exp(-0.5 * ((f - 0.12) / 0.03) ** 2)
    noise = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(SIZE, SIZE))) * ring, s=(SIZE, SIZE))
    return (1.0 + 0.3 * noise / noise.std()).clip(0.0).astype(np.float32)


def even(seed: int) -> np.ndarray:
    return np.ones((SIZE, SIZE), np.float32)


@pytest.mark.parametrize("electrons", [0.3, 5.0, 500.0])
@pytest.mark.parametrize("scene", [lattice, bent, stacked, texture, even])
def test_what_is_not_shaken_is_not_moved(scene, electrons):
    for seed in range(4):
        image, _ = recorded(scene(seed), 20 + seed, electrons)
        assert not placed(image).any()


@pytest.mark.parametrize("scene", [texture, even])
def test_lines_without_a_lattice_are_not_placed(scene):
    for seed in range(4):
        image, _ = recorded(scene(seed), 30 + seed, 50.0, 1.4)
        assert not placed(image).any()


def test_usual_jitter_is_left_to_the_finer_search():
    for seed in range(4):
        image, _ = recorded(lattice(seed), 40 + seed, 50.0, 0.3)
        assert not placed(image).any()


def test_halves_of_lines_that_do_not_say_the_same_move_nothing():
    left, _ = recorded(lattice(1), 50, 50.0, 1.4)
    right, _ = recorded(lattice(1), 51, 50.0, 1.4)
    both = np.concatenate([left[:, : SIZE // 2], right[:, SIZE // 2 :]], axis=1)
    assert not placed(both).any()


@pytest.mark.parametrize("shape", [(64, 64), (96, 301), (301, 129)])
def test_images_of_any_shape_are_looked_at(shape):
    truth = waves(6, (0.01, 0.19), (0.16, -0.02), size=301)[: shape[0], : shape[1]]
    image, dx = recorded(truth, 7, 100.0, 0.9)
    found = placed(image)
    assert found.shape == dx.shape
    assert np.isfinite(found).all()
    assert found.any()
