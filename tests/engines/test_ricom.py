"""riCOM against equation 3.4 in float64, and every setting against a known answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stemd.acquisition import Optics
from stemd.engines import growing
from stemd.engines import ricom as engine_of_ricom
from stemd.engines.kernels import ricom as kernels_of_ricom
from stemd.engines.kernels.ricom import add_positions, integrate, lines_of, padded, ricom_kernel
from stemd.results import Snapshot
from stemd.scan.run import ScanRun
from tests.engines.scenes import (
    acquisition_of,
    blocks_of,
    engine,
    run_scan,
    settings_of,
    shifted_discs,
)

F64 = NDArray[np.float64]


def equation_3_4(com_y: F64, com_x: F64, size: int) -> F64:
    """I(r_p) = 1/(2 pi) sum over the window of (r_p - r)/|r_p - r|^2 . com(r), from the pixel."""
    ny, nx = com_y.shape
    half = size // 2
    image = np.zeros((ny, nx))
    for dy in range(-half, half + 1):
        for dx in range(-half, half + 1):
            if (dy, dx) == (0, 0) or abs(dy) >= ny or abs(dx) >= nx:
                continue
            to_y = slice(max(0, dy), ny + min(0, dy))
            to_x = slice(max(0, dx), nx + min(0, dx))
            from_y = slice(max(0, -dy), ny + min(0, -dy))
            from_x = slice(max(0, -dx), nx + min(0, -dx))
            weight = 1.0 / (2 * math.pi * (dy**2 + dx**2))
            image[to_y, to_x] += weight * (dy * com_y[from_y, from_x] + dx * com_x[from_y, from_x])
    return image


@pytest.mark.parametrize("size", [3, 5, 21, 61, 101, 255])
@pytest.mark.parametrize("shape", [(40, 70), (67, 31), (1, 50), (30, 1)])
def test_both_ways_of_adding_equal_equation_3_4(size: int, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(size)
    com_y, com_x = rng.normal(size=(2, *shape))
    expected = equation_3_4(com_y, com_x, size)
    tolerance = 1e-5 * np.ptp(expected)
    kernel_y, kernel_x = ricom_kernel(size)
    whole = integrate(*lines_of(com_y, com_x), kernel_y, kernel_x)
    np.testing.assert_allclose(whole, expected, atol=tolerance, rtol=0)
    live = np.zeros(shape, np.float32)
    kernels = padded(kernel_y), padded(kernel_x)
    vectors = com_y.ravel().astype(np.float32), com_x.ravel().astype(np.float32)
    for first in range(0, com_y.size, 13):
        stop = min(com_y.size, first + 13)
        add_positions(live, *kernels, first, stop, *(v[first:stop] for v in vectors))
    np.testing.assert_allclose(live, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("ny", [8, 9, 16, 17, 40])
def test_an_image_that_is_made_strip_by_strip_has_no_seam(
    ny: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels_of_ricom, "LINES", 8)
    com_y, com_x = np.random.default_rng(ny).normal(size=(2, ny, 11))
    image = integrate(*lines_of(com_y, com_x), *ricom_kernel(5))
    expected = equation_3_4(com_y, com_x, 5)
    np.testing.assert_allclose(image, expected, atol=1e-6 * np.ptp(expected), rtol=0)


@settings(deadline=None, max_examples=15)
@given(
    size=st.sampled_from([3, 9, 61]),
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=4),
    shape=st.sampled_from([(9, 14), (12, 7), (1, 33)]),
)
def test_the_engine_equals_equation_3_4_for_any_blocks(
    size: int, sizes: list[int], shape: tuple[int, int]
) -> None:
    rng = np.random.default_rng(1)
    patterns = rng.integers(0, 1000, (shape[0] * shape[1], 8, 8)).astype(">u2")
    y, x = np.mgrid[:8, :8]
    total = patterns.astype(float).sum((1, 2))
    com_y = ((patterns * y).sum((1, 2)) / total).reshape(shape)
    com_x = ((patterns * x).sum((1, 2)) / total).reshape(shape)
    expected = equation_3_4(com_y - 3.25, com_x - 3.75, size)
    optics = Optics(center=(3.25, 3.75))
    image = run_scan(patterns, shape, [engine("ricom", kernel_size=size)], optics, sizes)["ricom"]
    np.testing.assert_allclose(image.image, expected, atol=1e-5 * np.ptp(expected), rtol=0)


def test_final_images_are_bit_identical_for_any_blocks_and_centre_mode() -> None:
    patterns = np.random.default_rng(5).poisson(3.0, (300, 8, 8)).astype("<u2")
    engines = [engine("ricom", kernel_size=21), engine("com"), engine("icom"), engine("pacbed")]
    for optics in (Optics(), Optics(center=(3.0, 3.0))):
        first = run_scan(patterns, (15, 20), engines, optics, (1,))
        for sizes in ((300,), (7, 31)):
            other = run_scan(patterns, (15, 20), engines, optics, sizes)
            for name, result in first.items():
                assert result.image.tobytes() == other[name].image.tobytes(), name


def test_the_live_image_of_a_whole_scan_equals_the_final_one() -> None:
    shifts = np.random.default_rng(2).normal(size=(20 * 30, 2))
    patterns = shifted_discs(shifts)
    acquisition = acquisition_of(patterns, (20, 30))
    choices = [engine("ricom", kernel_size=11)]
    run = ScanRun(acquisition, settings_of(choices, Optics(center=(15.5, 15.5))), choices)
    seen: list[Snapshot] = []
    for block in blocks_of(acquisition, patterns, (17,)):
        run.reduce(block)
    run.end("complete")
    run.feed()
    seen.append(run.snapshot(final=False))
    final = run.snapshot(final=True)
    live = seen[0].results[0].image
    np.testing.assert_allclose(
        live, final.results[0].image, atol=1e-5 * np.ptp(final.results[0].image)
    )


def test_contributions_outside_the_image_are_dropped_not_wrapped() -> None:
    image = np.zeros((5, 6), np.float32)
    kernel_y, kernel_x = (padded(k) for k in ricom_kernel(5))
    one = np.ones(1, np.float32)
    add_positions(image, kernel_y, kernel_x, 11, 12, 0 * one, one)
    assert (image[:, :3] == 0).all()
    assert image[1, 5] == 0
    assert image[1, 4] == pytest.approx(-1 / (2 * math.pi))


def test_positive_com_points_to_where_the_image_is_brighter() -> None:
    y, x = np.mgrid[:24, :24]
    hill = np.exp(-((y - 12) ** 2 + (x - 12) ** 2) / 18.0)
    shifts = np.stack(np.gradient(hill), -1).reshape(-1, 2)
    image = run_scan(shifted_discs(shifts), (24, 24), [engine("ricom", kernel_size=47)])[
        "ricom"
    ].image
    assert np.corrcoef(image.ravel(), hill.ravel())[0, 1] > 0.98


@pytest.mark.parametrize(
    ("rotation", "flip", "detector_shift", "scan_shift"),
    [
        (0.0, False, (0.0, 1.0), (0.0, 1.0)),
        (90.0, False, (0.0, 1.0), (-1.0, 0.0)),
        (-90.0, False, (0.0, 1.0), (1.0, 0.0)),
        (180.0, False, (1.0, 0.5), (-1.0, -0.5)),
        (0.0, True, (0.0, 1.0), (1.0, 0.0)),
        (90.0, True, (1.0, 0.0), (-1.0, 0.0)),
    ],
)
def test_rotation_is_counter_clockwise_as_displayed_after_the_flip(
    rotation: float,
    flip: bool,
    detector_shift: tuple[float, float],
    scan_shift: tuple[float, float],
) -> None:
    shape = (7, 9)
    shifts = np.zeros((63, 2))
    shifts[31] = detector_shift
    optics = Optics(rotation_deg=rotation, flip=flip, center=(15.5, 15.5))
    image = run_scan(shifted_discs(shifts), shape, [engine("ricom", kernel_size=7)], optics)
    com_y, com_x = np.zeros(shape), np.zeros(shape)
    com_y[3, 4], com_x[3, 4] = scan_shift
    expected = equation_3_4(com_y, com_x, 7)
    np.testing.assert_allclose(image["ricom"].image, expected, atol=2e-3)


def test_rotating_the_vectors_equals_rotating_scan_and_detector_together() -> None:
    rng = np.random.default_rng(8)
    shifts = rng.normal(size=(8, 8, 2))
    turned = np.rot90(shifts, 1, (0, 1))
    kwargs = {"engines": [engine("ricom", kernel_size=9)]}
    straight = run_scan(
        shifted_discs(shifts.reshape(-1, 2)), (8, 8), optics=Optics(center=(15.5, 15.5)), **kwargs
    )["ricom"].image
    rotated = run_scan(
        shifted_discs(np.ascontiguousarray(turned).reshape(-1, 2)),
        (8, 8),
        optics=Optics(center=(15.5, 15.5), rotation_deg=90.0),
        **kwargs,
    )["ricom"].image
    np.testing.assert_allclose(rotated, np.rot90(straight), atol=5e-3)


def test_an_automatic_centre_removes_a_constant_shift() -> None:
    rng = np.random.default_rng(4)
    shifts = rng.normal(size=(12 * 12, 2)) * 0.5
    shifts -= shifts.mean(0)
    engines = [engine("ricom", kernel_size=9), engine("com")]
    fixed = run_scan(shifted_discs(shifts), (12, 12), engines, Optics(center=(15.5, 15.5)))
    moved = run_scan(shifted_discs(shifts + np.array([2.0, -1.5])), (12, 12), engines, Optics())
    for name in ("ricom", "com_y", "com_x"):
        np.testing.assert_allclose(moved[name].image, fixed[name].image, atol=5e-3)
    assert moved["com_y"].extra["center"] == pytest.approx([17.5, 14.0], abs=5e-3)


def test_a_position_without_counts_has_no_shift_and_no_nan() -> None:
    shifts = np.random.default_rng(4).normal(size=(100, 2))
    patterns = shifted_discs(shifts)
    patterns[::7] = 0
    results = run_scan(patterns, (10, 10), [engine("ricom", kernel_size=9), engine("com")])
    assert all(np.isfinite(result.image).all() for result in results.values())
    assert (results["com_x"].image.ravel()[::7] == 0).all()


@pytest.mark.parametrize("gap", [slice(30, 45), slice(55, 100), slice(0, 100, 7)])
@pytest.mark.parametrize("large", [1 << 21, 1])
def test_missing_positions_contribute_nothing_and_are_0_live_and_at_the_end(
    gap: slice, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel reaches into what nobody has scanned: no specimen is painted there."""
    for module in (growing, engine_of_ricom):
        monkeypatch.setattr(module, "LARGE", large)
    com = np.random.default_rng(6).normal(size=(100, 2))
    patterns, probes = shifted_discs(com), np.arange(100)
    probes[gap] = -1
    acquisition = acquisition_of(patterns, (10, 10))
    choices = [engine("ricom", kernel_size=7), engine("icom"), engine("com")]
    run = ScanRun(acquisition, settings_of(choices, Optics(center=(15.5, 15.5))), choices)
    for block in blocks_of(acquisition, patterns, (17,), probes):
        run.reduce(block)
    run.end("aborted")
    run.feed()
    live = {each.name: np.array(each.image) for each in run.snapshot(final=False).results}
    final = {each.name: np.array(each.image) for each in run.snapshot(final=True).results}
    com[gap] = 0
    expected = equation_3_4(com[:, 0].reshape(10, 10), com[:, 1].reshape(10, 10), 7)
    expected[(probes < 0).reshape(10, 10)] = 0
    for images in (live, final):
        np.testing.assert_allclose(images["ricom"], expected, atol=2e-2)
        for name, image in images.items():
            assert (image.reshape(-1)[probes < 0] == 0).all(), name
    assert (final["icom"].reshape(-1)[probes >= 0] != 0).all()


def test_the_kernel_transfers_frequencies_as_equation_3_7_says() -> None:
    pixels, size = 512, 61
    kernel_y, kernel_x = ricom_kernel(size)
    transfer = np.zeros(pixels // 2)
    padded = np.zeros((pixels, pixels))
    padded[:size, :size] = kernel_x
    spectrum = np.abs(np.fft.fft2(padded))[0, : pixels // 2]
    k = np.arange(1, 40)
    transfer = spectrum[k] * 2 * math.pi
    line = pixels / (2 * math.pi * k) * (1 - np.cos((size - 1) / 2 * 2 * math.pi * k / pixels))
    scale = (transfer * line).sum() / (line**2).sum()
    assert np.corrcoef(transfer, line)[0, 1] > 0.95
    assert 0.5 < scale < 2 * math.pi
    np.testing.assert_allclose(kernel_y, kernel_x.T)


def test_a_band_pass_keeps_its_ring_and_removes_the_rest() -> None:
    n = 65
    frequency = np.fft.fftfreq(n) * n
    radius = np.hypot(frequency[:, None], frequency[None, :])
    ring = (radius >= 3.0) & (radius <= 12.0)
    for plain, filtered in zip(ricom_kernel(n), ricom_kernel(n, (3.0, 12.0), n), strict=True):
        spectrum, kept = np.fft.fft2(plain), np.fft.fft2(filtered)
        np.testing.assert_allclose(kept[ring], spectrum[ring], atol=1e-10)
        assert np.abs(kept[~ring]).max() < 1e-10


def test_a_cropped_band_pass_still_favours_its_ring_in_the_image() -> None:
    n, size = 128, 41
    shape = (8, n)
    x = np.arange(n)
    kernels = {band: ricom_kernel(size, band, n) for band in (None, (6.0, 20.0))}

    def strength(k: int, band: tuple[float, float] | None) -> float:
        com_x = np.tile(np.cos(2 * math.pi * k * x / n), (shape[0], 1))
        image = integrate(*lines_of(np.zeros(shape), com_x), *kernels[band])
        return float(np.abs(image[4, 40:-40]).max())

    inside = strength(12, (6.0, 20.0)) / strength(12, None)
    outside = strength(45, (6.0, 20.0)) / strength(45, None)
    assert inside > 2 * outside


def test_a_changed_kernel_rebuilds_the_live_image_and_holds_for_the_final_one() -> None:
    shifts = np.random.default_rng(2).normal(size=(200, 2))
    patterns = shifted_discs(shifts)
    acquisition = acquisition_of(patterns, (10, 20))
    wide, narrow = [engine("ricom", kernel_size=15)], [engine("ricom", kernel_size=5)]
    run = ScanRun(acquisition, settings_of(wide), wide)
    blocks = list(blocks_of(acquisition, patterns, (50,)))
    for block in blocks[:2]:
        run.reduce(block)
    run.change(settings_of(narrow))
    for block in blocks[2:]:
        run.reduce(block)
    run.end("complete")
    final = run.serve(lambda snapshot: None, lambda: 100.0)
    expected = run_scan(patterns, (10, 20), narrow)["ricom"].image
    run_image = next(r.image for r in final.results if r.name == "ricom")
    np.testing.assert_allclose(run_image, expected, atol=1e-6 * np.ptp(expected))
