"""The forward model: what each step does to an image, against plain NumPy and known statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemd.engines.restoration.distortions import (
    DetectorChain,
    Distortions,
    Jitter,
    Spikes,
    Tail,
    ar1,
    displace_lines,
    distort,
    smear_lines,
    tail_kernel,
)
from stemd.errors import UsageError

NOTHING = Distortions(shot_noise=False)


def picture(ny: int = 23, nx: int = 31) -> np.ndarray:
    return np.random.default_rng(4).random((ny, nx), np.float32) * 50.0


def flat(value: float, side: int = 400) -> np.ndarray:
    return np.full((side, side), value, np.float32)


@pytest.mark.parametrize(("phi", "sigma"), [(0.0, 1.0), (0.5, 0.25), (0.9, 2.0)])
def test_line_shifts_have_the_asked_deviation_and_correlation(phi, sigma):
    series = ar1(200_000, phi, sigma, np.random.default_rng(1))
    assert series.std() == pytest.approx(sigma, rel=0.03)
    assert np.corrcoef(series[1:], series[:-1])[0, 1] == pytest.approx(phi, abs=0.02)


def test_the_first_line_moves_as_much_as_the_others():
    first = [ar1(3, 0.9, 1.0, np.random.default_rng(n))[0] for n in range(3000)]
    assert np.std(first) == pytest.approx(1.0, rel=0.06)


@pytest.mark.parametrize("cubic", [False, True])
def test_whole_pixel_shifts_only_move(cubic):
    image = picture()
    dy, dx = np.full(23, 2.0), np.full(23, -3.0)
    moved = displace_lines(image, dy, dx, cubic=cubic)
    np.testing.assert_allclose(moved[:-2, 3:], image[2:, :-3], rtol=1e-5)


def test_linear_interpolation_is_that_of_numpy():
    image = picture()
    dx = np.linspace(-2.3, 2.9, 23)
    moved = displace_lines(image, np.zeros(23), dx)
    at = np.arange(31.0)
    for line, shift, row in zip(moved, dx, image, strict=True):
        np.testing.assert_allclose(line, np.interp(at + shift, at, row), rtol=1e-4, atol=1e-4)


def test_vertical_shifts_interpolate_between_lines():
    image = picture()
    moved = displace_lines(image, np.full(23, 0.25), np.zeros(23))
    np.testing.assert_allclose(moved[:-1], 0.75 * image[:-1] + 0.25 * image[1:], rtol=1e-5)


def test_cubic_interpolation_is_exact_for_a_parabola():
    y, x = np.mgrid[:20, :30].astype(np.float32)
    image = (0.3 * x * x - 2.0 * x + 0.1 * y * y).astype(np.float32)
    moved = displace_lines(image, np.full(20, 0.3), np.full(20, -0.6), cubic=True)
    expected = 0.3 * (x - 0.6) ** 2 - 2.0 * (x - 0.6) + 0.1 * (y + 0.3) ** 2
    np.testing.assert_allclose(moved[3:-3, 3:-3], expected[3:-3, 3:-3], rtol=1e-4, atol=1e-3)


@given(shift=st.floats(-1e12, 1e12), rise=st.floats(-1e12, 1e12))
def test_any_shift_stays_within_the_image(shift, rise):
    image = picture(7, 9)
    moved = displace_lines(image, np.full(7, rise), np.full(7, shift))
    assert moved.min() >= image.min() - 1e-3
    assert moved.max() <= image.max() + 1e-3


def test_shifts_must_be_one_a_line():
    with pytest.raises(UsageError, match="one shift a line"):
        displace_lines(picture(), np.zeros(5), np.zeros(23))


@pytest.mark.parametrize("shape", ["exponential", "half_lorentzian", "box"])
@pytest.mark.parametrize("length", [0.3, 1.0, 2.7, 30.0])
def test_a_tail_adds_and_takes_no_electrons(shape, length):
    kernel = tail_kernel(Tail(shape, length))
    assert kernel.sum() == pytest.approx(1.0, abs=1e-5)
    assert (kernel >= 0.0).all()
    assert (np.diff(kernel) <= 1e-7).all()


def test_tails_have_their_published_shapes():
    exponential = tail_kernel(Tail("exponential", 2.5))
    np.testing.assert_allclose(exponential[1:] / exponential[:-1], math.exp(-1 / 2.5), rtol=1e-4)
    x, a = np.arange(64.0), 3.0
    lorentzian = tail_kernel(Tail("half_lorentzian", a))
    expected = a / (4 * np.pi**2 * x**2 + a**2)
    np.testing.assert_allclose(lorentzian, expected / expected.sum(), rtol=1e-4)
    np.testing.assert_allclose(tail_kernel(Tail("box", 2.5)), [0.4, 0.4, 0.2], rtol=1e-6)


def test_smearing_is_a_convolution_along_each_line_alone():
    image, kernel = picture(), tail_kernel(Tail("exponential", 1.5))
    smeared = smear_lines(image, kernel)
    n = kernel.size
    for before, after in zip(image, smeared, strict=True):
        expected = np.convolve(before, kernel)[: before.size]
        np.testing.assert_allclose(after[n:], expected[n:], rtol=1e-4)


def test_smearing_leaves_an_even_image_even():
    image = flat(7.0, 12)
    np.testing.assert_allclose(smear_lines(image, tail_kernel(Tail("box", 30.0))), 7.0, rtol=1e-5)


def test_nothing_asked_is_nothing_done():
    image = picture()
    np.testing.assert_array_equal(distort(image, NOTHING, np.random.default_rng(0)), image)


def test_the_same_generator_gives_the_same_image():
    what = Distortions(Jitter(), True, Tail(), DetectorChain(0.3, 0.1, 0.1), Spikes(0.01, 99.0))
    one, two = (distort(picture(), what, np.random.default_rng(8)) for _ in range(2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("mean", [0.05, 3.0, 400.0])
def test_counting_and_pulse_spread_give_their_mean_and_variance(mean):
    what = Distortions(detector=DetectorChain(gain_spread=0.5))
    image = distort(flat(mean), what, np.random.default_rng(2))
    assert image.mean() == pytest.approx(mean, rel=0.03)
    assert image.var() == pytest.approx(mean * (1.0 + 0.25), rel=0.06)


def test_electronics_noise_has_the_asked_deviation():
    what = Distortions(shot_noise=False, detector=DetectorChain(readout=2.0, line_noise=3.0))
    image = distort(flat(0.0), what, np.random.default_rng(3))
    assert image.mean(axis=1).std() == pytest.approx(3.0, rel=0.15)
    assert image.std(axis=1).mean() == pytest.approx(2.0, rel=0.02)


def test_a_fast_scan_correlates_noise_along_lines_only():
    what = Distortions(tail=Tail("exponential", 1.0))
    image = distort(flat(50.0), what, np.random.default_rng(4)) - 50.0
    along = np.mean(image[:, 1:] * image[:, :-1]) / image.var()
    across = np.mean(image[1:] * image[:-1]) / image.var()
    assert along == pytest.approx(math.exp(-1.0), abs=0.02)
    assert across == pytest.approx(0.0, abs=0.02)


def test_jitter_of_a_vertical_edge_moves_it_line_by_line():
    image = np.tile(np.arange(64, dtype=np.float32), (2000, 1))
    what = Distortions(Jitter(0.0, 0.5, 0.5), shot_noise=False)
    moved = distort(image, what, np.random.default_rng(5))
    shift = (moved - image)[:, 20]
    assert shift.std() == pytest.approx(0.5, rel=0.1)
    assert np.corrcoef(shift[1:], shift[:-1])[0, 1] == pytest.approx(0.5, abs=0.08)


def test_hot_dead_and_xray_pixels_come_in_the_asked_numbers():
    spikes = Spikes(hot=0.01, hot_value=500.0, dead=0.02, xrays=0.03, xray_value=40.0)
    image = distort(
        flat(100.0), Distortions(shot_noise=False, spikes=spikes), np.random.default_rng(6)
    )
    assert np.mean(image >= 500.0) == pytest.approx(0.01, rel=0.1)
    assert np.mean(image < 50.0) == pytest.approx(0.02, rel=0.1)
    hit = image[(image > 100.0) & (image < 500.0)]
    assert hit.size / image.size == pytest.approx(0.03, rel=0.1)
    assert hit.mean() - 100.0 == pytest.approx(40.0, rel=0.1)


def test_values_end_at_saturation_and_at_black_in_the_digitisers_steps():
    detector = DetectorChain(readout=5.0, saturation=13.0, clip_black=True, step=0.5)
    image = distort(flat(6.0), Distortions(detector=detector), np.random.default_rng(7))
    assert image.min() == 0.0
    assert image.max() == 13.0
    np.testing.assert_array_equal(image * 2.0, np.round(image * 2.0))


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_impossible_numbers_of_electrons_are_refused(value):
    image = picture()
    image[3, 3] = value
    with pytest.raises(UsageError, match="finite and not negative"):
        distort(image, Distortions(), np.random.default_rng(0))


def test_cubic_undershoot_does_not_break_counting():
    image = np.zeros((40, 40), np.float32)
    image[:, 20:] = 100.0
    moved = distort(image, Distortions(Jitter(cubic=True)), np.random.default_rng(0))
    assert np.isfinite(moved).all()


def test_an_image_has_two_axes():
    with pytest.raises(UsageError, match="two axes"):
        distort(np.zeros((2, 3, 4), np.float32), NOTHING, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: Jitter(phi=1.0), "phi"),
        (lambda: Jitter(sigma_x_px=-0.1), "sigma_x_px"),
        (lambda: Jitter(sigma_y_px=math.nan), "sigma_y_px"),
        (lambda: Tail(length_px=0.0), "length_px"),
        (lambda: DetectorChain(gain_spread=-1.0), "gain_spread"),
        (lambda: DetectorChain(step=math.inf), "step"),
        (lambda: DetectorChain(saturation=0.0), "saturation"),
        (lambda: Spikes(hot=1.5), "hot"),
    ],
)
def test_impossible_settings_are_refused_by_name(make, key):
    with pytest.raises(UsageError, match=key):
        make()
