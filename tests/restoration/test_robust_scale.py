"""The scale of the networks: ordinary images by mean and deviation, spikes without effect."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemd.engines.restoration.robust_scale import LIMIT, normalise


def noise(side: int = 128) -> np.ndarray:
    return np.random.default_rng(3).normal(40.0, 5.0, (side, side)).astype(np.float32)


def test_an_ordinary_image_has_mean_zero_and_deviation_one_afterwards():
    image = noise()
    seen = normalise(image)
    assert seen.mean == pytest.approx(image.mean(), rel=1e-6)
    assert seen.deviation == pytest.approx(image.std(), rel=1e-5)
    assert seen.values.mean() == pytest.approx(0.0, abs=1e-4)
    assert seen.values.std() == pytest.approx(1.0, rel=1e-4)


def test_undoing_gives_the_image_back():
    image = noise()
    seen = normalise(image)
    np.testing.assert_allclose(seen.undone(seen.values), image, rtol=1e-5)


@pytest.mark.parametrize("value", [1e3, 1e7, -1e7])
def test_hot_pixels_do_not_stretch_the_scale(value):
    image = noise()
    seen = normalise(image)
    spoilt = image.copy()
    spoilt[[3, 50, 90], [70, 2, 127]] = value
    again = normalise(spoilt)
    assert again.mean == pytest.approx(seen.mean, rel=2e-3)
    assert again.deviation == pytest.approx(seen.deviation, rel=0.05)
    assert np.abs(again.values).max() <= LIMIT * 1.01


def test_an_xray_streak_along_one_line_is_a_spike():
    spoilt = noise()
    spoilt[60, 30:36] = 1e6 * np.exp(-np.arange(6.0))
    assert np.abs(normalise(spoilt).values).max() <= LIMIT * 1.01


def test_a_small_bright_particle_stays_as_bright_as_it_is():
    image = noise(256)
    image[100:104, 30:34] = 4000.0
    before = image.copy()
    seen = normalise(image)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_allclose(seen.undone(seen.values), before, rtol=1e-3)


def test_single_electrons_on_a_dark_image_are_no_spikes():
    image = (np.random.default_rng(2).random((256, 256)) < 0.01).astype(np.float32)
    seen = normalise(image)
    np.testing.assert_allclose(seen.undone(seen.values), image, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 7.0, -3e6])
def test_a_flat_image_becomes_zero(value):
    seen = normalise(np.full((9, 12), value, np.float32))
    assert seen.deviation == 1.0
    np.testing.assert_array_equal(seen.values, 0.0)


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (1, 1), (2, 2)])
def test_thin_images_are_images_too(shape):
    image = np.zeros(shape, np.float32)
    image.flat[0] = 1.0
    seen = normalise(image)
    np.testing.assert_allclose(seen.undone(seen.values), image, atol=1e-5)


@given(gain=st.floats(1e-3, 1e4), offset=st.floats(-100.0, 100.0))
def test_gain_and_offset_of_the_detector_do_not_matter(gain, offset):
    image = noise(32)
    image[4, 9] = 3000.0
    plain = normalise(image).values
    changed = normalise(((image + np.float32(offset)) * np.float32(gain)).astype(np.float32)).values
    np.testing.assert_allclose(changed, plain, rtol=2e-3, atol=2e-3)
