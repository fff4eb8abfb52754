"""What is known of an image without a network: windows, moved lines, noise, and all together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemd.engines.restoration.distortions import ar1, displace_lines
from stemd.engines.restoration.estimate import lines, windows
from stemd.engines.restoration.estimate.channels import (
    CHANNELS,
    FIRST,
    LEAST_DEVIATION,
    channels,
    estimate,
)
from stemd.engines.restoration.estimate.noise import Noise
from stemd.engines.restoration.estimate.nonuniform import superposed
from tests.engines.noisy_images import Image, crystal, noise, rms

# Windows


def test_windows_leave_nothing_of_noise_and_keep_what_stands_out() -> None:
    y, x = np.mgrid[:128, :190]
    bump = (8.0 * np.exp(-((y - 60) ** 2 + (x - 90) ** 2) / (2 * 4.0**2))).astype(np.float32)
    level = Noise(np.ones(5))
    assert rms(windows.shrunk(noise(bump.shape, 1.0), level)) < 0.12
    kept = windows.shrunk(bump + noise(bump.shape, 1.0), level)
    assert rms(kept - bump) < 0.2
    assert kept.max() > 6.5


def test_without_noise_windows_change_nothing() -> None:
    image = crystal((100, 130))
    image -= image.mean()
    kept = windows.shrunk(image, Noise(np.full(5, 1e-12)))
    np.testing.assert_allclose(kept, image, atol=1e-3)


@settings(deadline=None, max_examples=8)
@given(st.integers(64, 150), st.integers(64, 150), st.integers(0, 5))
def test_windows_in_rows_give_what_all_at_once_give(ny: int, nx: int, seed: int) -> None:
    image = noise((ny, nx), 1.0, seed)
    image[20:40, 30:50] += np.float32(5.0)
    power = np.linspace(1.2, 0.8, 9)
    expected = all_windows_at_once(image, power)
    np.testing.assert_allclose(windows.shrunk(image, Noise(power)), expected, atol=2e-4)


def all_windows_at_once(image: Image, noise_power: np.ndarray[Any, np.dtype[np.float64]]) -> Any:
    """The rule of `windows.shrunk`, in float64, every window kept in memory."""
    side, hop = 64, 32
    ny, nx = image.shape
    padded = np.pad(
        image.astype(float), [(hop, hop + -n % hop) for n in (ny, nx)], mode="symmetric"
    )
    taper = np.sin(np.pi * (np.arange(side) + 0.5) / side)
    window = np.outer(taper, taper)
    fx = np.arange(side // 2 + 1) / side
    power = np.interp(fx, np.linspace(0, 0.5, noise_power.size), noise_power) * (window**2).sum()
    corners = [
        (y, x)
        for y in range(0, padded.shape[0] - side + 1, hop)
        for x in range(0, padded.shape[1] - side + 1, hop)
    ]

    def transforms(picture: Any) -> Any:
        parts = [picture[y : y + side, x : x + side] * window for y, x in corners]
        return np.fft.rfft2(np.array(parts))

    def joined(f: Any, weight: Any) -> Any:
        total, share = np.zeros_like(padded), np.zeros_like(padded)
        for (y, x), part, w in zip(corners, np.fft.irfft2(f), weight, strict=True):
            total[y : y + side, x : x + side] += w * window * part
            share[y : y + side, x : x + side] += w * window**2
        return total / share

    f = transforms(padded)
    q = np.abs(f) ** 2 / power
    faint = np.where(q < 20.0, np.exp(-q), 0.0)[:, ::2, 1:].mean(axis=(1, 2))
    level = np.maximum(1.0 / np.maximum(faint, 1e-3) - 1.0, 0.05)[:, None, None]
    gain = (q > windows.CERTAIN * level).astype(float)
    gain[:, 0, 0] = 1.0
    guess = joined(f * gain, 1.0 / ((1.0 + gain.sum(axis=(1, 2))) * level[:, 0, 0]))
    p = np.abs(transforms(guess)) ** 2
    gain = p / (p + level * power)
    weight = 1.0 / ((1.0 + (gain**2).sum(axis=(1, 2))) * level[:, 0, 0])
    gain[:, 0, 0] = 1.0
    return joined(f * gain, weight)[hop : hop + ny, hop : hop + nx]


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


def test_where_nothing_moves_all_waves_are_shown_not_only_those_of_the_first_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def still(image: Any, *_: Any) -> Any:
        return np.zeros((len(image), 2)), 0.0

    monkeypatch.setattr("stemd.engines.restoration.estimate.channels.displacements", still)
    rng = np.random.default_rng(0)
    places = rng.choice(16 * 16, FIRST + 40, replace=False)
    frequency = np.stack([places // 16 - 8, 1 + places % 16], axis=1) * 0.027
    amplitude = np.exp(2j * np.pi * rng.random(len(frequency)))
    truth = superposed(frequency, amplitude, (200, 200))
    image = truth + noise(truth.shape, 3.0)
    known = estimate(image)
    # of the noise, 3 sqrt(4 n / pixels) comes with the fit; without forty waves it would be 9
    assert rms(known.waves - truth) < 0.5
    np.testing.assert_array_equal(known.aligned, image)


def test_lines_through_columns_that_are_shown_too_wide_have_not_moved() -> None:
    y, x = np.mgrid[:192, :192].astype(np.float64)

    def rows(width: float) -> Image:
        near = [((each + 13.0) % 26.0 - 13.0) / width for each in (y, x)]
        bell = np.exp(-0.5 * (near[0] ** 2 + near[1] ** 2))
        return np.asarray(0.1 + bell * (3.0 / width) ** 2, np.float32)

    rng = np.random.default_rng(3)
    dx = np.zeros(192)
    still = rng.poisson(60.0 * rows(3.0)).astype(np.float32)
    shown = np.float32(60.0) * rows(3.15)
    variance = lines.noise_variance(still, shown)
    nothing = np.zeros((192, 2))
    assert lines.displacements(still, shown, variance, nothing)[0][:, 0].std() > 0.03
    assert lines.displacements(still, shown, variance, nothing, own=True)[0][:, 0].std() < 0.01
    dy = ar1(192, 0.5, 0.25, rng)
    moved = rng.poisson(60.0 * displace_lines(rows(3.0), dy, dx, cubic=True)).astype(np.float32)
    found, _ = lines.displacements(moved, shown, variance, nothing, own=True)
    assert np.corrcoef(found[:, 0], dy)[0, 1] > 0.5
