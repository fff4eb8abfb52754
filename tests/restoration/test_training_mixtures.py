"""Images of several scales, and what is painted over images, are what they say they are."""

from __future__ import annotations

import numpy as np
import pytest

from training.restoration import annotations, mixtures, pairs

SHAPE = (96, 128)


def runs_of_one_value(image: np.ndarray, least: int) -> float:
    """The part of an image's pixels that lie in runs of at least `least` equal ones of a line."""
    same = np.zeros(image.shape, bool)
    windows = np.lib.stride_tricks.sliding_window_view(image, least, axis=1)
    for j, i in np.argwhere(np.ptp(windows, axis=2) == 0.0):
        same[j, i : i + least] = True
    return float(same.mean())


@pytest.mark.parametrize("kind", list(mixtures.SCENES))
def test_mixtures_of_any_shape_are_finite_and_show_something(kind):
    for seed in range(12):
        image = mixtures.SCENES[kind](SHAPE, np.random.default_rng(seed))
        assert image.shape == SHAPE
        assert image.dtype == np.float32
        assert np.isfinite(image).all()
        assert image.std() > 1e-3


@pytest.mark.parametrize("kind", annotations.KINDS)
def test_a_mark_covers_a_part_of_the_field(kind):
    covered = []
    for seed in range(40):
        for cover, level in kind(SHAPE, np.random.default_rng(seed)):
            assert cover.shape == SHAPE
            assert cover.dtype == np.float32
            assert cover.min() >= 0.0
            assert cover.max() <= 1.0
            assert -0.1 <= level <= 1.2
            covered.append(float(cover.mean()))
    assert 0.002 < np.mean(covered) < 0.7


def test_what_is_painted_is_the_same_in_both_images_and_flat():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        noisy, wanted = rng.normal(0.5, 0.2, (2, *SHAPE)).astype(np.float32)
        before = noisy.copy(), wanted.copy()
        annotations.annotate(noisy, wanted, rng)
        changed = (noisy != before[0]) | (wanted != before[1])
        assert changed.any()
        solid = np.abs(noisy - wanted) < 1e-6
        _, counts = np.unique(wanted[solid], return_counts=True)
        # letters and rings may have soft edges: most of what is solid has few values
        assert counts.max() > 0.1 * counts.sum()
        np.testing.assert_array_equal(noisy[~changed], before[0][~changed])


def test_a_third_of_the_images_has_parts_that_no_detector_wrote():
    flat = [
        runs_of_one_value(made.truth, 6) > 0.01 and runs_of_one_value(made.noisy, 6) > 0.01
        for made in (pairs.pair(21, n, 96) for n in range(120))
    ]
    assert 0.15 < np.mean(flat) < 0.6


@pytest.mark.parametrize("period", [4.0, 5.5, 7.0])
def test_fine_lattices_have_their_period_and_lie_along_the_axes(period):
    lengths, angles = [], []
    f = np.abs(np.fft.fftfreq(128))
    for seed in range(20):
        image = mixtures.fine_lattice((128, 128), np.random.default_rng(seed), period)
        power = np.abs(np.fft.fft2(image - image.mean())) ** 2
        # a perfect lattice that fills the field: its power stands in few places
        assert np.sort(power.ravel())[-60:].sum() > 0.5 * power.sum()
        y, x = np.nonzero(power > 0.05 * power.max())
        angles.append(np.arctan2(np.minimum(f[y], f[x]), np.maximum(f[y], f[x])).min())
        y, x = np.unravel_index(int(np.argmax(power)), power.shape)
        lengths.append(np.hypot(f[y], f[x]) * period)
    assert 0.75 < np.median(lengths) < 1.15
    assert np.mean(np.array(angles) < 0.2) > 0.8


def test_shaken_lines_are_displaced_by_pixels_and_others_seldom():
    rng = np.random.default_rng(4)
    shaken = [pairs._large_jitter(rng) for _ in range(200)]
    assert all(0.7 <= each.sigma_x_px <= 2.5 for each in shaken)
    assert all(each.sigma_y_px <= 0.5 * each.sigma_x_px for each in shaken)


def test_an_amplifier_slower_than_the_scan_blurs_along_lines_only_and_delays_nothing():
    image = np.zeros((9, 41), np.float32)
    image[4, 20] = 1.0
    out = pairs.along_lines(image, 1.2)
    assert out[[n for n in range(9) if n != 4]].max() == 0.0
    assert out.sum() == pytest.approx(1.0, abs=1e-5)
    x = np.arange(41) - 20
    assert (out[4] * x).sum() == pytest.approx(0.0, abs=1e-5)
    assert (out[4] * x**2).sum() == pytest.approx(1.44, rel=0.02)


def test_every_kind_can_be_asked_for():
    assert sum(pairs.KINDS.values()) == pytest.approx(1.0)
    for kind in pairs.KINDS:
        image = pairs.truth_scene((48, 64), np.random.default_rng(1), kind)
        assert 0.0 <= image.min() <= image.max() <= 1.0
