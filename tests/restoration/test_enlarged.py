"""Images that were interpolated to more pixels are restored at their own size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.restoration.defects import scenes, titanate
from benchmarks.restoration.score import Network
from benchmarks.restoration.specimens import fin_transistor, specimens
from benchmarks.restoration.truthful import fresh_seed
from stemd.engines.restoration.enlarged import enlarged, reduced, times_enlarged
from stemd.engines.restoration.finished import finished
from stemd.offline.restoring.notes import notes

Image = NDArray[np.float32]
SHIPPED = Path(__file__).parents[2] / "stemd" / "models" / "restoration.onnx"


def larger(image: Image, times: int, order: int) -> Image:
    found = ndimage.zoom(image, times, order=order, mode="nearest", grid_mode=True)
    return np.asarray(found, np.float32)


def rms(image: Image) -> float:
    return float(np.sqrt(np.mean(np.square(image))))


@pytest.mark.parametrize(("times", "order"), [(2, 1), (2, 3), (3, 3)])
@pytest.mark.parametrize("stored", ["float", "export"])
def test_an_enlarged_image_is_restored_and_told(times: int, order: int, stored: str) -> None:
    network = Network(SHIPPED)
    rng = np.random.default_rng(fresh_seed(520))
    small = titanate(rng).truth.astype(np.float32)[:110, :117]
    small *= np.float32(30.0 / small.max())
    data = larger(rng.poisson(small).astype(np.float32), times, order)
    truth = larger(small, times, order)
    data, truth = data[:-1], truth[:-1]  # cut, so that no size says it
    seen = np.ones(data.shape, np.bool_)
    if stored == "export":
        factor = np.float32(255.0 / data.max())
        data, truth = np.round(factor * data.clip(0.0)), factor * truth
        data[20:30, 40:100] = 255.0
        seen[20:30, 40:100] = False
    found = finished(data, network.model, network.network)
    assert found.told()["enlarged"] == times
    assert f"1/{times} of its size" in " ".join(notes(found.told() | {"frames": 1}))
    best = min(
        rms((ndimage.gaussian_filter(data, width) - truth)[seen])
        for width in np.arange(0.5, 4, 0.25)
    )
    assert rms((found.image - truth)[seen]) < 0.9 * best
    np.testing.assert_array_equal(found.image[~seen], data[~seen])
    assert found.uncertainty.shape == data.shape
    assert (found.uncertainty[seen] > 0.0).mean() > 0.98


def test_images_that_were_not_are_none() -> None:
    rng = np.random.default_rng(fresh_seed(521))
    for scene in [*specimens(), *scenes(fresh_seed(522))]:
        for dose in (5e2, 2e4):
            counts = rng.poisson(scene.electrons(dose)).astype(np.float32)
            assert times_enlarged(counts) == 1
    assert times_enlarged(rng.normal(size=(256, 256)).astype(np.float32)) == 1
    assert times_enlarged(np.zeros((256, 256), np.float32)) == 1


def test_what_is_smooth_and_has_no_noise_is_not_made_smaller() -> None:
    network = Network(SHIPPED)
    truth = fin_transistor().electrons(1e6)
    data = np.random.default_rng(fresh_seed(523)).poisson(truth).astype(np.float32)
    found = finished(data, network.model, network.network)
    assert "enlarged" not in found.told()
    assert rms(found.image - truth) < rms(data - truth)


@pytest.mark.parametrize("times", [2, 3, 4])
def test_what_is_enlarged_has_the_means_that_it_had(times: int) -> None:
    image = np.random.default_rng(fresh_seed(524)).normal(size=(70, 81)).astype(np.float32)
    whole = enlarged(image, times, (70 * times, 81 * times))
    np.testing.assert_allclose(reduced(whole, times), image, atol=1e-5)
    part = enlarged(image, times, (70 * times - 1, 81 * times - 1))
    np.testing.assert_array_equal(part, whole[:-1, :-1])
    assert reduced(part, times).shape == image.shape
