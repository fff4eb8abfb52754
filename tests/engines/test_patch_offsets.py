"""A patch's mean phase is not known; what is lost with it comes back."""

from __future__ import annotations

import numpy as np
import pytest

from stemd.beam import Beam
from stemd.engines.airpi.features import SAMPLES, WINDOW, field_angstrom
from stemd.engines.airpi.patch_offsets import centred, image_of, restored_spectrum, without_mean
from stemd.engines.airpi.stitching import Stitcher
from stemd.engines.probe import probe

BEAM = Beam(300e3, 20.0)
SIDE = 110
RIM = 25


def stitched(phase_of, offsets=None):
    """An object of centred patches at every pixel of the inner field, and its stitcher."""
    wave = probe(BEAM, SAMPLES, field_angstrom(BEAM))
    stitcher = Stitcher(wave, WINDOW, (SIDE, SIDE))
    kept = slice(stitcher.first, stitcher.first + WINDOW)
    intensity = np.abs(wave[kept, kept]) ** 2
    grid = np.stack(np.meshgrid(*[np.arange(6, SIDE - 6)] * 2, indexing="ij"), -1).reshape(-1, 2)
    reach = np.arange(WINDOW) - WINDOW // 2
    phase = phase_of(
        grid[:, 0, None, None] + reach[:, None], grid[:, 1, None, None] + reach[None, :]
    )
    if offsets is not None:
        phase = phase + offsets(grid.shape[0])[:, None, None]
    patches = centred(np.exp(1j * phase).astype(np.complex64), intensity) * intensity
    stitcher.add(patches.astype(np.complex64), grid.astype(np.float64))
    return stitcher


def with_coarse_structure(phase, known, taken, averaged, floor):
    spectrum = restored_spectrum(without_mean(phase, known), taken, averaged, floor)
    return image_of(spectrum, phase.shape)


def images(stitcher, floor):
    phase = np.angle(stitcher.object()).astype(np.float32)
    known = stitcher.weight > 0
    back = with_coarse_structure(
        phase, known, stitcher.probe_intensity, stitcher.patch_weight, floor
    )
    inner = np.s_[RIM:-RIM, RIM:-RIM]
    return phase[inner], back[inner]


@pytest.mark.parametrize("period", [8.0, 12.0, 20.0])
def test_a_wave_comes_back_with_its_height(period):
    def wave(y, x):
        return 0.1 * np.cos(2 * np.pi * (y + 0.5 * x) / period)

    before, after = images(stitched(wave), 0.03)
    y, x = np.mgrid[RIM : SIDE - RIM, RIM : SIDE - RIM]
    truth = wave(y, x)
    window = np.outer(*(np.hanning(n) for n in truth.shape))
    before, after, truth = (window * (part - part.mean()) for part in (before, after, truth))
    height = [(part * truth).sum() / (truth * truth).sum() for part in (before, after)]
    assert height[0] < 0.9
    assert abs(height[1] - 1.0) < 0.06
    assert np.corrcoef(after.ravel(), truth.ravel())[0, 1] > 0.99


def test_a_wrong_guess_of_the_offsets_changes_nothing():
    rng = np.random.default_rng(0)

    def bumps(y, x):
        return 0.3 * np.exp(-((y - 55) ** 2 + (x - 50) ** 2) / 20.0)

    right = images(stitched(bumps), 0.2)[1]
    wrong = images(stitched(bumps, lambda n: rng.uniform(-3, 3, n)), 0.2)[1]
    np.testing.assert_allclose(wrong, right, atol=1e-4)


def test_the_floor_bounds_what_noise_grows_by():
    rng = np.random.default_rng(1)
    stitcher = stitched(lambda y, x: 0.0 * (y + x))
    noise = rng.normal(0, 0.01, (SIDE, SIDE)).astype(np.float32)
    known = np.ones((SIDE, SIDE), bool)
    for floor in (0.1, 0.5, 1.0):
        out = with_coarse_structure(
            noise, known, stitcher.probe_intensity, stitcher.patch_weight, floor
        )
        assert np.linalg.norm(out) <= np.linalg.norm(noise) / floor * 1.001


def test_the_unknown_is_taken_for_the_mean_of_the_known():
    phase = np.arange(12, dtype=np.float32).reshape(3, 4)
    known = phase > 5
    level = without_mean(phase, known)
    assert not level[~known].any()
    assert level[known].mean() == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_allclose(np.diff(level[known]), 1.0)


def test_a_patch_of_nothing_is_left_as_it_is():
    nothing = np.zeros((2, 3, 3), np.complex64)
    assert np.array_equal(centred(nothing, np.ones((3, 3))), nothing)
