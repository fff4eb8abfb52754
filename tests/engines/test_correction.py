"""Probe positions corrected: known displacements are found, and undone in every image."""

from __future__ import annotations

import numpy as np
import pytest

from stemd.acquisition import Acquisition, Detector, Scan
from stemd.engines.base import PositionMaps
from stemd.engines.restoration.correction import Shifts, find_shifts, moved
from stemd.engines.restoration.distortions import ar1, displace_lines
from stemd.errors import UsageError

SHAPE = (96, 128)


def truth() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Blurred random points: structure in every line, no period to be mistaken in."""
    rng = np.random.default_rng(5)
    spectrum = np.fft.fft2(rng.normal(size=SHAPE))
    ky, kx = np.fft.fftfreq(SHAPE[0])[:, None], np.fft.fftfreq(SHAPE[1])[None, :]
    smooth = np.fft.ifft2(spectrum * np.exp(-2 * (np.pi * 2.0) ** 2 * (ky**2 + kx**2))).real
    image: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = (
        100.0 + 30.0 * smooth / smooth.std()
    ).astype(np.float32)
    return image


@pytest.mark.slow
@pytest.mark.parametrize(("dose", "error_px"), [(1e6, 0.05), (10.0, 0.12), (1.0, 0.3)])
def test_known_displacements_of_lines_are_found(dose: float, error_px: float) -> None:
    rng = np.random.default_rng(1)
    image = truth()
    dy, dx = ar1(SHAPE[0], 0.5, 0.25, rng), ar1(SHAPE[0], 0.5, 0.6, rng)
    displaced = displace_lines(image, dy, dx, cubic=True)
    noisy = rng.poisson(np.maximum(displaced, 0.0) * dose) / dose
    found = find_shifts(noisy, image)
    inner = (slice(2, -2), slice(8, -8))
    assert float(np.sqrt(np.mean((found.y - dy[:, None])[inner] ** 2))) < error_px
    assert float(np.sqrt(np.mean((found.x - dx[:, None])[inner] ** 2))) < error_px


def test_an_image_that_says_nothing_moves_nothing() -> None:
    noise = np.random.default_rng(0).normal(size=SHAPE)
    found = find_shifts(noise, np.zeros(SHAPE))
    assert float(np.abs(found.y).max()) < 1e-6
    assert float(np.abs(found.x).max()) < 1e-6
    same = truth()
    found = find_shifts(same, same)
    # beyond its edges the image is not known
    assert float(np.abs(found.x[2:-2]).max()) < 0.06
    assert float(np.abs(found.y[2:-2]).max()) < 0.06


def test_drift_within_a_line_is_followed() -> None:
    image = truth()
    drift = np.repeat(np.linspace(-0.3, 0.3, SHAPE[1])[None, :], SHAPE[0], 0)
    columns = np.arange(SHAPE[1])
    displaced = np.stack([np.interp(columns + drift[0], columns, line) for line in image])
    found = find_shifts(displaced, image)
    inner = (slice(2, -2), slice(20, -20))
    assert float(np.sqrt(np.mean((found.x - drift)[inner] ** 2))) < 0.06
    assert float(np.sqrt(np.mean((found.y)[inner] ** 2))) < 0.05


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 1), (5, 30)])
def test_images_too_small_to_judge_are_left_as_they_are(shape: tuple[int, int]) -> None:
    found = find_shifts(np.ones(shape), np.zeros(shape))
    assert not found.y.any()
    assert not found.x.any()
    assert found.y.shape == shape


def test_images_of_different_sizes_are_refused() -> None:
    with pytest.raises(UsageError, match=r"\(4, 4\)"):
        find_shifts(np.zeros((4, 4)), np.zeros((4, 5)))


def maps_of(total: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> PositionMaps:
    maps = PositionMaps(acquisition(), ("adf",))
    maps.total[:] = total.ravel()
    maps.moment_y[:] = 3 * total.ravel()
    maps.moment_x[:] = 5 * total.ravel()
    maps.detector_sums[0] = 2 * total.ravel()
    maps.done[:] = True
    return maps


def acquisition() -> Acquisition:
    return Acquisition(Scan(shape=SHAPE), Detector("test", (8, 8), "u2", 12))


def test_without_shifts_nothing_changes() -> None:
    counts = np.random.default_rng(0).poisson(9.0, SHAPE)
    none = Shifts(np.zeros(SHAPE), np.zeros(SHAPE))
    found = moved(acquisition(), maps_of(counts), none)
    np.testing.assert_array_equal(found.total, counts.ravel())
    np.testing.assert_array_equal(found.detectors["adf"], 2 * counts.ravel())
    assert found.done.all()


def test_patterns_go_where_the_beam_was_with_all_their_numbers() -> None:
    rng = np.random.default_rng(3)
    image = truth()
    dy, dx = ar1(SHAPE[0], 0.5, 0.25, rng), ar1(SHAPE[0], 0.5, 0.6, rng)
    recorded = np.rint(1000 * displace_lines(image, dy, dx, cubic=True)).astype(np.int64)
    shifts = Shifts(np.repeat(dy[:, None], SHAPE[1], 1), np.repeat(dx[:, None], SHAPE[1], 1))
    found = moved(acquisition(), maps_of(recorded), shifts)
    inner = (slice(3, -3), slice(4, -4))
    before = (recorded / 1000 - image)[inner].std()
    after = (found.total.reshape(SHAPE) / 1000 - image)[inner].std()
    assert after < 0.35 * before
    np.testing.assert_allclose(found.moment_y, 3 * np.asarray(found.total), rtol=1e-9)
    np.testing.assert_allclose(found.detectors["adf"], 2 * np.asarray(found.total), rtol=1e-9)


def test_positions_without_a_pattern_give_nothing() -> None:
    maps = maps_of(np.full(SHAPE, 50))
    maps.done[: 10 * SHAPE[1]] = False
    maps.total[: 10 * SHAPE[1]] = 0
    shifts = Shifts(np.zeros(SHAPE), np.full(SHAPE, 0.4))
    found = moved(acquisition(), maps, shifts)
    np.testing.assert_allclose(found.total.reshape(SHAPE)[10:], 50.0)
    assert not found.done[: 10 * SHAPE[1]].any()
