"""Hot and dead pixels and X-rays are found before anything is learnt; single electrons are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.restoration.defects import disulfide, titanate
from benchmarks.restoration.score import Network
from benchmarks.restoration.truthful import fresh_seed
from stemd.engines.restoration import cleaned, finished
from stemd.engines.restoration.distortions import Distortions, Jitter, Tail, distort
from stemd.engines.restoration.neighbours import pixel_noise
from stemd.engines.restoration.spikes import filled, spikes, without_spikes

Image = NDArray[np.float32]
SHIPPED = Path(__file__).parents[2] / "stemd" / "models" / "restoration.onnx"


def lattice(electrons: float, seed: int) -> tuple[Image, Image]:
    """(recorded, truth): some hundred columns, of so many electrons a pixel on average."""
    truth = titanate(np.random.default_rng(seed)).truth
    truth = (electrons * truth / truth.mean()).astype(np.float32)
    return np.random.default_rng(seed).poisson(truth).astype(np.float32), truth


def likeness(one: Image, other: Image, where: NDArray[np.bool_]) -> float:
    return float(np.corrcoef(one[where], other[where])[0, 1])


@pytest.mark.parametrize("raised", [300.0, 4000.0, 60000.0])
def test_hot_pixels_cost_the_others_nothing(monkeypatch: pytest.MonkeyPatch, raised: float) -> None:
    network = Network(SHIPPED)
    data, truth = lattice(8.0, fresh_seed(210))
    hot = np.random.default_rng(fresh_seed(211)).random(data.shape) < 0.01
    spoilt = np.where(hot, data + np.float32(raised), data)
    found = finished.finished(spoilt, network.model, network.network)
    well = network(data)
    assert found.told()["spikes"] == pytest.approx(hot.sum(), rel=0.02)
    assert likeness(found.image, truth, ~hot) > likeness(well, truth, ~hot) - 0.01
    # at the spikes, too, what is beside them is shown
    assert likeness(found.image, truth, hot) > likeness(well, truth, hot) - 0.03
    monkeypatch.setattr(cleaned, "without_spikes", lambda image: (image, 0))
    assert likeness(network(spoilt), truth, ~hot) < 0.95 * likeness(well, truth, ~hot)


@pytest.mark.parametrize("electrons", [0.1, 0.5, 2.0, 20.0])
@pytest.mark.parametrize("part", [0.0005, 0.01, 0.05])
def test_spikes_are_found_to_the_pixel(electrons: float, part: float) -> None:
    data, _ = lattice(electrons, fresh_seed(212))
    rng = np.random.default_rng(fresh_seed(213))
    hot = rng.random(data.shape) < part
    data[hot] += 4000.0
    found = spikes(data)
    assert not (found & ~hot).any()
    assert np.count_nonzero(found) > 0.97 * np.count_nonzero(hot)


def test_dead_pixels_pairs_and_streaks_are_found() -> None:
    image = np.random.default_rng(fresh_seed(214)).poisson(400.0, (128, 128)).astype(np.float32)
    gone = np.zeros(image.shape, np.bool_)
    gone[10::16, 10::16] = True
    image[gone] = 0.0
    streaks = np.zeros_like(gone)
    streaks[18::16, 10::32] = streaks[18::16, 11::32] = streaks[18::16, 12::32] = True
    streaks[20::16, 26::32] = streaks[21::16, 26::32] = True
    image[streaks] = 9000.0
    found = spikes(image)
    assert not (found & ~(gone | streaks)).any()
    for each in (gone, streaks):
        assert np.count_nonzero(found & each) > 0.9 * np.count_nonzero(each)


@pytest.mark.parametrize("mean", [0.0003, 0.003, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0])
def test_single_electrons_are_no_spikes(mean: float) -> None:
    rng = np.random.default_rng(fresh_seed(215))
    crystal = disulfide(rng).truth
    crystal = crystal / crystal.mean()
    beside = np.where(np.arange(crystal.shape[1]) < 100, crystal, 1e-3)
    for where in (np.ones((256, 256)), crystal, beside):
        counts = rng.poisson(mean * where)
        for scaled in (counts, 2000 - 37 * counts):
            assert not spikes(scaled.astype(np.float32)).any()
        # pulses of all heights, or nearly of one, over the noise of electronics
        for shape in (1.0, 10.0):
            pulses = rng.gamma(np.maximum(counts, 1) * shape, 100.0 / shape) * (counts > 0)
            seen = (pulses + rng.normal(0.0, 5.0, counts.shape)).astype(np.float32)
            assert not spikes(seen).any()
            stretched = np.floor(255.0 * (seen - seen.min()) / np.ptp(seen))
            assert not spikes(stretched.astype(np.float32)).any()


def test_what_a_probe_shows_is_no_spike() -> None:
    rng = np.random.default_rng(fresh_seed(216))
    y, x = np.mgrid[:192, :192]
    for sigma in (0.5, 0.7, 1.0):
        atoms = np.zeros((192, 192))
        for j, i in rng.uniform(5.0, 187.0, (150, 2)):
            atoms += np.exp(-((y - j) ** 2 + (x - i) ** 2) / (2.0 * sigma**2))
        for height in (20.0, 300.0, 1e4):
            for ground in (0.05, 5.0):
                assert not spikes(rng.poisson(height * atoms + ground).astype(np.float32)).any()
    shapes = np.full((192, 192), 5.0)
    shapes[20:22, 20:22] = shapes[40, 20:60] = shapes[60:100, 20] = 2000.0
    shapes[np.arange(100, 130), np.arange(100, 130)] = 2000.0
    shapes[(np.abs(y - 150) < x / 20) & (x < 150)] = 2000.0  # the tip of a needle
    assert not spikes(rng.poisson(shapes).astype(np.float32)).any()


def test_healthy_images_are_given_on_as_they_are() -> None:
    for number, (dose, distortions) in enumerate(
        (dose, each)
        for dose in (20.0, 500.0, 2e3, 2e4, 1e6)
        for each in (
            Distortions(), Distortions(jitter=Jitter()), Distortions(tail=Tail("exponential", 1.5))
        )
    ):  # fmt: skip
        rng = np.random.default_rng(fresh_seed(220 + number))
        image = distort(disulfide(rng).electrons(dose), distortions, rng)
        given, found = without_spikes(image)
        assert given is image
        assert found == 0


def test_counts_are_told_from_values_that_were_scaled() -> None:
    rng = np.random.default_rng(fresh_seed(240))
    for mean in (0.05, 0.5, 3.0, 20.0):
        counts = rng.poisson(mean, (256, 256)).astype(np.float32)
        assert pixel_noise(counts).counted
        assert pixel_noise(7.0 * counts).electron == pytest.approx(7.0)
        pulses = np.floor(rng.gamma(np.maximum(counts, 0.01), 20.0)).astype(np.float32)
        assert not pixel_noise(pulses).counted


def test_a_spike_is_filled_with_what_its_neighbours_say() -> None:
    y, x = np.mgrid[:20, :24].astype(np.float32)
    bent: Image = 3.0 + 0.5 * y - x + 0.1 * x * x + 0.2 * y * y + 0.05 * x * y
    gone = np.zeros(bent.shape, np.bool_)
    gone[5, 6] = gone[10, 18] = True
    spoilt = np.where(gone, np.float32(1e6), bent)
    np.testing.assert_allclose(filled(spoilt, gone), bent, rtol=1e-5)
    gone[0, 0] = gone[15:18, 3:6] = True
    made = filled(np.where(gone, np.float32(1e6), bent), gone)
    assert made[0, 0] == pytest.approx((bent[0, 1] + bent[1, 0] + bent[1, 1]) / 3.0)
    assert np.abs(made - bent)[gone].max() < 8.0
    np.testing.assert_array_equal(made[~gone], bent[~gone])


def test_what_is_written_in_a_label_stays() -> None:
    image = np.random.default_rng(fresh_seed(241)).poisson(20.0, (96, 96)).astype(np.float32)
    image[60:90, 20:80] = 0.0
    image[70, 30] = image[75, 44] = 4000.0  # two dots of letters
    image[70:80, 50:53] = 4000.0
    image[20, 20] = 4000.0
    cleaned, number = without_spikes(image)
    assert number == 1
    assert cleaned[20, 20] < 60.0
    np.testing.assert_array_equal(cleaned[60:90, 20:80], image[60:90, 20:80])


def test_too_small_images_have_none() -> None:
    image: np.ndarray[Any, np.dtype[np.float32]] = np.zeros((7, 40), np.float32)
    image[3, 20] = 1e6
    assert not spikes(image).any()
    assert not spikes(np.zeros((32, 32), np.float32)).any()
