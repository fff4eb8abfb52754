"""Signed and real patterns: exact sums in small steps, and values that are no numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stemd import api
from stemd.adapters.files import open_recording
from stemd.adapters.recordings.counts import SAMPLES
from stemd.adapters.recordings.fixed_point import exponent_for
from stemd.blocks import Notice
from stemd.cli.main import main
from stemd.errors import FormatError
from tests.recordings.test_formats import patterns
from tests.recordings.writers import Array

RNG = np.random.default_rng(3)
WITH_BACKGROUND_OFF: Array = RNG.normal(0.4, 1.0, (5, 6, 24, 70)).astype("f4")


def saved(folder: Path, data: Array, name: str = "a.npy") -> Path:
    np.save(folder / name, data)
    return folder / name


def kinds(path: Path) -> dict[str, Notice]:
    recording = open_recording(path)
    for block in recording.blocks(0, recording.frames):
        block.release()
    found = {n.kind: n for n in recording.notices if isinstance(n, Notice)}
    recording.close()
    return found


def test_images_of_real_patterns_are_those_of_the_numbers_themselves(tmp_path: Path) -> None:
    data = WITH_BACKGROUND_OFF.astype("f8")
    engines = ["sum", "com", "pacbed", "pattern", "virtual_detector:detectors_px={bf=[0,200]}"]
    path = saved(tmp_path, WITH_BACKGROUND_OFF)
    found = api.process(path, engines, optics={"center": (0.0, 0.0)})
    total = data.sum((2, 3))
    np.testing.assert_allclose(found["sum"], total, rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(found["bf"], total, rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(found["pacbed"], data.mean((0, 1)), atol=1e-6)
    np.testing.assert_allclose(found["pattern"], data[-1, -1], atol=1e-6)
    y = (data * np.arange(24)[:, None]).sum((2, 3)) / total
    x = (data * np.arange(70)).sum((2, 3)) / total
    np.testing.assert_allclose(found["com_y"], y, atol=1e-4)
    np.testing.assert_allclose(found["com_x"], x, atol=1e-4)


def test_maps_of_real_patterns_do_not_depend_on_the_cut(tmp_path: Path) -> None:
    path = saved(tmp_path, WITH_BACKGROUND_OFF)
    one = api.process(path, ["sum", "icom"], jobs=1)
    other = api.process(path, ["sum", "icom"], jobs=3)
    for name, image in one.items():
        assert np.asarray(image).tobytes() == np.asarray(other[name]).tobytes()


@pytest.mark.parametrize("dtype", ["f2", "<f4", ">f4", "f8", "i1", ">i2", "<i4", ">i4", "i8"])
def test_whole_numbers_of_any_type_and_sign_are_exact(tmp_path: Path, dtype: str) -> None:
    data = RNG.integers(-100, 100, (2, 3, 5, 7)).astype(dtype)
    np.testing.assert_array_equal(patterns(saved(tmp_path, data)), data.reshape(-1, 5, 7))


def test_the_scale_stands_in_scan_json_and_is_a_power_of_two(tmp_path: Path) -> None:
    path = saved(tmp_path, WITH_BACKGROUND_OFF)
    assert main(["process", str(path), "--engine", "sum", "--out", str(tmp_path / "o")]) == 0
    detector = json.loads((tmp_path / "o" / "a" / "scan.json").read_text())["detector"]
    assert detector["dtype"] == "i4"
    assert np.log2(detector["scale"]).is_integer()
    error = np.abs(patterns(path).reshape(WITH_BACKGROUND_OFF.shape) - WITH_BACKGROUND_OFF)
    assert error.max() <= detector["scale"] / 2
    assert detector["scale"] < 1e-6 * np.abs(WITH_BACKGROUND_OFF).max()


@pytest.mark.parametrize("largest", [1e-30, 1e-3, 0.999, 1.0, 3.7, 1e6, 1e30])
def test_steps_leave_room_for_values_sixteen_times_larger(largest: float) -> None:
    step = 2.0 ** exponent_for(np.array([0.1 * largest, -largest / 3, largest]))
    assert 16 * largest <= step * 2**31
    assert 64 * largest > step * 2**31
    assert exponent_for(np.array([3.0, -7.0])) == 0
    assert exponent_for(np.array([np.nan])) == 0


def test_what_is_not_finite_counts_as_nothing_and_is_told(tmp_path: Path) -> None:
    data = WITH_BACKGROUND_OFF.copy()
    data[:, :, 3, 4] = np.nan  # a dead pixel
    data[2, 2, 5, 5], data[3, 3, 6, 6] = np.inf, np.nan
    data[1, 1] = np.nan  # a pattern that is not there
    path = saved(tmp_path, data)
    found = kinds(path)
    assert (found["not_finite"].count, found["not_finite"].level) == (2, "warning")
    assert found["empty_patterns"].count == 1
    recording = open_recording(path)
    assert np.argwhere(recording.acquisition.detector.mask).tolist() == [[3, 4]]
    blocks = list(recording.blocks(0, recording.frames))
    probe = np.concatenate([block.probe for block in blocks])
    assert np.flatnonzero(probe < 0).tolist() == [7]
    recording.close()
    images = api.process(path, ["sum"])
    assert images.about.positions_done == 29
    want = np.nan_to_num(data.astype("f8"), nan=0.0, posinf=0.0).sum((2, 3))
    np.testing.assert_allclose(images["sum"], want, rtol=1e-6, atol=1e-4)


def test_values_that_do_not_fit_are_cut_and_told(tmp_path: Path) -> None:
    data = RNG.random((1, 40 * SAMPLES, 4, 4)).astype("f4")
    data[0, 1, 2, 2] = 1e9  # not among the patterns that are looked at first
    assert kinds(saved(tmp_path, data))["values_cut"].count == 1
    whole = np.ones_like(data)
    whole[0, 1, 2, 2] = 1.25
    found = kinds(saved(tmp_path, whole, "b.npy"))
    assert found["values_rounded"].count == 1
    assert found["values_rounded"].level == "warning"


def test_engines_that_count_electrons_take_real_patterns(tmp_path: Path) -> None:
    """Phases of the same patterns, as counts and with a background taken off."""
    y, x = np.mgrid[:32, :32] - 15.5
    disc = 40.0 * (np.hypot(y, x) < 6)
    data = RNG.poisson(disc, (6, 7, 32, 32)).astype("u2")
    optics = {"energy_ev": 3e5, "convergence_semi_angle_mrad": 20.0, "pixel_size_mrad": 20 / 6}
    scan = {"shape": (6, 7), "step_size_angstrom": 0.3}
    images = {}
    for name, stored in (("counts", data), ("real", data - np.float32(0.25))):
        path = saved(tmp_path, stored, f"{name}.npy")
        found = api.process(path, ["ssb"], scan=scan, optics=optics, jobs=1)
        assert not found.failed
        (images[name],) = (np.asarray(image) for image in found.values())
    assert np.isfinite(images["real"]).all()
    np.testing.assert_allclose(images["real"], images["counts"], atol=0.1)


@pytest.mark.parametrize("dtype", ["<i2", ">i4", "i8", "f4"])
def test_pixels_marked_with_a_negative_number_do_not_count(tmp_path: Path, dtype: str) -> None:
    data = RNG.poisson(3.0, (5, 6, 12, 9)).astype(dtype)
    gaps = np.zeros((12, 9), np.bool_)
    gaps[5:7] = gaps[2, 3] = True
    data[:, :, gaps] = -1
    data[:, :, 2, 3] = -2
    path = saved(tmp_path, data)
    recording = open_recording(path)
    np.testing.assert_array_equal(recording.acquisition.detector.mask, gaps)
    recording.close()
    assert kinds(path)["marked_pixels"].count == 19
    found = api.process(path, ["sum"])
    np.testing.assert_array_equal(found["sum"], data[:, :, ~gaps].sum(-1))
    counted = api.process(path, ["sum"], optics={"mask": "none"})
    left = 0 if dtype == "f4" else -20  # eighteen pixels of -1, one of -2
    np.testing.assert_array_equal(np.asarray(counted["sum"]) - np.asarray(found["sum"]), left)


@pytest.mark.parametrize("dtype", ["i1", "<i2", ">i4", "i8"])
def test_single_values_marked_as_negative_count_as_nothing_and_are_told(
    tmp_path: Path, dtype: str
) -> None:
    data = RNG.poisson(3.0, (5, 6, 24, 25)).astype(dtype)
    data[:, :, 2, 3] = -2  # a gap, which the mask has
    data[1:3, 2:4, 12, 12], data[4, 4, 7, 7] = -1, -3
    path = saved(tmp_path, data)
    assert kinds(path)["no_values"].count == 5
    found = api.process(path, ["sum"])
    np.testing.assert_array_equal(found["sum"], np.maximum(data, 0).sum((2, 3)))


@pytest.mark.parametrize("dtype", ["i1", "<i2", ">i4", "f4", "f8"])
def test_the_largest_value_of_any_integer_type_masks_a_pixel(tmp_path: Path, dtype: str) -> None:
    """Real numbers have that of the type of which they were made."""
    kind = np.dtype(dtype).kind
    for largest in (np.iinfo(dtype).max,) if kind == "i" else (2**16 - 1, 2**31 - 1, 2**32 - 1):
        data = RNG.poisson(3.0, (5, 6, 12, 9)).astype(dtype)
        data[:, :, 4, 5] = largest
        path = saved(tmp_path, data)
        recording = open_recording(path)
        assert np.argwhere(recording.acquisition.detector.mask).tolist() == [[4, 5]]
        assert recording.acquisition.detector.scale == 1.0
        recording.close()
        data[:, :, 4, 5] = 0
        np.testing.assert_array_equal(api.process(path, ["sum"])["sum"], data.sum((2, 3)))


def test_a_pixel_that_makes_all_others_vanish_is_a_warning(tmp_path: Path) -> None:
    data = RNG.poisson(3.0, (5, 6, 12, 9)).astype("f4")
    data[:, :, 4, 5] = RNG.normal(7e9, 1e6, (5, 6))
    (notice,) = kinds(saved(tmp_path, data)).values()
    assert (notice.kind, notice.level) == ("fixed_point", "warning")
    assert "most values are smaller, since the largest is 7e+09" in notice.text


@pytest.mark.parametrize("taken_off", [1, 0.25])
def test_a_background_that_was_taken_off_is_no_mark(tmp_path: Path, taken_off: float) -> None:
    data = RNG.poisson(0.5, (5, 6, 12, 9)) * (np.arange(9) > 3) - taken_off
    path = saved(tmp_path, data.astype("i4" if taken_off == 1 else "f4"))
    assert "marked_pixels" not in kinds(path)


@pytest.mark.parametrize("unit", [1e300, 1e-300, 1e31])
def test_numbers_that_no_image_can_hold_are_refused(tmp_path: Path, unit: float) -> None:
    path = saved(tmp_path, np.ones((4, 4, 8, 8)) * unit)
    with pytest.raises(FormatError, match="images of 32-bit numbers cannot hold its sums"):
        open_recording(path)
