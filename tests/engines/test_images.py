"""COM maps, field, iCOM, sum, detectors, PACBED and the latest pattern: known answers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stemd.acquisition import Optics
from stemd.config.problems import ConfigProblemsError
from stemd.engines.icom import integrate_gradient
from stemd.engines.kernels.ricom import lines_of
from tests.engines.scenes import engine, run_scan, shifted_discs


def test_com_maps_are_in_detector_axes_relative_to_the_centre() -> None:
    shifts = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-0.5, 0.25]])
    optics = Optics(center=(15.5, 15.5), rotation_deg=37.0)
    results = run_scan(shifted_discs(shifts), (2, 2), [engine("com")], optics)
    np.testing.assert_allclose(results["com_y"].image.ravel(), shifts[:, 0], atol=2e-3)
    np.testing.assert_allclose(results["com_x"].image.ravel(), shifts[:, 1], atol=2e-3)
    assert results["com_y"].units == "px"


@pytest.mark.parametrize(
    ("shift", "direction"),
    [
        ((0.0, 1.0), math.pi),
        ((0.0, -1.0), 0.0),
        ((1.0, 0.0), math.pi / 2),
        ((-1.0, 0.0), -math.pi / 2),
    ],
)
def test_the_field_is_opposite_to_the_shift_and_its_angle_counts_counter_clockwise(
    shift: tuple[float, float], direction: float
) -> None:
    shifts = np.array([shift, (0.0, 0.0)])
    optics = Optics(center=(15.5, 15.5))
    results = run_scan(shifted_discs(shifts), (1, 2), [engine("com")], optics)
    angle = float(results["field_direction"].image[0, 0])
    assert math.cos(angle - direction) == pytest.approx(1.0, abs=1e-5)
    assert results["field_magnitude"].image[0, 0] == pytest.approx(1.0, abs=2e-3)


def test_icom_recovers_an_analytic_potential() -> None:
    y, x = np.mgrid[:48, :64]
    potential = np.cos(2 * np.pi * 3 * x / 64) * np.cos(2 * np.pi * 2 * y / 48)
    gradient_y = (
        -2 * np.pi * 2 / 48 * np.cos(2 * np.pi * 3 * x / 64) * np.sin(2 * np.pi * 2 * y / 48)
    )
    gradient_x = (
        -2 * np.pi * 3 / 64 * np.sin(2 * np.pi * 3 * x / 64) * np.cos(2 * np.pi * 2 * y / 48)
    )
    image = integrate_gradient(*lines_of(gradient_y, gradient_x))
    np.testing.assert_allclose(image[4:-4, 4:-4], potential[4:-4, 4:-4], atol=0.02)


def test_icom_of_a_lone_hill_has_its_height_and_no_seam() -> None:
    y, x = np.mgrid[:40, :56]
    hill = np.exp(-((y - 18) ** 2 + (x - 30) ** 2) / (2 * 5.0**2))
    gradient_y, gradient_x = -(y - 18) / 25.0 * hill, -(x - 30) / 25.0 * hill
    image = integrate_gradient(*lines_of(gradient_y, gradient_x))
    np.testing.assert_allclose(image, hill - hill.mean(), atol=2e-3)


def mirrored_whole(gradient_y: NDArray[Any], gradient_x: NDArray[Any]) -> NDArray[Any]:
    """The same equation with the whole mirrored field in one transform."""

    def mirrored(field: NDArray[Any], odd_axis: int) -> NDArray[Any]:
        for axis in (0, 1):
            sign = -1.0 if axis == odd_axis else 1.0
            field = np.concatenate([field, sign * np.flip(field, axis)], axis)
        return field

    ny, nx = gradient_y.shape
    ky, kx = np.fft.fftfreq(2 * ny)[:, None], np.fft.rfftfreq(2 * nx)[None, :]
    square = ky**2 + kx**2
    square[0, 0] = 1.0
    spectrum = ky * np.fft.rfft2(mirrored(gradient_y, 0))
    spectrum = spectrum + kx * np.fft.rfft2(mirrored(gradient_x, 1))
    spectrum *= -1j / (2 * np.pi * square)
    spectrum[ny], spectrum[:, nx] = 0.0, 0.0  # an even image has none of the highest frequency
    return np.fft.irfft2(spectrum, (2 * ny, 2 * nx))[:ny, :nx]


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (64, 65), (150, 63), (63, 200)])
def test_icom_is_that_of_the_whole_mirrored_field(shape: tuple[int, int]) -> None:
    gradient_y, gradient_x = np.random.default_rng(shape[0]).normal(size=(2, *shape))
    whole = mirrored_whole(gradient_y, gradient_x)
    image = integrate_gradient(*lines_of(gradient_y, gradient_x))
    np.testing.assert_allclose(image, whole, rtol=0, atol=1e-6 * max(1.0, np.ptp(whole)))


@pytest.mark.parametrize("shape", [(1, 2), (1, 32), (3, 32), (24, 31), (64, 65)])
def test_icom_knows_no_difference_between_lines_and_columns(shape: tuple[int, int]) -> None:
    gradient_y, gradient_x = np.random.default_rng(shape[0]).normal(size=(2, *shape))
    image = integrate_gradient(*lines_of(gradient_y, gradient_x))
    turned = integrate_gradient(*lines_of(gradient_x.T.copy(), gradient_y.T.copy()))
    np.testing.assert_allclose(image, turned.T, rtol=0, atol=1e-5)
    assert abs(image.mean(dtype=np.float64)) < 1e-5
    if shape[0] == 1:  # there is nothing across a single line
        along = integrate_gradient(*lines_of(np.zeros(shape), gradient_x))
        np.testing.assert_allclose(image, along, rtol=0, atol=1e-5)


def test_icom_appears_only_in_the_final_snapshot_and_matches_the_field() -> None:
    y, x = np.mgrid[:24, :24]
    hill = 3 * np.exp(-((y - 12) ** 2 + (x - 12) ** 2) / 32.0)
    shifts = np.stack([-(y - 12) / 16 * hill, -(x - 12) / 16 * hill], -1).reshape(-1, 2)
    image = run_scan(
        shifted_discs(shifts), (24, 24), [engine("icom")], Optics(center=(15.5, 15.5))
    )["icom"].image
    np.testing.assert_allclose(image, hill - hill.mean(), atol=0.02)


def test_virtual_detectors_in_mrad_and_pixels_count_their_own_pixels() -> None:
    patterns = np.random.default_rng(0).integers(0, 50, (12, 32, 32)).astype(">u2")
    choice = engine(
        "virtual_detector",
        detectors={"bf": [0.0, 10.0], "adf": [12.0, 24.0]},
        detectors_px={"abf": [3.0, 6.0]},
    )
    optics = Optics(center=(15.0, 16.0), pixel_size_mrad=2.0)
    results = run_scan(patterns, (3, 4), [choice], optics)
    y, x = np.mgrid[:32, :32]
    radius = np.hypot(y - 15.0, x - 16.0)
    for name, (inner, outer) in {"bf": (0, 5), "adf": (6, 12), "abf": (3, 6)}.items():
        mask = (radius >= inner) & (radius < outer)
        expected = patterns[:, mask].astype(np.int64).sum(1).reshape(3, 4)
        np.testing.assert_array_equal(results[name].image, expected)


def test_more_virtual_detectors_than_can_be_looked_at_are_refused() -> None:
    rings = {f"ring_{n}": [float(n), n + 1.0] for n in range(33)}
    with pytest.raises(ConfigProblemsError, match="33 detectors are more than 32"):
        engine("virtual_detector", detectors_px=rings)
    half = dict(list(rings.items())[:16])
    engine("virtual_detector", detectors_px=half, detectors={f"x{n}": r for n, r in half.items()})


def test_sum_and_pacbed_are_exact() -> None:
    patterns = np.random.default_rng(0).integers(0, 4096, (30, 9, 11)).astype(">u2")
    probes = np.arange(30)
    probes[[4, 17]] = -1
    results = run_scan(patterns, (5, 6), [engine("sum"), engine("pacbed")], probes=probes)
    used = probes >= 0
    sums = np.where(used, patterns.astype(np.int64).sum((1, 2)), 0).reshape(5, 6)
    np.testing.assert_array_equal(results["sum"].image, sums)
    mean = patterns[used].astype(np.int64).sum(0) / used.sum()
    np.testing.assert_array_equal(results["pacbed"].image, mean.astype(np.float32))
    assert results["pacbed"].axes == "detector"


def test_the_latest_pattern_is_the_last_that_belongs_to_a_position() -> None:
    patterns = np.arange(6 * 4 * 4).reshape(6, 4, 4).astype(">u2")
    probes = np.array([0, 1, 2, 3, -1, -1])
    for sizes in ((6,), (1,), (4, 2)):
        result = run_scan(patterns, (2, 2), [engine("pattern")], sizes=sizes, probes=probes)
        np.testing.assert_array_equal(result["pattern"].image, patterns[3])
        assert result["pattern"].extra["position"] == [1, 1]
