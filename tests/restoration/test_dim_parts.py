"""What is dim beside the rest of an image is not restored on the scale of that rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.restoration.defects import surface, titanate
from benchmarks.restoration.score import Network
from benchmarks.restoration.truthful import fresh_seed
from stemd.engines.restoration import finished
from stemd.engines.restoration.dim_parts import LOST, Squares

Image = NDArray[np.float32]
SHIPPED = Path(__file__).parents[2] / "stemd" / "models" / "restoration.onnx"


def crystal(seed: int) -> Image:
    truth: Image = titanate(np.random.default_rng(seed)).truth.astype(np.float32)
    return truth / truth.mean()


def likeness(one: Image, other: Image, part: tuple[slice, slice]) -> float:
    return float(np.corrcoef(one[part].ravel(), other[part].ravel())[0, 1])


@pytest.mark.parametrize("decades", [3.0, 4.0, 5.0])
def test_the_dark_end_of_a_gradient_is_restored_too(
    monkeypatch: pytest.MonkeyPatch, decades: float
) -> None:
    network = Network(SHIPPED)
    truth = crystal(fresh_seed(260))
    gain = 10.0 ** np.linspace(0.0, decades, truth.shape[1]).astype(np.float32)
    data = gain * np.random.default_rng(fresh_seed(261)).poisson(8.0 * truth).astype(np.float32)
    dark = np.s_[:, : truth.shape[1] // 4]
    found = finished.finished(data, network.model, network.network)
    assert likeness(found.image / gain, truth, dark) > likeness(data / gain, truth, dark)
    assert found.told()["dim"] > 0.02
    monkeypatch.setattr(finished, "LOST", 1e30)
    before = network(data)
    assert likeness(before / gain, truth, dark) < likeness(found.image / gain, truth, dark) - 0.05
    bright = np.s_[:, -truth.shape[1] // 4 :]
    np.testing.assert_array_equal(found.image[bright], before[bright])


def test_a_dim_support_beside_a_bright_particle_is_restored_by_itself() -> None:
    network = Network(SHIPPED)
    truth = crystal(fresh_seed(262))
    half = truth.shape[1] // 2
    bright = np.where(np.arange(truth.shape[1]) < half, 3.0, 3e4)
    data = np.random.default_rng(fresh_seed(263)).poisson(bright * truth).astype(np.float32)
    found = finished.finished(data, network.model, network.network)
    dim = np.s_[:, : half - 16]
    assert likeness(found.image, truth, dim) > likeness(data, truth, dim) + 0.1
    assert found.told()["dim"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("dose", [500.0, 2e4])
def test_vacuum_beside_a_crystal_is_not_lost(dose: float) -> None:
    network = Network(SHIPPED)
    rng = np.random.default_rng(fresh_seed(264))
    truth = surface(rng).electrons(dose)
    data = rng.poisson(truth).astype(np.float32)
    found = finished.finished(data, network.model, network.network)
    assert "dim" not in found.told()


def test_where_vacuum_is_restored_by_itself_it_is_nearer_to_the_truth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = Network(SHIPPED)
    rng = np.random.default_rng(fresh_seed(264))
    truth = surface(rng).electrons(2e5)
    data = rng.poisson(truth).astype(np.float32)
    # as by itself where more is missing
    monkeypatch.setattr(finished, "LOST", 1.0)
    found = network(data)
    monkeypatch.setattr(finished, "LOST", 1e30)
    before = network(data)
    again = found != before
    assert again.mean() > 0.02, "else the test says nothing"
    errors = [float(np.std((image - truth)[again])) for image in (found, before)]
    assert errors[0] < 0.7 * errors[1]


def test_what_noise_lets_miss_is_one_and_what_was_made_up_is_more() -> None:
    rng = np.random.default_rng(fresh_seed(265))
    image = rng.normal(0.0, 1.0, (600, 203)).astype(np.float32)
    image[:, 120:] *= 1e3
    squares = Squares(image)
    assert squares.dim[:, :15].all()
    assert not squares.dim[:, 15:].any()
    truth = np.zeros_like(image)
    misses = squares.misses(truth)
    assert misses[:, :12].mean() == pytest.approx(1.0, rel=0.1)
    assert not misses[:, 15:].any()
    truth[200:300, :60] += 2.0
    made_up = squares.misses(truth) > LOST
    assert made_up[26:36, :7].all()
    assert not made_up[:23].any()
    weights = squares.weights(made_up, squares.alike(made_up))
    assert (weights[squares.pixels(made_up)] == 1.0).all()
    assert not weights[:, 120:].any()
