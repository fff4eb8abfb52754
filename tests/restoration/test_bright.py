"""Bright particles, brighter than anything a network has seen, and their surroundings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.restoration.score import Network
from benchmarks.restoration.truthful import fresh_seed
from stemd.engines.restoration.bright import beyond, keep_within
from stemd.engines.restoration.distortions import Tail, smear_lines, tail_kernel
from stemd.engines.restoration.finished import finished
from stemd.engines.restoration.slow_detector import undone
from stemd.offline.restoring.notes import notes

Image = NDArray[np.float32]
NETWORK = Path("stemd/models/restoration.onnx")


def particle(size: int, electrons: float, ground: float, seed: int) -> tuple[Image, Image]:
    """(recorded, truth): one bright square in a dim field."""
    truth = np.full((192, 192), ground, np.float32)
    truth[70 : 70 + size, 90 : 90 + size] = electrons
    return np.random.default_rng(seed).poisson(truth).astype(np.float32), truth


def rms(image: Image) -> float:
    return float(np.sqrt(np.mean(np.square(image))))


@pytest.mark.parametrize(("size", "electrons"), [(4, 2e3), (8, 2e3), (20, 2e3), (8, 2e4), (4, 2e4)])
def test_a_bright_particle_spoils_nothing(size: int, electrons: float) -> None:
    network = Network(NETWORK)
    for number in range(3):
        data, truth = particle(size, electrons, 5.0, fresh_seed(120 + number))
        image = network(data)
        assert rms(image - truth) < rms(data - truth)
        assert image.min() > -0.05 * electrons


def test_no_heights_to_either_side_are_drawn_into_a_broad_shape() -> None:
    network = Network(NETWORK)
    for number in range(4):
        data, truth = particle(40, 400.0, 20.0, fresh_seed(130 + number))
        alone, image = network.alone(data), network(data)
        assert rms(image - truth) < 1.3 * rms(alone - truth)


def test_sharp_edges_are_no_slow_detector_and_what_is_undone_does_not_ring() -> None:
    kernel = tail_kernel(Tail("exponential", 2.0))
    for number in range(6):
        data, truth = particle(40, 400.0, 20.0, fresh_seed(140 + number))
        assert undone(data).tail_px == 0.0
        smeared = smear_lines(data, kernel)
        assert rms(undone(smeared).image - truth) < 1.05 * rms(smeared - truth)


def test_what_is_cut_down_is_no_spike_and_comes_back() -> None:
    rng = np.random.default_rng(fresh_seed(150))
    image = rng.normal(100.0, 3.0, (96, 96)).astype(np.float32)
    image[40:48, 20:28] += 4000.0
    image[70, 70] += 4000.0
    more = beyond(image)
    assert more is not None
    left = image - more
    assert more[40:48, 20:28].min() > 3000.0
    assert np.count_nonzero(more) == 64
    assert left[70, 70] == image[70, 70]
    assert beyond(rng.poisson(5.0, (64, 64)).astype(np.float32)) is None


def test_no_pixel_is_farther_from_what_was_recorded_nearby() -> None:
    recorded = np.zeros((300, 9), np.float32)
    recorded[255:257, 4] = 10.0
    image = np.full_like(recorded, 50.0)
    found, below = image.copy(), -image
    keep_within(found, recorded, 1.0)
    keep_within(below, recorded, 1.0)
    assert set(np.unique(found)) == {1.0, 11.0}
    assert np.array_equal(np.flatnonzero((found == 11.0).any(axis=1)), np.arange(251, 261))
    assert np.array_equal(below, np.full_like(recorded, -1.0))


@pytest.mark.parametrize("shape", [(1, 192), (192, 1), (192, 2), (1, 1)])
def test_a_profile_stays_as_it_is_and_is_told(shape: tuple[int, int]) -> None:
    network = Network(NETWORK)
    data = np.random.default_rng(fresh_seed(156)).poisson(20.0, shape).astype(np.float32)
    found = finished(data, network.model, network.network)
    np.testing.assert_array_equal(found.image, data)
    if data.size > 1:
        assert "not restored" in " ".join(notes(found.told() | {"frames": 1}))
        assert 2.0 < found.uncertainty.mean() < 8.0
