"""Labels, frames and masked parts of an image are none of what was recorded."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from benchmarks.restoration.defects import titanate
from benchmarks.restoration.measures import psnr
from benchmarks.restoration.score import Network
from benchmarks.restoration.specimens import strontium_titanate
from benchmarks.restoration.truthful import fresh_seed
from stemd.engines.restoration import blank, finished
from stemd.engines.restoration.blank import blank_parts, mirrored_into
from stemd.engines.restoration.written import written as written_over

Image = np.ndarray[Any, np.dtype[np.float32]]


def labelled(seed: int, dose: float = 2e3) -> tuple[Image, Image, np.ndarray]:
    """(data, truth, mask): a crystal beyond whose slanted edge nothing is, and a label in it."""
    truth = strontium_titanate().electrons(dose)
    data = np.random.default_rng(fresh_seed(seed)).poisson(truth).astype(np.float32)
    y, x = np.mgrid[: truth.shape[0], : truth.shape[1]]
    masked = y - 0.2 * x > 0.75 * truth.shape[0]
    label = (y > 20) & (y < 50) & (x > 30) & (x < 120)
    letters = label & (y > 30) & (y < 40) & (x > 40) & (x < 110) & (x % 8 < 3)
    for part, value in ((masked, 0.6 * truth.max()), (label, 0.0), (letters, truth.max())):
        data[part] = truth[part] = value
    return data, truth, masked | label


def test_what_was_not_recorded_is_found_to_the_pixel() -> None:
    data, _, mask = labelled(80)
    found = blank_parts(data)
    # islands of few pixels between letters and edge, and counts that are like the label's value
    assert np.count_nonzero(found & ~mask) < 0.002 * np.count_nonzero(mask)
    assert np.count_nonzero(found) > 0.995 * np.count_nonzero(mask)


@pytest.mark.parametrize("mean", [0.01, 0.05, 0.3, 2.0, 40.0])
def test_few_electrons_are_no_label(mean: float) -> None:
    rng = np.random.default_rng(fresh_seed(81))
    assert not blank_parts(rng.poisson(mean, (256, 256)).astype(np.float32)).any()
    # vacuum beside a crystal: next to nothing, but recorded
    dark = np.full((256, 256), mean)
    dark[:, 100:] = 0.004
    assert not blank_parts(rng.poisson(dark).astype(np.float32)).any()


def test_an_image_that_is_flat_nearly_everywhere_is_left_alone() -> None:
    image = np.zeros((64, 64), np.float32)
    assert not blank_parts(image).any()
    image[30, 30] = 1.0
    assert not blank_parts(image).any()
    assert not blank_parts(np.zeros((3, 100), np.float32)).any()


def test_the_nearest_recorded_pixel_is_found() -> None:
    rng = np.random.default_rng(3)
    known = rng.random((40, 61)) > 0.97
    near = blank._nearest(known)
    y, x = np.mgrid[:40, :61]
    assert known[near[0], near[1]].all()
    found = np.hypot(near[0] - y, near[1] - x)
    exact = ndimage.distance_transform_edt(~known)
    assert (found >= exact - 1e-9).all()
    assert (found <= exact + 0.5).all()
    np.testing.assert_array_equal(found[known], 0.0)


def test_a_part_is_filled_with_what_is_beside_it_noise_and_all() -> None:
    data, _, _ = labelled(82)
    found = blank_parts(data)
    filled = mirrored_into(data, found)
    np.testing.assert_array_equal(filled[~found], data[~found])
    assert filled[found].std() > 0.7 * data[~found].std()
    assert not blank_parts(filled).any()


def test_a_large_image_that_is_mostly_masked_takes_no_longer() -> None:
    image = np.zeros((1500, 1500), np.float32)
    image[700:800, 700:800] = np.random.default_rng(4).normal(9.0, 1.0, (100, 100))
    mask = image == 0.0
    mirrored_into(image[:50, :50].copy(), mask[:50, :50] & (np.arange(50) > 3))
    began = time.process_time()
    filled = mirrored_into(image, mask)
    assert time.process_time() - began < 5.0
    assert (filled != 0.0).all()


def test_labels_stay_as_they_are_and_spoil_nothing_beside_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, truth, _ = labelled(83)
    found = blank_parts(data)
    network = Network(Path("stemd/models/restoration.onnx"))
    shown = network(data)
    np.testing.assert_array_equal(shown[found], data[found])
    assert psnr(shown, truth) > psnr(data, truth) + 10.0
    monkeypatch.setattr(finished, "blank_parts", lambda image: np.zeros(image.shape, np.bool_))
    error, otherwise = (float(np.std((each - truth)[~found])) for each in (shown, network(data)))
    assert error < 0.9 * otherwise


def crystal(seed: int, electrons: float) -> tuple[Image, Image]:
    """(recorded, truth)"""
    rng = np.random.default_rng(fresh_seed(seed))
    truth = titanate(rng).truth.astype(np.float32)
    truth *= np.float32(electrons / truth.max())
    return rng.poisson(truth).astype(np.float32), truth


def test_a_thin_bar_and_letters_over_an_image_stay_and_are_told() -> None:
    data, truth = crystal(90, 30.0)
    written = np.zeros(data.shape, np.bool_)
    written[170:173, 20:80] = True
    for x in range(24, 60, 8):  # letters of strokes that are two pixels wide
        written[154:164, x : x + 2] = written[154:156, x : x + 6] = True
    data[written] = truth[written] = data.max() + 20.0
    network = Network(Path("stemd/models/restoration.onnx"))
    found = finished.finished(data, network.model, network.network)
    np.testing.assert_array_equal(found.image[written], data[written])
    assert 0.01 < found.told()["blank"] < 0.06
    assert psnr(found.image, truth) > psnr(data, truth) + 10.0
    near = ndimage.binary_dilation(written, iterations=6) & ~written
    assert np.sqrt(np.mean(np.square(found.image - truth)[near])) < np.sqrt(
        np.mean(np.square(data - truth)[near])
    )


@pytest.mark.parametrize("mean", [0.02, 0.3, 3.0, 30.0, 300.0])
def test_nothing_is_written_in_counts_and_their_ends(mean: float) -> None:
    data, _ = crystal(91, mean)
    for image in (data, np.minimum(data, 0.5 * data.max()), np.maximum(data, 0.1 * mean)):
        assert not written_over(image, np.zeros(image.shape, np.bool_)).any()


def test_what_the_black_level_cut_off_is_no_label() -> None:
    _, truth = crystal(92, 60.0)
    noisy = truth + np.random.default_rng(fresh_seed(93)).normal(0.0, 3.0, truth.shape)
    for level in (8.0, 11.0, 14.0):
        cut = np.maximum(noisy - level, 0.0).astype(np.float32)
        assert np.mean(cut == 0.0) > 0.2
        assert not blank_parts(cut).any()
        assert not blank_parts(-cut).any()


def test_a_strip_below_the_image_is_a_label_with_all_its_letters() -> None:
    data, _ = crystal(94, 30.0)
    strip = np.zeros((24, data.shape[1]), np.float32)
    strip[6:18:2, 8:90] = 40.0  # a word, dense, of more pixels than a letter has
    strip[6:18, 9:90:4] = 90.0
    strip[8, 120], strip[8, 125] = 17.0, 31.0  # dots beside letters
    strip[9:14, 121:124] = 90.0
    found = blank_parts(np.vstack([data, strip]))
    assert found[len(data) + 1 :].all()
    assert np.mean(found[: len(data)]) < 0.002  # zeros of dark places at its edge
