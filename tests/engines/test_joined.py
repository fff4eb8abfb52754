"""A network's phase and the linear estimate joined: each where it knows more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stemd.aberrations import Aberrations
from stemd.beam import Beam
from stemd.engines.airpi.bright import Evidence
from stemd.engines.airpi.inner import Inner, rim_of
from stemd.engines.airpi.joined import AMPLITUDE, NOISY, compromise, joined
from stemd.engines.airpi.seen import PART, WIDE, Seen
from stemd.engines.airpi.slopes import Frame, Slopes
from stemd.engines.airpi.through import misfit_of
from stemd.engines.bright_field.view import Discs
from stemd.engines.lens.estimate import Frequencies, Linear
from stemd.engines.lens.rings import by_chance

BEAM, STEP, SIDE = Beam(300e3, 20.0), 0.25, 64
AT = Frequencies(np.ones((SIDE, SIDE), np.bool_), BEAM, STEP)


def waves(seed: int, strength: float = 0.1) -> np.ndarray:
    """A specimen whose waves fall off with the frequency."""
    rng = np.random.default_rng(seed)
    size = strength * SIDE * np.exp(-2.0 * (AT.y**2 + AT.x**2))
    return size * (rng.normal(size=AT.index.size) + 1j * rng.normal(size=AT.index.size))


def evidence_of(phase: np.ndarray, transfer: float, misfit: float = 1.0, seed: int = 9) -> Evidence:
    """What a bright field that transfers all waves alike says of a phase, with its noise."""
    rng = np.random.default_rng(seed)
    linear = Linear(AT, np.zeros(8))
    linear.denominator = np.full(phase.size, transfer)
    noise = rng.normal(size=(2, phase.size)) * np.sqrt(0.5 * misfit * AT.positions * transfer)
    linear.numerator = transfer * phase + noise[0] + 1j * noise[1]
    return Evidence(linear, np.full(phase.size, misfit), {})


def hears(said: np.ndarray, evidence: Evidence, part: float = NOISY) -> np.ndarray:
    """What a network shows that sees the same electrons: of their noise a part of its own gain."""
    linear = evidence.linear
    gain = np.vdot(TRUTH, said).real / np.vdot(TRUTH, TRUTH).real
    return said + part * gain * (linear.numerator / linear.denominator - TRUTH)


def off(found: np.ndarray, truth: np.ndarray) -> float:
    """Error of waves, in parts of the truth's strength."""
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


TRUTH = waves(1)
FAINT, CLEAR = 300.0, 3e4


@pytest.mark.parametrize("transfer", [FAINT, CLEAR])
@pytest.mark.parametrize("network", ["wrong", "nothing", "weak", "good"])
@pytest.mark.parametrize("part", [NOISY, 1.5 * NOISY])
def test_it_is_hardly_worse_than_either(network: str, transfer: float, part: float) -> None:
    said = {"wrong": waves(2), "nothing": 0.0 * TRUTH, "weak": 0.25 * TRUTH,
            "good": TRUTH + 0.2 * waves(3)}[network]  # fmt: skip
    evidence = evidence_of(TRUTH, transfer)
    said = hears(said, evidence, part)
    got = compromise(said, evidence).waves
    alone = compromise(0.0 * TRUTH, evidence).waves
    assert off(got, TRUTH) < 1.3 * min(off(said, TRUTH), off(alone, TRUTH))


def test_a_network_that_says_too_little_is_believed_as_far_as_it_goes() -> None:
    evidence = evidence_of(TRUTH, FAINT)
    got = compromise(hears(0.25 * TRUTH, evidence), evidence)
    alone = compromise(0.0 * TRUTH, evidence).waves
    assert off(got.waves, TRUTH) < 0.85 * off(alone, TRUTH)
    assert got.gain > 1.5
    assert got.beyond == pytest.approx(1.0, abs=0.05), (
        "what lies beyond is not made stronger than the network says"
    )


def test_what_a_wrong_network_shows_beyond_the_data_is_taken_out() -> None:
    wrong = compromise(waves(2), evidence_of(TRUTH, CLEAR))
    right = compromise(TRUTH, evidence_of(TRUTH, CLEAR))
    assert wrong.beyond < 0.1
    assert wrong.gain < 0.1
    assert right.beyond > 0.8
    assert right.gain == pytest.approx(1.0, abs=0.02)


def test_what_no_data_bear_out_is_not_believed_of_a_lens_that_the_network_does_not_know() -> None:
    said, evidence = waves(2, 0.02), evidence_of(0.0 * TRUTH, FAINT)
    known = compromise(said, evidence).waves
    blurred = compromise(said, replace(evidence, blurred=True)).waves
    assert np.linalg.norm(known) > 0.8 * np.linalg.norm(said)
    assert np.linalg.norm(blurred) < 0.5 * np.linalg.norm(said)


def test_the_centre_of_mass_does_not_decide_where_the_lens_spreads_the_probe() -> None:
    """Its noise is all that it has then, and the network was held to it."""
    rng = np.random.default_rng(5)
    image = AT.image_of(waves(2)).astype(np.float32)
    y, x = (np.asarray(g, np.float32) for g in np.gradient(image, STEP))
    slopes = Slopes(y, x, np.ones((SIDE, SIDE), np.bool_), STEP)
    noise = rng.normal(0.0, 0.01, (2, SIDE, SIDE)).astype(np.float32)
    slopes = replace(slopes, y=slopes.y + noise[0], x=slopes.x + noise[1])
    evidence, frame = evidence_of(TRUTH, CLEAR), Frame(STEP, (0.0, 0.0))
    by_slopes = joined(image, frame, evidence, STEP, BEAM, slopes)
    by_cells = joined(image, frame, replace(evidence, blurred=True), STEP, BEAM, slopes)
    true = AT.image_of(TRUTH)
    inner = np.s_[8:-8, 8:-8]
    assert np.corrcoef(by_slopes.phase[inner].ravel(), image[inner].ravel())[0, 1] > 0.95
    assert np.corrcoef(by_cells.phase[inner].ravel(), true[inner].ravel())[0, 1] > 0.95


def test_cells_that_contradict_each_other_are_believed_less() -> None:
    evidence = evidence_of(waves(4), CLEAR)
    good = TRUTH + 0.1 * waves(3)
    sure = compromise(good, evidence)
    unsure = compromise(good, replace(evidence, misfit=1e5 * evidence.misfit))
    assert off(sure.waves, waves(4)) < 0.12
    assert off(unsure.waves, good) < 0.1


@pytest.mark.parametrize("transfer", [FAINT, CLEAR])
def test_the_error_is_as_large_as_it_says(transfer: float) -> None:
    errors, told = [], []
    for seed in range(4):
        truth = waves(10 + seed)
        got = compromise(
            0.7 * truth + 0.3 * waves(20 + seed), evidence_of(truth, transfer, seed=seed)
        )
        errors.append(np.square(AT.image_of(got.waves - truth), dtype=float).mean())
        told.append(got.variance)
    assert 0.85 < np.sqrt(np.mean(told) / np.mean(errors)) < 2.0


def test_waves_of_the_scan_come_where_they_belong_on_the_images_pixels() -> None:
    y, x = np.arange(SIDE)[:, None] * STEP, np.arange(SIDE)[None, :] * STEP
    size = SIDE * STEP

    def phase(v: np.ndarray, u: np.ndarray) -> np.ndarray:
        return 0.1 * np.sin(2 * np.pi * 5 * v / size) + 0.1 * np.cos(2 * np.pi * 4 * u / size)

    spectrum = np.fft.rfft2(phase(y, x)).ravel()[AT.index]
    evidence = evidence_of(spectrum, 1e8)
    pixel, first = 0.12, (0.5, 0.8)
    v = (first[0] + pixel * np.arange(110))[:, None]
    u = (first[1] + pixel * np.arange(100))[None, :]
    blank = np.zeros((110, 100), np.float32)
    got = joined(blank, Frame(pixel, first), evidence, STEP, BEAM)
    inner = np.s_[8:-8, 8:-8]
    np.testing.assert_allclose(got.phase[inner], phase(v, u)[inner], atol=4e-3)
    assert got.sigma == pytest.approx(AMPLITUDE * 0.1, rel=0.1)


def test_without_a_bright_field_the_networks_image_stays() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(0, 0.1, (90, 90)).astype(np.float32)
    evidence = evidence_of(TRUTH, 1.0)
    evidence.linear.numerator[:], evidence.linear.denominator[:] = 0.0, 0.0
    got = joined(image, Frame(0.12, (0.3, 0.3)), evidence, STEP, BEAM)
    np.testing.assert_allclose(got.phase, image, atol=1e-5)


@pytest.mark.parametrize("airy_radii", [2.0, 5.0])
def test_coarse_steps_that_have_few_rings_of_frequencies_have_each_in_its_place(
    airy_radii: float,
) -> None:
    at = Frequencies(np.ones((SIDE, SIDE), np.bool_), BEAM, airy_radii * BEAM.airy_radius)
    linear = Linear(at, np.zeros(8))
    linear.denominator = np.full(at.index.size, CLEAR)
    linear.numerator = CLEAR * 20.0 * np.exp(-10.0 * (at.y**2 + at.x**2)).astype(np.complex128)
    evidence = Evidence(linear, np.ones(at.index.size), {})
    assert np.isfinite(compromise(0.5 * linear.numerator / CLEAR, evidence).variance)
    noise = at.positions / CLEAR
    beyond = np.abs(linear.numerator / CLEAR) ** 2 - noise
    wanted = []
    for ring in range(int(at.ring.max()) + 1):
        weight = np.where(np.abs(at.ring - ring) <= WIDE // 2, at.twice, 0.0)
        most = float((weight * beyond).sum() + noise * np.sqrt((weight**2).sum())) / weight.sum()
        wanted.append(max(most, 0.0))
    found = Seen(evidence).power_at_most()
    np.testing.assert_allclose(found, np.array(wanted)[at.ring], rtol=1e-9)


@pytest.mark.parametrize("errors", [-2.0, 0.0, 3.0])
def test_a_power_that_nobody_sees_is_expected_to_be_what_it_may_be(errors: float) -> None:
    """Against draws from what a measurement with this error leaves possible."""
    linear, noise = Linear(AT, np.zeros(8)), AT.positions / FAINT
    linear.denominator = np.full(AT.index.size, FAINT)
    ring = AT.ring.max() // 2
    twice = AT.twice[np.abs(AT.ring - ring) <= WIDE // 2]
    error = noise * np.sqrt((twice**2).sum()) / twice.sum()
    linear.numerator = FAINT * np.full(AT.index.size, np.sqrt(noise + errors * error), complex)
    found = Seen(Evidence(linear, np.ones(AT.index.size), {})).power_expected()
    may_be = np.random.default_rng(1).normal(errors * error, error, 1_000_000)
    assert found[AT.ring == ring] == pytest.approx(may_be[may_be > 0.0].mean(), rel=0.01)


def test_one_strong_wave_of_noise_does_not_pass_for_coarse_detail() -> None:
    """The coarsest ring has few waves: of many scans without a specimen some have a strong one."""
    rng = np.random.default_rng(1)
    for count in (1, 4, 50):
        sums = rng.exponential(size=(200_000, count)).sum(axis=1)
        beyond = (sums - count) / np.sqrt(count) > by_chance(np.array([float(count)]))
        assert 0.5 / 740 < beyond.mean() < 2.0 / 740
    evidence = evidence_of(0.0 * TRUTH, FAINT)
    coarsest = AT.ring == AT.ring.min()
    noise = np.sqrt(AT.positions * FAINT)
    count = float(AT.twice[coarsest].sum() ** 2 / (AT.twice[coarsest] ** 2).sum())
    strong = np.sqrt(1.0 + 0.9 * by_chance(np.array([count]))[0] / np.sqrt(count))
    evidence.linear.numerator[coarsest] = strong * noise
    got = compromise(0.0 * TRUTH, evidence).waves
    assert np.abs(got[coarsest]).max() < 0.4 * strong * noise / FAINT


def test_a_ring_of_few_waves_decides_about_its_own_error_only_where_that_is_no_chance() -> None:
    """Of three waves five standard errors are not rare: one ring of noise spoiled zeolites."""
    coarsest, nothing = AT.ring == AT.ring.min(), np.zeros(AT.index.size)
    count = float(AT.twice[coarsest].sum() ** 2 / (AT.twice[coarsest] ** 2).sum())
    noise, errors = AT.positions / FAINT, []
    for size in (5.0, 9.0):
        linear = Linear(AT, np.zeros(8))
        linear.denominator = np.full(AT.index.size, FAINT)
        beyond = 1.0 + size / np.sqrt(count)
        linear.numerator = FAINT * np.sqrt(noise * np.where(coarsest, beyond, 1.0)).astype(complex)
        seen = Seen(Evidence(linear, np.ones(AT.index.size), {}))
        errors.append(seen.error_of(0j * nothing, nothing, nothing, nothing)[coarsest].max())
    assert errors[0] == 0.0
    assert errors[1] == pytest.approx(9.0 / np.sqrt(count) * noise)


def test_where_the_network_shows_nothing_its_error_is_the_specimen() -> None:
    """It was taken for three tenths of it, so the image was smoother than that of `direct`."""
    seen, power = Seen(evidence_of(TRUTH, 1e-6)), np.ones(AT.index.size)
    for shown, wanted in ((0.0, 1.0), (1.0, 2.0 * PART), (0.5, 0.5 + 0.75 * PART)):
        error = seen.error_of(0j * TRUTH, power, shown * power, 0.0 * power)
        np.testing.assert_allclose(error, wanted, rtol=1e-3)


def test_a_strong_wave_of_noise_among_few_gives_no_power() -> None:
    linear = evidence_of(0.0 * TRUTH, FAINT).linear
    coarsest = AT.ring == AT.ring.min()
    noise = np.sqrt(AT.positions * FAINT)
    rest = linear.numerator.copy()
    rest[coarsest] = noise
    count = float(AT.twice[coarsest].sum() ** 2 / (AT.twice[coarsest] ** 2).sum())
    powers = []
    for errors in (0.9, 1.1):  # of what is exceeded once in 740 times
        beyond = errors * by_chance(np.array([count]))[0] / np.sqrt(count)
        linear.numerator = np.where(coarsest, np.sqrt(1.0 + beyond) * noise, rest)
        powers.append(linear.power()[coarsest].max())
    assert 0.0 <= powers[0] < 0.3 * powers[1]


def test_a_disagreement_that_may_be_chance_is_none_and_another_counts_wholly() -> None:
    at = Frequencies(np.ones((40, 40), np.bool_), Beam(300e3, 20.0), 0.25)
    cells, rng = 60, np.random.default_rng(5)
    # chi-square of the cells beside two fitted numbers, a complex wave each
    noise = at.positions * rng.gamma(cells - 2, size=at.index.size)
    nothing = np.zeros_like(noise)
    assert (misfit_of(at, noise, nothing, cells) == 1.0).mean() > 0.99
    wrong = misfit_of(at, 1.5 * noise, nothing, cells)
    np.testing.assert_allclose(wrong, 1.5, rtol=0.15)
    assert (misfit_of(at, 1.5 * noise, nothing, 7) == 1.0).all(), "too few cells to tell"


def test_what_is_wrong_at_the_border_is_not_taken_for_the_networks_error() -> None:
    """Positions there see beyond the scan. The network is right, and the data are noisy."""
    said = TRUTH + 0.1 * waves(3)
    evidence = evidence_of(TRUTH, FAINT)
    discs = Discs(
        lambda columns: np.zeros((0, SIDE**2), np.float32), np.zeros((0, 2)), AT.done,
        (0.0, 0.0), 5.0, 1, BEAM, STEP,
    )  # fmt: skip
    rim = rim_of(discs, Aberrations())
    assert 2 <= rim <= SIDE // 8
    wrong = AT.image_of(waves(6, 0.3))
    inner = np.s_[rim : SIDE - rim, rim : SIDE - rim]
    wrong[inner] = 0.0
    evidence.linear.numerator += FAINT * np.fft.rfft2(wrong).ravel()[AT.index]
    found = [
        AT.image_of(compromise(said, each).waves - TRUTH)[inner].std()
        for each in (evidence, replace(evidence, discs=discs, lens=Aberrations()))
    ]
    assert found[1] < 0.85 * found[0]


def test_waves_of_the_middle_have_the_power_of_the_whole() -> None:
    rng = np.random.default_rng(2)
    noise = 1.0 + 99.0 * (AT.ring > AT.ring.max() // 2)
    middle = Inner(AT, noise, 6, AT.shape)
    assert 0.3 < middle.share < 0.9
    power = np.zeros(AT.index.size)
    for _ in range(40):
        white = np.fft.rfft2(rng.normal(size=(SIDE, SIDE))).ravel()[AT.index] / SIDE
        power += np.abs(middle.of(np.sqrt(noise) * white)) ** 2 / 40
    # quiet rings beside loud ones stay quiet
    quiet = (AT.ring > 2) & (AT.ring < AT.ring.max() - 2)
    assert np.average((power / noise)[quiet], weights=AT.twice[quiet]) == pytest.approx(
        1.0, abs=0.1
    )
    edge = np.abs(AT.ring - AT.ring.max() // 2 + 1) < 1
    assert (power / noise)[edge].mean() == pytest.approx(1.0, abs=0.35)
    # of a scan that is hardly larger than its border all is compared
    np.testing.assert_array_equal(Inner(AT, noise, 25, AT.shape).of(TRUTH), TRUTH)
