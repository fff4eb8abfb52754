"""Images whose black level or saturation cut noise off, told from those that only end there."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.restoration.truthful import fresh_seed
from stemd.offline.restoring.cut_off import cut_off
from stemd.offline.restoring.notes import notes

RAMP = np.linspace(0.0, 900.0, 160)[None] * np.ones((120, 1))


def noisy(number: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(fresh_seed(number))
    return np.round(RAMP + rng.normal(0.0, 90.0, RAMP.shape)).astype(np.float32)


def test_what_the_black_level_and_saturation_cut_off_is_told() -> None:
    image = noisy(110)
    low, high = cut_off(image.clip(0.0, 900.0))
    # a few pixels of one value, all cut off, may pass for a label
    assert abs(low - np.mean(image <= 0.0)) < 1e-3
    assert abs(high - np.mean(image >= 900.0)) < 1e-3
    whole = "".join(notes({"at_lowest": low, "at_highest": high, "departing": 0.0}))
    assert "black level" in whole
    assert "saturated" in whole


@settings(max_examples=30, deadline=None)
@given(mean=st.floats(0.02, 200.0), seed=st.integers(0, 999))
def test_counts_and_whole_noise_end_without_being_cut_off(mean: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for image in (rng.poisson(mean, (90, 80)), rng.normal(mean, 30.0, (90, 80))):
        pixels = image.astype(np.float32)
        assert cut_off(pixels) == (0.0, 0.0)


def test_a_label_is_no_cut_off() -> None:
    image = noisy(111)
    image[80:110, 20:120] = image.min() - 5.0
    assert cut_off(image) == (0.0, 0.0)
