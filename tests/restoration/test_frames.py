"""Frames of one place: what moved is measured and undone, and what does not fit is left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.restoration.defects import disulfide, film
from benchmarks.restoration.measures import psnr
from benchmarks.restoration.truthful import fresh_seed
from stemd.engines.restoration.distortions import ar1, displace_lines
from stemd.engines.restoration.frames.aligned import align
from stemd.engines.restoration.frames.path import freedom, smooth
from stemd.engines.restoration.frames.places import add_frame, places_of
from stemd.engines.restoration.frames.rings import resolution, ring_correlation
from stemd.errors import UsageError

Image = np.ndarray[Any, np.dtype[np.float32]]
DOSE = 2e4
DRIFT = np.array([0.31, -0.43])


def truth(dose: float = DOSE) -> Image:
    scene = disulfide(np.random.default_rng(8))
    return scene.electrons(dose)


def series(
    count: int, jitter_px: float, seed: int = 0, dose: float = DOSE
) -> tuple[list[Image], Any]:
    """Frames of a part of the dose, drifting, and where each of their lines is."""
    rng = np.random.default_rng(seed)
    image = truth(dose)
    ny = len(image)
    frames, lines = [], []
    for n in range(count):
        dy = n * DRIFT[0] + ar1(ny, 0.5, 0.5 * jitter_px, rng)
        dx = n * DRIFT[1] + ar1(ny, 0.5, jitter_px, rng)
        seen = displace_lines(image / np.float32(count), dy, dx, cubic=True)
        frames.append(rng.poisson(np.maximum(seen, 0.0)).astype(np.float32))
        lines.append(np.stack([dy, dx], 1))
    return frames, np.array(lines)


def test_drift_is_measured_and_the_sum_is_nearly_that_of_one_still_frame() -> None:
    frames, lines = series(16, 0.0)
    found = align(frames)
    assert found.used.all()
    error = (found.shifts - found.shifts.mean(0)) - (lines.mean(1) - lines.mean((0, 1)))
    assert np.sqrt(np.mean(error**2)) < 0.15
    (y, x), sigma = found.drift(0.5)
    assert y == pytest.approx(DRIFT[0] / 0.5, abs=0.03)
    assert x == pytest.approx(DRIFT[1] / 0.5, abs=0.03)
    assert 0.0 < sigma < 0.05
    whole = truth()
    once = np.random.default_rng(1).poisson(whole).astype(np.float32)
    part = np.s_[: found.image.shape[0] - 8, : found.image.shape[1] - 8]
    j, i = found.corner
    against = whole[j:, i:][part]
    assert psnr(found.image[part], against) > psnr(once[j:, i:][part], against) - 0.5
    assert found.resolution_px is not None
    assert 2.0 <= found.resolution_px < 12.0


def test_a_frame_of_another_place_is_left_out() -> None:
    frames, _ = series(8, 0.0)
    frames[3] = np.random.default_rng(5).poisson(frames[0].mean(), frames[0].shape).astype("f4")
    found = align(frames)
    assert np.flatnonzero(~found.used).tolist() == [3]


def test_frames_in_which_a_lattice_is_hardly_seen_are_found_by_their_even_drift() -> None:
    frames, lines = series(16, 0.25, seed=1, dose=1.5e3)
    found = align(frames)
    error = (found.shifts - found.shifts.mean(0)) - (lines.mean(1) - lines.mean((0, 1)))
    assert np.abs(error).max() < 1.5
    whole = truth(1.5e3)
    once = np.random.default_rng(1).poisson(whole).astype(np.float32)
    inner = np.s_[16:-16, 16:-16]
    j, i = found.corner
    aligned = np.zeros_like(whole)
    aligned[j : j + found.image.shape[0], i : i + found.image.shape[1]] = found.image
    assert psnr(aligned[inner], whole[inner]) > psnr(once[inner], whole[inner]) - 1.0


def texture(seed: int, dose: float, shifts: np.ndarray[Any, np.dtype[np.float64]]) -> list[Image]:
    """Frames of an amorphous field at these shifts (n, 2), each of a part of the dose."""
    rng = np.random.default_rng(seed)
    image = film(rng).electrons(dose / len(shifts))
    lines = np.ones(len(image))
    return [
        rng.poisson(displace_lines(image, y * lines, x * lines, cubic=True)).astype(np.float32)
        for y, x in shifts
    ]


@pytest.mark.parametrize("number", range(3))
def test_frames_of_a_texture_are_found_though_two_of_them_show_nothing_alike(number: int) -> None:
    shifts = np.arange(16)[:, None] * np.array([0.64, -0.63])
    found = align(texture(fresh_seed(60 + number), 2e3, shifts))
    assert found.moved
    assert found.used.sum() > 10
    error = (found.shifts - shifts)[found.used]
    assert np.hypot(*(error - np.median(error, axis=0)).T).max() < 2.5


def test_a_jump_of_the_stage_is_no_smooth_drift() -> None:
    shifts = np.arange(16)[:, None] * np.array([0.2, 0.3])
    shifts[8:] += (6.0, -8.0)
    found = align(texture(fresh_seed(64), 5e3, shifts))
    error = found.shifts - shifts
    assert found.used.all()
    assert np.abs(error - error.mean(axis=0)).max() < 1.5


@pytest.mark.parametrize("tail_px", [0.0, 1.5])
def test_frames_that_show_nothing_are_added_as_they_came(tail_px: float) -> None:
    rng = np.random.default_rng(0)
    # a slow detector's noise is smooth along its lines, and is no texture
    low = np.exp(-2.0 * (np.pi * tail_px * np.fft.rfftfreq(96)) ** 2)
    for count in (2, 8):
        noise = rng.poisson(2.0, (count, 96, 96))
        frames = list(np.fft.irfft(np.fft.rfft(noise) * low, 96).astype(np.float32))
        found = align(frames)
        assert not found.moved
        assert found.used.all()
        np.testing.assert_allclose(found.image, np.sum(frames, axis=0), rtol=1e-5)


def test_a_path_is_that_of_least_squares_and_no_single_frame_bends_it() -> None:
    rng = np.random.default_rng(0)
    n, information, change = 12, np.array([2.0, 5.0]), 0.1
    line = np.arange(n)[:, None] * np.array([0.5, -0.3])
    shifts = line + rng.normal(0.0, 0.05, (n, 2))
    bend = np.diff(np.eye(n), 2, axis=0)
    for axis in (0, 1):
        normal = np.eye(n) * information[axis] + bend.T @ bend / change**2
        expected = np.linalg.solve(normal, information[axis] * shifts[:, axis])
        assert np.abs(smooth(shifts, information, change)[:, axis] - expected).max() < 0.02
    assert freedom(n, information, 1e-6) == pytest.approx(4.0, abs=1e-3)
    assert freedom(n, information, 1e6) == pytest.approx(2 * n, rel=1e-3)
    shifts[5] += 20.0
    assert np.abs(smooth(shifts, information, change) - line)[[4, 6]].max() < 0.5


def test_counts_stay_whole_and_none_is_lost_inside() -> None:
    rng = np.random.default_rng(0)
    frames = np.zeros((3, 40, 50), np.int64)
    frames[:, 10:30, 10:30] = rng.poisson(3.0, (3, 20, 20))
    shifts = rng.uniform(-3.0, 3.0, (3, 40, 2))
    places = places_of(shifts, np.array([True, False, True]), 50)
    total = np.zeros(40 * 50, np.int64)
    for n in range(3):
        places.add_to(total, frames[n].ravel(), n)
    again = frames.ravel()[places.again[:, 0]].sum()
    assert total.sum() == frames[[0, 2]].sum() + again
    assert (places.first.reshape(frames.shape)[1] < 0).all()
    assert places.frames == 2
    one, counts = np.zeros((40, 50)), np.zeros((40, 50), np.int32)
    add_frame(frames[0].astype(np.float32), np.zeros((40, 2)), one, counts)
    np.testing.assert_array_equal(one, frames[0])
    assert (counts == 1).all()


def test_a_line_that_was_passed_by_gets_the_nearest_one() -> None:
    shifts = np.zeros((1, 40, 2))
    shifts[0, 20, 0] = 0.8  # line 20 shows what line 21 shows
    places = places_of(shifts, np.ones(1, np.bool_), 50)
    counts = places.counts.reshape(40, 50)
    assert (counts[20] == 1).all()
    assert (counts[21] == 2).all()
    assert len(places.again) == 50


def test_places_that_few_frames_show_are_not_in_the_sum() -> None:
    shifts = np.zeros((4, 40, 2))
    shifts[1:, :, 1] = 10.0
    places = places_of(shifts, np.ones(4, np.bool_), 50)
    counts = places.counts.reshape(40, 50)
    assert (counts[:, :10] == 0).all()
    assert (counts[:, 10:] == 4).all()
    assert not (np.isin(places.first, np.arange(10))).any()


def test_frames_of_several_sizes_are_refused() -> None:
    with pytest.raises(UsageError, match="cannot be added up"):
        align([np.zeros((64, 64), np.float32), np.zeros((64, 65), np.float32)])


def test_halves_that_show_nothing_alike_have_no_resolution() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.standard_normal((2, 128, 128)).astype(np.float32)
    assert resolution(one, other) is None
    _, correlation = ring_correlation(one, one)
    np.testing.assert_allclose(correlation, 1.0, atol=1e-5)
