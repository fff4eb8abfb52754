"""A detector slower than the dwell time, told by the noise: undone where it is, and only there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.restoration.measures import psnr
from benchmarks.restoration.score import Network
from benchmarks.restoration.specimens import specimens
from benchmarks.restoration.truthful import fresh_seed
from stemd.engines.restoration.distortions import (
    Distortions,
    Jitter,
    Tail,
    distort,
    smear_lines,
    tail_kernel,
)
from stemd.engines.restoration.finished import finished
from stemd.engines.restoration.slow_detector import undone

Image = NDArray[np.float32]

TAILS = [
    Tail("exponential", 0.7),
    Tail("exponential", 3.0),
    Tail("half_lorentzian", 3.0),
    Tail("box", 2.5),
]


def delay_px(tail: Tail) -> float:
    """How late a pulse comes on average."""
    kernel = tail_kernel(tail).astype(np.float64)
    return float(np.arange(kernel.size) @ kernel)


def smooth(seed: int, shape: tuple[int, int] = (192, 224)) -> Image:
    """Electrons a pixel of something whose finest details are some pixels wide."""
    rng = np.random.default_rng(fresh_seed(seed))
    f = np.fft.rfft2(rng.standard_normal(shape))
    y, x = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])
    field = np.fft.irfft2(f * np.exp(-np.square(np.hypot(y, x) / 0.06)), shape)
    return (30.0 + 9.0 * field / field.std()).clip(1.0).astype(np.float32)


@pytest.mark.parametrize("tail", TAILS, ids=lambda tail: f"{tail.shape} {tail.length_px}")
def test_a_tail_is_undone_by_what_the_noise_says_of_it(tail: Tail) -> None:
    truth = smooth(80)
    counted = np.random.default_rng(fresh_seed(81)).poisson(truth).astype(np.float32)
    smeared = smear_lines(counted, tail_kernel(tail))
    found = undone(smeared)
    if tail.shape != "half_lorentzian":  # most of whose delay is that of its farthest, faint end
        assert abs(found.tail_px - delay_px(tail)) < 0.15 + 0.35 * delay_px(tail)
    assert found.tail_px > 0.0
    inner = np.s_[:, 8:-8]
    if tail.shape == "box":  # what it has wiped out is not made up
        assert np.std((found.image - truth)[inner]) < 1.6 * np.std((counted - truth)[inner])
    else:
        left = np.std((found.image - counted)[inner]) / np.std((smeared - counted)[inner])
        assert left < 0.45


@pytest.mark.parametrize("tail", TAILS, ids=lambda tail: f"{tail.shape} {tail.length_px}")
def test_a_mirrored_image_has_its_tails_undone_the_other_way(tail: Tail) -> None:
    truth = smooth(97) / np.float32(10.0)  # of more, 36 / sqrt(counts a pixel) tells less
    counted = np.random.default_rng(fresh_seed(98)).poisson(truth).astype(np.float32)
    smeared = smear_lines(counted, tail_kernel(tail))
    found, mirrored = undone(smeared), undone(np.ascontiguousarray(smeared[:, ::-1]))
    assert mirrored.tail_px == pytest.approx(-found.tail_px, rel=0.05)
    inner = np.s_[:, 8:-8]
    left = (mirrored.image[:, ::-1] - found.image)[inner]
    assert np.std(left) < 0.1 * np.std((found.image - truth)[inner])


@pytest.mark.parametrize("negative", [False, True])
def test_an_even_filter_along_the_lines_is_undone_as_one(negative: bool) -> None:
    truth = smooth(99) / np.float32(10.0)
    counted = np.random.default_rng(fresh_seed(100)).poisson(truth).astype(np.float32)
    fall = np.exp(-2.0 * np.square(np.pi * 0.7 * np.fft.rfftfreq(counted.shape[1])))
    filtered = np.fft.irfft(np.fft.rfft(counted, axis=1) * fall, axis=1).astype(np.float32)
    sign = np.float32(-1.0 if negative else 1.0)
    found = undone(sign * filtered)
    assert found.tail_px == 0.0
    assert found.filtered_px == pytest.approx(0.7, rel=0.3)
    inner = np.s_[:, 8:-8]
    left = np.std((sign * found.image - counted)[inner])
    assert left < 0.5 * np.std((filtered - counted)[inner])


def test_where_the_noise_does_not_tell_a_smear_is_a_tail() -> None:
    truth = smooth(101)
    even = np.random.default_rng(fresh_seed(102)).normal(0.0, 5.0, truth.shape)
    smeared = smear_lines((truth + even).astype(np.float32), tail_kernel(Tail("exponential", 1.5)))
    for image in (smeared, np.ascontiguousarray(smeared[:, ::-1])):
        assert undone(image).tail_px > 0.0


@pytest.mark.parametrize("dose", [500.0, 1e5])
def test_displaced_lines_are_no_tail(dose: float) -> None:
    for number, specimen in enumerate(specimens()[:6]):
        seed = fresh_seed(82 + number)
        jitter = Jitter(sigma_x_px=0.8)
        image = distort(
            specimen.electrons(dose), Distortions(jitter=jitter), np.random.default_rng(seed)
        )
        assert undone(image).image is image, number


def test_flicker_offsets_of_lines_and_interpolation_are_no_tail() -> None:
    rng = np.random.default_rng(fresh_seed(90))
    truth = smooth(91, (256, 256))
    counted = rng.poisson(truth).astype(np.float32)
    time = np.fft.rfftfreq(counted.size)
    flicker = np.fft.irfft(
        np.fft.rfft(rng.standard_normal(counted.size)) / np.sqrt(time + 1.0 / counted.size)
    ).reshape(counted.shape)
    flickering = counted * (1.0 + 0.1 * flicker / flicker.std()).astype(np.float32)
    offsets = counted + rng.normal(0.0, 4.0, (256, 1)).astype(np.float32)
    soft = 0.25 * (counted + np.roll(counted, 1, 0))
    interpolated = soft + np.roll(soft, 1, 1)
    for image in (counted, flickering, offsets, interpolated):
        assert undone(image.astype(np.float32)).tail_px == 0.0


def test_what_is_undone_is_where_and_as_sharp_as_it_was() -> None:
    specimen = specimens()[0]
    truth = specimen.electrons(2e4)
    tail = Tail("exponential", 3.0)
    image = distort(truth, Distortions(tail=tail), np.random.default_rng(fresh_seed(92)))
    sharp = undone(image).image
    assert psnr(blurred(sharp), blurred(truth)) > 10.0 + psnr(blurred(image), blurred(truth))


def blurred(image: Image) -> Image:
    """Next to no noise."""
    y, x = np.fft.fftfreq(image.shape[0])[:, None], np.fft.rfftfreq(image.shape[1])
    return np.fft.irfft2(
        np.fft.rfft2(image) * np.exp(-np.square(np.hypot(y, x) / 0.12)), image.shape
    ).astype(np.float32)


def test_a_large_image_is_undone_as_a_part_of_it_would_be() -> None:
    truth = smooth(93, (700, 1300))
    counted = np.random.default_rng(fresh_seed(94)).poisson(truth).astype(np.float32)
    smeared = smear_lines(counted, tail_kernel(Tail("exponential", 2.0)))
    whole, part = undone(smeared), undone(smeared[100:500, 200:700])
    assert abs(whole.tail_px - part.tail_px) < 0.3
    inner = np.s_[:, 16:-16]
    difference = whole.image[100:500, 200:700] - part.image
    assert np.std(difference[inner]) < 0.15 * np.std((smeared - counted)[inner]) + 0.2


@pytest.mark.parametrize("shape", [(8, 300), (300, 63), (64, 64)])
def test_small_images_stay_or_are_finite(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(fresh_seed(95))
    image = smear_lines(
        rng.poisson(9.0, shape).astype(np.float32), tail_kernel(Tail("exponential", 2.0))
    )
    assert np.isfinite(undone(image).image).all()
    assert undone(np.ones(shape, np.float32)).tail_px == 0.0


def test_a_smeared_image_is_restored_nearly_as_well_as_a_sharp_one() -> None:
    network = Network(Path("stemd/models/restoration.onnx"))
    specimen = specimens()[0]
    truth, tail = specimen.electrons(5e3), Tail("exponential", 3.0)
    sharp, smeared = (
        distort(truth, Distortions(tail=each), np.random.default_rng(fresh_seed(96)))
        for each in (None, tail)
    )
    assert psnr(network(smeared), truth) > psnr(network(sharp), truth) - 3.0
    found = finished(smeared, network.model, network.network)
    assert abs(found.told()["tail_px"] - delay_px(tail)) < 0.8
    assert "tail_px" not in finished(sharp, network.model, network.network).told()
    mirrored = finished(np.ascontiguousarray(smeared[:, ::-1]), network.model, network.network)
    assert mirrored.told()["tail_px"] == pytest.approx(-found.told()["tail_px"], abs=0.1)
