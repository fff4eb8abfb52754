"""What the shipped network may and may not do, on specimens that nobody tuned on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.restoration.corrected import Recorded, alike
from benchmarks.restoration.defects import (
    PIXEL_ANGSTROM,
    Scene,
    disulfide,
    strained,
    surface,
)
from benchmarks.restoration.fields import best_gaussian, field
from benchmarks.restoration.measures import psnr
from benchmarks.restoration.score import Network
from benchmarks.restoration.truthful import CONDITIONS, fresh_seed, measured, shown
from stemd.engines.restoration.correction import find_shifts
from stemd.engines.restoration.distortions import distort
from stemd.engines.restoration.evidence.faithful import faithful

SHIPPED = Path(__file__).parents[2] / "stemd" / "models" / "restoration.onnx"


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(SHIPPED)


@pytest.mark.parametrize("condition", list(CONDITIONS))
def test_defects_keep_nine_tenths_of_what_the_recorded_image_shows(
    network: Network, condition: str
) -> None:
    seed = fresh_seed(10)
    scene = disulfide(np.random.default_rng(seed))
    truth = scene.electrons(2e4)
    data = distort(truth, CONDITIONS[condition], np.random.default_rng(seed))
    electrons = float(truth.max() / scene.truth.max())
    raw = shown(data, scene, electrons)
    for kind, values in shown(network(data), scene, electrons).items():
        part, deviation = np.array(values).T.mean(axis=1)
        recorded = np.array(raw[kind])[:, 0].mean()
        assert deviation < 0.2, "else the test says nothing"
        assert part > min(0.9, recorded - deviation), kind


@pytest.mark.parametrize("dose", [5e2, 2e3])
def test_no_row_of_atoms_stands_beyond_an_edge(network: Network, dose: float) -> None:
    left = []
    for number in range(4):
        rng = np.random.default_rng(fresh_seed(11 + number))
        scene = surface(rng)
        truth = scene.electrons(dose)
        data = distort(truth, CONDITIONS["still"], rng)
        scale = float(truth.max() / scene.truth.max())
        left.append(measured(network(data), scene, scale)["ghost %"])
    assert abs(np.mean(left)) < 1.0


@pytest.mark.parametrize(("dose", "images"), [(5e2, 8), (2e3, 4)])
def test_what_a_network_draws_beside_a_crystal_is_taken_back(
    network: Network, dose: float, images: int
) -> None:
    added, invented = [], []
    for number in range(images):
        rng = np.random.default_rng(fresh_seed(14 + number))
        scene = surface(rng, amorphous=True)
        truth = scene.electrons(dose)
        data = distort(truth, CONDITIONS["still"], rng)
        scale = float(truth.max() / scene.truth.max())
        # what noise and filter make of an image in which the crystal ends where it does
        ended = faithful(data, beyond_flat(truth, scene))
        recorded, alone, found, without = (
            measured(image, scene, scale)["ghost %"]
            for image in (data, network.alone(data), network(data), ended.image)
        )
        added.append(found - without)
        invented.append(alone - recorded)
    assert np.mean(invented) > 8.0, "else the test says nothing"
    assert abs(np.median(added)) < 1.0
    # at 500 e/A^2 noise makes two fifths of a column here and there, which is shown
    assert abs(np.mean(added)) < (1.0 if dose > 1e3 else 2.0)


def beyond_flat(truth: Any, scene: Scene) -> Any:
    """The truth without its texture beyond the crystal."""
    across = np.arange(truth.shape[1])
    last = scene.columns[:, 1].max()
    beyond = across > last + 0.4 * 3.905 / PIXEL_ANGSTROM
    image = truth.copy()
    image[:, beyond] = truth[:, beyond].mean()
    return image


def test_a_texture_is_no_worse_than_after_the_best_gaussian(network: Network) -> None:
    apart, gained = [], []
    for dose in (2e3, 5e3):
        for number in range(3):
            # the truth has chosen the gaussian's width: it is as good as a gaussian can be here
            data, truth = field(fresh_seed(20), number, 2.0, dose)
            found = psnr(network(data), truth)
            apart.append(found - best_gaussian(data, truth))
            gained.append(found - psnr(network.alone(data), truth))
    # the seed is another one in every version; of 144 fields the worst was 0.005 dB below
    assert min(apart) > -0.02
    assert min(gained) > 0.3


def test_a_strain_is_shown_as_the_recorded_image_has_it(network: Network) -> None:
    alone: list[float] = []
    followed: list[float] = []
    for number in range(3):
        rng = np.random.default_rng(fresh_seed(24 + number))
        scene = strained(rng)
        truth = scene.electrons(2e3)
        data = distort(truth, CONDITIONS["still"], rng)
        scale = float(truth.max() / scene.truth.max())
        for image, parts in ((network.alone(data), alone), (network(data), followed)):
            parts.append(measured(image, scene, scale)["followed"])
    assert np.mean(alone) < 0.85, "else the test says nothing"
    assert np.mean(followed) > 0.85


def test_still_scans_stay_and_displaced_lines_are_half_corrected(network: Network) -> None:
    seed = fresh_seed(13)
    scene = disulfide(np.random.default_rng(seed))
    inner = np.s_[4:-4, 8:-8]
    still = Recorded(scene, 2e4, 0.0, seed)
    found = find_shifts(still.dark, network(still.dark))
    assert np.sqrt(np.mean(found.y[inner] ** 2 + found.x[inner] ** 2)) < 0.03
    moved = Recorded(scene, 2e4, 0.5, seed)
    found = find_shifts(moved.dark, network(moved.dark))
    images = moved.image(), moved.image(found), moved.image(moved.shifts)
    before, after, best = (alike(image, moved.truth) for image in images)
    assert after - before > 0.5 * (best - before)


def test_a_still_crystal_beside_an_amorphous_layer_stays_where_it_is(network: Network) -> None:
    inner = np.s_[4:-4, 8:-8]
    moved = []
    for number in range(6):
        rng = np.random.default_rng(fresh_seed(50 + number))
        data = rng.poisson(surface(rng, amorphous=True).electrons(2e4)).astype(np.float32)
        found = find_shifts(data, network(data))
        moved.append(float(np.sqrt(np.mean(found.y[inner] ** 2 + found.x[inner] ** 2))))
    assert np.median(moved) < 0.01
    assert sum(each > 0.03 for each in moved) <= 1
