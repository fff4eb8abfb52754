"""Drawings stay as they are, and repeated lines and columns are restored once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.restoration.defects import titanate
from benchmarks.restoration.score import Network
from benchmarks.restoration.truthful import fresh_seed
from stemd.engines.restoration.drawn import drawn_levels, repeated
from stemd.engines.restoration.finished import finished
from stemd.offline.restoring.notes import notes

Image = NDArray[np.float32]
SHIPPED = Path(__file__).parents[2] / "stemd" / "models" / "restoration.onnx"


def crystal(seed: int) -> Image:
    """Some hundred columns, between 0 and 1."""
    truth: Image = titanate(np.random.default_rng(seed)).truth.astype(np.float32)
    return (truth - truth.min()) / np.ptp(truth)


@pytest.mark.parametrize("part", [0.1, 0.3, 0.6])
def test_a_mask_stays_as_it_is_and_is_told(part: float) -> None:
    network = Network(SHIPPED)
    mask = np.where(crystal(fresh_seed(250)) > part, np.float32(255.0), np.float32(0.0))
    found = finished(mask, network.model, network.network)
    np.testing.assert_array_equal(found.image, mask)
    assert not found.uncertainty.any()
    assert found.told()["levels"] == 2
    assert "2 levels" in " ".join(notes(found.told() | {"frames": 1}))


def test_a_map_of_a_few_levels_is_a_drawing_and_a_smooth_image_is_none() -> None:
    truth = crystal(fresh_seed(251))
    assert drawn_levels(np.floor(5.0 * truth)) == 6
    assert drawn_levels(np.floor(200.0 * truth)) == 0
    assert drawn_levels(np.zeros((64, 64), np.float32)) == 1


@pytest.mark.parametrize("mean", [0.003, 0.03, 0.3, 1.0, 3.0])
def test_few_counts_are_no_drawing(mean: float) -> None:
    rng = np.random.default_rng(fresh_seed(252))
    truth = mean * (crystal(fresh_seed(253)) + 0.05)
    counts = rng.poisson(truth).astype(np.float32)
    yes_or_no = (counts > 0).astype(np.float32)
    labelled = counts.copy()
    labelled[10:60, 10:120] = 200.0
    for y in range(16, 54, 8):
        labelled[y : y + 2, 20:110] = 0.0
    for image in (counts, 40.0 * counts, yes_or_no, labelled):
        assert drawn_levels(image) == 0
        assert repeated(image) is None


@pytest.mark.parametrize(("times", "first"), [((2, 1), 0), ((1, 2), 0), ((2, 2), 1), ((3, 1), 2)])
def test_repeated_lines_and_columns_are_restored_once(times: tuple[int, int], first: int) -> None:
    network = Network(SHIPPED)
    truth = crystal(fresh_seed(254)) * 20.0 + 2.0
    data = np.random.default_rng(fresh_seed(255)).poisson(truth).astype(np.float32)

    def again(image: Image) -> Image:
        return np.repeat(np.repeat(image, times[0], 0), times[1], 1)[first:]

    found = finished(again(data), network.model, network.network)
    assert found.told()["repeated"] == list(times)
    # of a group that was cut off nothing is known but what is left of it
    np.testing.assert_array_equal(found.image, again(network(data)))
    assert np.corrcoef(found.image.ravel(), again(truth).ravel())[0, 1] > 0.98


def test_lines_that_are_alike_here_and_there_are_not_repeated() -> None:
    rng = np.random.default_rng(fresh_seed(256))
    image = rng.poisson(5.0, (128, 128)).astype(np.float32)
    assert repeated(image) is None
    image[1::2] = image[::2]
    assert repeated(image) is not None
    image[41] += 1.0
    assert repeated(image) is None
    few = np.zeros((128, 128), np.float32)
    few[::16] = 1.0
    assert repeated(few) is None


def test_notes_say_one_of_a_thing_in_the_singular() -> None:
    assert list(notes({"repeated": [2, 1], "departing": 0.0})) == [
        "each line is there 2 times, each column 1 time: each was restored once, and is as "
        "often in the restored image"
    ]
