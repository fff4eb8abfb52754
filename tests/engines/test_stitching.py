"""Patches cut from a known object come together to that object."""

from __future__ import annotations

import numpy as np
import pytest

from stemd.engines.airpi.stitching import Stitcher

N = 48


def probe() -> np.ndarray:
    """A probe with a curved phase that fits into 48 pixels, in space and in frequency."""
    y, x = np.mgrid[:N, :N] - N // 2
    return np.exp(-(y**2 + x**2) / (2 * 4.0**2) * (1 - 0.3j)) * (0.7 + 0.2j)


def specimen(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Amplitude and phase at any place, smooth."""
    phase = 0.8 * np.sin(0.19 * y + 0.4) * np.cos(0.23 * x) + 0.3 * np.sin(0.11 * (x - y))
    return (1 - 0.1 * np.cos(0.2 * x)) * np.exp(1j * phase)


def cut(stitcher: Stitcher, positions: np.ndarray, oversample: int = 1) -> np.ndarray:
    """Patches of the specimen about each position, which is in object pixels."""
    grid = np.arange(N) - N // 2
    centres = positions / oversample
    waves = specimen(
        centres[:, 0, None, None] + grid[:, None], centres[:, 1, None, None] + grid[None, :]
    )
    return stitcher.patches(waves * probe(), probe())


def error(stitcher: Stitcher, oversample: int = 1) -> float:
    known = stitcher.weight > 0
    y, x = np.indices(known.shape) / oversample
    assert known.mean() > 0.5
    return float(np.abs(stitcher.object() - specimen(y, x))[known].max())


def scan(step: float, first: float, stop: float) -> np.ndarray:
    line = np.arange(first, stop, step)
    return np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)


def test_whole_pixels_give_the_object_to_float_precision():
    stitcher = Stitcher(probe(), 21, (60, 64))
    places = scan(4.0, 2.0, 62.0)
    stitcher.add(cut(stitcher, places), places)
    assert error(stitcher) < 2e-6


@pytest.mark.slow
@pytest.mark.parametrize("oversample", [1, 2])
def test_tenths_of_a_pixel_and_finer_pixels_give_it_too(oversample):
    stitcher = Stitcher(probe(), N, (60 * oversample, 64 * oversample), oversample)
    places = np.round(scan(3.7, 2.3, 62.0) * oversample, 1)
    stitcher.add(cut(stitcher, places, oversample), places)
    assert error(stitcher, oversample) < 5e-6


def test_what_is_far_from_every_position_stays_blank():
    stitcher = Stitcher(probe(), 21, (60, 64))
    places = np.array([[20.0, 30.0]])
    stitcher.add(cut(stitcher, places), places)
    y, x = np.indices((60, 64))
    # a tenth of exp(-r^2 / 16) is at r = 4 sqrt(ln 10) = 6.07
    radius = np.hypot(y - 20, x - 30)
    np.testing.assert_array_equal(stitcher.weight > 0, radius < 6.07)
    assert np.all(stitcher.object()[radius > 6.07] == 0)
    assert stitcher.weight.max() == pytest.approx(1.0)


def test_parts_merge_to_exactly_the_whole_in_any_order():
    places = np.round(np.random.default_rng(1).uniform(-5, 65, (200, 2)), 1)
    whole = Stitcher(probe(), 21, (60, 64))
    patches = cut(whole, places)
    whole.add(patches, places)
    parts = [Stitcher(probe(), 21, (60, 64)) for _ in range(3)]
    for n, part in enumerate(parts):
        part.add(patches[n::3][::-1], places[n::3][::-1])
    parts[2].merge(parts[:2])
    np.testing.assert_array_equal(parts[2].object(), whole.object())
    np.testing.assert_array_equal(parts[2].weight, whole.weight)


def test_a_probe_that_cannot_be_used_is_refused():
    with pytest.raises(ValueError, match="window of 50"):
        Stitcher(probe(), 50, (60, 64))
    with pytest.raises(ValueError, match="dark"):
        Stitcher(np.zeros((8, 8), complex), 4, (60, 64))
