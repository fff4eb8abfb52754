"""A restored image yields to the recorded one: no atom added, none removed, no order invented."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from benchmarks.restoration.defects import (
    Scene,
    _columns,
    dislocated,
    disulfide,
    film,
    strained,
    surface,
    titanate,
)
from benchmarks.restoration.measures import psnr
from benchmarks.restoration.truthful import displacements, fresh_seed, heights, shown
from stemd.engines.restoration.distortions import Tail, smear_lines, tail_kernel
from stemd.engines.restoration.evidence import agreement
from stemd.engines.restoration.evidence.columns import (
    RIDGE,
    Columns,
    maxima,
    profile_of,
    usual_width,
)
from stemd.engines.restoration.evidence.everywhere import height_map
from stemd.engines.restoration.evidence.faithful import AROUND, faithful
from stemd.engines.restoration.evidence.ground import over_ground
from stemd.engines.restoration.evidence.lattice import chance_root, drawn_to_lattice
from stemd.engines.restoration.evidence.noise import pixel_variance, without_tail
from stemd.engines.restoration.evidence.places import put_back
from stemd.engines.restoration.evidence.texture import texture

Image = np.ndarray[Any, np.dtype[np.float32]]


def recorded(scene: Scene, dose: float, seed: int) -> tuple[Image, Image, float]:
    """(data, truth, electrons of a fraction of 1)."""
    truth = scene.electrons(dose)
    data = np.random.default_rng(seed).poisson(truth).astype(np.float32)
    return data, truth, float(truth.max() / scene.truth.max())


def smooth(image: Any, sigma: float) -> Image:
    fy, fx = (np.fft.fftfreq(n) for n in image.shape)
    low = np.exp(-2.0 * (np.pi * sigma) ** 2 * (fy[:, None] ** 2 + fx[None] ** 2))
    return np.fft.ifft2(np.fft.fft2(image) * low).real.astype(np.float32)


def test_defects_that_were_painted_over_are_shown_again() -> None:
    seed = fresh_seed(1)
    scene = disulfide(np.random.default_rng(seed))
    data, _, electrons = recorded(scene, 4e4, seed)
    painted = (scene.perfect * electrons).astype(np.float32)
    found = faithful(data, painted)
    for kind, values in shown(found.image, scene, electrons).items():
        part, deviation = np.array(values).T
        raw = np.array(shown(data, scene, electrons)[kind])[:, 0]
        assert 1.0 / deviation.mean() > 5.0, "else the test says nothing"
        assert part.mean() > 0.9 * min(1.0, raw.mean()), kind
    assert found.strays >= 4  # the atoms on hollow sites


def test_faint_defects_are_within_a_deviation_of_what_was_recorded() -> None:
    seed = fresh_seed(2)
    scene = disulfide(np.random.default_rng(seed))
    data, _, electrons = recorded(scene, 4e3, seed)
    found = faithful(data, (scene.perfect * electrons).astype(np.float32))
    for kind in ("vacancy", "half", "dopant"):
        part, deviation = np.array(shown(found.image, scene, electrons)[kind]).T
        raw = np.array(shown(data, scene, electrons)[kind])[:, 0]
        assert abs(part.mean() - raw.mean()) < deviation.mean(), kind


def test_columns_that_were_made_alike_have_their_own_heights_again() -> None:
    seed = fresh_seed(3)
    scene = titanate(np.random.default_rng(seed))
    data, truth, electrons = recorded(scene, 2e3, seed)
    # each column as high as its kind is on average
    alike = scene.perfect * electrons
    places = scene.columns[:, :2]
    columns = Columns(np.round(places).astype(np.int64), profile_of(2.8), 16.0)
    true = heights(truth, places)
    kind = true > np.median(true)
    usual = np.where(kind, true[kind].mean(), true[~kind].mean())
    flat = (alike + columns.drawn(usual - heights(alike, places), truth.shape)).astype(np.float32)
    before = np.polyfit(true, heights(flat, places), 1)[0]
    after = np.polyfit(true, heights(faithful(data, flat).image, places), 1)[0]
    assert before < 0.9
    assert after > 0.95


@pytest.mark.parametrize("dose", [5e2, 2e3])
@pytest.mark.parametrize("amorphous", [False, True])
def test_ghosts_beyond_an_edge_are_gone(dose: float, amorphous: bool) -> None:
    left = []
    for seed in map(fresh_seed, (4, 44, 45, 46, 47)):
        scene = surface(np.random.default_rng(seed), amorphous=amorphous)
        data, truth, electrons = recorded(scene, dose, seed)
        ghosts = Columns(np.round(scene.beyond).astype(np.int64), profile_of(2.8), 16.0)
        height = 0.1 * electrons
        shown_ = truth + ghosts.drawn(np.full(len(scene.beyond), 0.1 * height), truth.shape)
        # what noise makes of an image without ghosts is none of them
        found = faithful(data, shown_).image - faithful(data, truth).image
        left.append(heights(found, scene.beyond).mean() / height)
    # of the tenth that was drawn: at 500 e/A^2 five electrons a column
    assert abs(np.mean(left)) < (0.01 if dose > 1e3 else 0.02)


def test_an_amorphous_field_is_no_worse_than_after_the_best_gaussian() -> None:
    seed = fresh_seed(5)
    scene = film(np.random.default_rng(seed))
    data, truth, _ = recorded(scene, 2e3, seed)
    best = max(psnr(smooth(data, sigma), truth) for sigma in (1.5, 2.0, 2.5, 3.0, 4.0))
    # specks and plastic: single coefficients above a threshold
    f = np.fft.rfft2(data - data.mean())
    power = np.abs(f) ** 2
    specks = np.fft.irfft2(f * (power > 6.0 * np.median(power)), data.shape) + data.mean()
    assert psnr(specks.astype(np.float32), truth) < best
    assert psnr(faithful(data, specks.astype(np.float32)).image, truth) > best - 0.1


@pytest.mark.parametrize("told", [0.93, 1.0, 1.07])
def test_noise_that_is_told_a_little_wrongly_is_filtered_as_what_it_is(told: float) -> None:
    seed = fresh_seed(15)
    data, truth, _ = recorded(film(np.random.default_rng(seed)), 5e2, seed)
    variance = np.full_like(data, data.mean())
    right, wrong = (
        psnr(texture(data, np.float32(part) * variance)[0], truth) for part in (1.0, told)
    )
    assert wrong > right - 0.05


def test_the_corners_of_a_texture_are_like_one() -> None:
    # half mirrored windows have powers as uneven as those of a shape
    for number in range(6):
        seed = fresh_seed(60 + number)
        data, _, _ = recorded(film(np.random.default_rng(seed)), 5e3, seed)
        _, like, _ = texture(data, np.full_like(data, data.mean()))
        assert like.min() > 0.9


def test_noise_does_not_grow_faster_with_brightness_than_electrons_do() -> None:
    seed = fresh_seed(16)
    data, truth, _ = recorded(film(np.random.default_rng(seed)), 1e3, seed)
    # bright places are bright by their own noise, and less than they are
    shown_ = truth.mean() + np.float32(0.4) * (smooth(data, 1.5) - truth.mean())
    steep, counted = (
        np.ptp(pixel_variance(data, shown_, counted=each)) / np.ptp(shown_)
        for each in (False, True)
    )
    assert steep > 1.4, "else the test says nothing"
    assert 0.8 < counted < 1.2


def test_of_pure_noise_nothing_is_shown() -> None:
    data = np.random.default_rng(0).poisson(2.0, (192, 192)).astype(np.float32)
    found = faithful(data, np.full_like(data, 2.0))
    assert found.image.std() < 0.06 * data.std()
    assert found.strays <= 2
    assert found.departing < 1e-4


def test_the_uncertainty_is_the_error_of_a_column() -> None:
    seed = fresh_seed(6)
    scene = titanate(np.random.default_rng(seed))
    data, truth, electrons = recorded(scene, 2e4, seed)
    found = faithful(data, (scene.perfect * electrons).astype(np.float32))
    at = np.round(scene.columns[:, :2]).astype(int)
    error = height_map(found.image - truth, profile_of(2.8))[at[:, 0], at[:, 1]]
    said = found.uncertainty[at[:, 0], at[:, 1]]
    within = np.mean(np.abs(error) < said)
    assert 0.55 < within < 0.95
    assert np.mean(np.abs(error) < 2.0 * said) > 0.88


def test_what_contradicts_the_recorded_image_is_told() -> None:
    rng = np.random.default_rng(0)
    truth = np.full((128, 128), 20.0, np.float32)
    truth[40:80, 40:80] += np.arange(40, dtype=np.float32)
    data = rng.poisson(truth).astype(np.float32)
    found = faithful(data, truth)
    assert found.departing < 1e-3


def test_a_tail_is_undone_by_what_the_noise_says_of_it() -> None:
    rng = np.random.default_rng(2)
    truth = 20.0 + 10.0 * smooth(rng.standard_normal((160, 200)), 2.5) * 8.0
    counted = rng.poisson(np.maximum(truth, 0.0)).astype(np.float32)
    smeared = smear_lines(counted, tail_kernel(Tail("exponential", 1.5)))
    shown = truth.astype(np.float32)
    undone = without_tail(smeared, shown, smeared - shown)
    inner = np.s_[:, 8:-8]
    assert np.std((undone - counted)[inner]) < 0.35 * np.std((smeared - counted)[inner])
    np.testing.assert_array_equal(without_tail(counted, shown, counted - shown), counted)


def test_the_noise_of_counting_is_found_under_columns_that_are_shown_wrongly() -> None:
    scene = titanate(np.random.default_rng(0))
    data, truth, _ = recorded(scene, 2e4, 1)
    variance = pixel_variance(data, truth * np.float32(0.8))
    np.testing.assert_allclose(variance, truth, rtol=0.25, atol=0.1 * truth.mean())


def test_heights_are_those_of_least_squares_all_at_once() -> None:
    rng = np.random.default_rng(0)
    places = np.array([[12, 12], [12, 18], [20, 15], [30, 30], [1, 38]])
    columns = Columns(places, profile_of(2.5), 12.0)
    image = rng.standard_normal((40, 40)).astype(np.float32)
    drawn = [columns.drawn(unit, image.shape) for unit in np.eye(len(places))]
    design, over = (
        np.stack([each.ravel() for each in images], 1).astype(np.float64)
        for images in (drawn, [over_ground(each, 12.0) for each in drawn])
    )
    expected = np.linalg.solve(
        design.T @ over + RIDGE * np.square(columns.profile).sum() * np.eye(len(places)),
        over.T @ image.ravel(),
    )
    np.testing.assert_allclose(columns.heights(image), expected, atol=1e-3)


@pytest.mark.parametrize(("shape", "width"), [((64, 80), 16.0), ((50, 41), 12.0), ((20, 17), 3.0)])
def test_the_ground_is_a_mean_over_many_pixels(shape: tuple[int, int], width: float) -> None:
    one, other = np.random.default_rng(1).standard_normal((2, *shape)).astype(np.float32)
    step = max(1, int(width / 4.0))
    rows, lines = (np.arange(0, n, step) for n in shape)
    sums, there = (
        np.add.reduceat(np.add.reduceat(each, rows, axis=0), lines, axis=1) / step**2
        for each in (one, np.ones(shape))
    )
    sigma = width / step
    reach = max(1, int(2.5 * sigma))
    share = ndimage.gaussian_filter(there, sigma, radius=reach) ** -0.5
    means = share * ndimage.gaussian_filter(share * sums, sigma, radius=reach)
    ground = means.repeat(step, axis=0).repeat(step, axis=1)[: shape[0], : shape[1]]
    np.testing.assert_allclose(over_ground(one, width), one - ground, atol=1e-5)
    assert np.vdot(one, over_ground(other, width)) == pytest.approx(
        np.vdot(over_ground(one, width), other), abs=1e-2
    )
    even = np.ones(shape, np.float32)
    np.testing.assert_allclose(over_ground(even, width), 0.0, atol=0.05)


def test_columns_on_a_ground_that_is_shown_too_low_have_the_heights_that_they_miss() -> None:
    axis = np.arange(12, 250, 12)
    places = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    columns = Columns(places, profile_of(2.8), 16.0)
    missing = columns.drawn(np.full(len(places), 0.4), (262, 262))
    kept_mean = missing - missing.mean()
    inner = np.all((places > 40) & (places < 222), axis=1)
    np.testing.assert_allclose(columns.heights(kept_mean)[inner], 0.4, rtol=0.05)


def test_widths_and_heights_of_columns_are_found() -> None:
    places = np.stack(np.meshgrid(np.arange(12, 150, 16), np.arange(12, 150, 16)), -1)
    columns = Columns(places.reshape(-1, 2), profile_of(2.6), 16.0)
    image = columns.drawn(np.full(len(columns.places), 4.0), (160, 160)) + np.float32(1.0)
    place, height, width = maxima(image)
    assert len(place) == len(columns.places)
    np.testing.assert_allclose(height, 4.0, rtol=0.05)
    assert usual_width(height, width) == pytest.approx(2.6, rel=0.1)


def test_columns_are_judged_by_their_neighbours_of_one_kind() -> None:
    rng = np.random.default_rng(0)
    n = 60
    places = rng.integers(0, 200, (n, 2))
    height = np.where(np.arange(n) % 2, 10.0, 1.0)
    deviation = rng.uniform(0.2, 0.5, n)
    residual = rng.normal(0.0, deviation) - np.where(height < 5.0, 0.8, 0.0)
    doubt = rng.normal(0.0, 0.2, n)
    radius = AROUND * 2.5
    expected = np.empty(n)
    for k in range(n):
        near = np.hypot(*(places - places[k]).T) <= radius
        like = near & (height <= 2.0 * height[k]) & (height[k] <= 2.0 * height)
        information = (height[like] ** 2 / deviation[like] ** 2).sum()
        part = (height[like] * residual[like] / deviation[like] ** 2).sum() / information
        part *= max(0.0, 1.0 - 1.0 / (part**2 * information))
        scatter = np.mean(((residual[like] - part * height[like]) / deviation[like]) ** 2)
        own = residual[k] - part * height[k]
        seen = np.clip((doubt[k] * np.sign(own) / deviation[k] - 0.2) / 0.2, 0.0, 1.0)
        scatter -= np.sqrt(2.0 / like.sum())
        furthest = (1.0 + seen * (0.2 - 1.0)) / max(scatter, 1.0) ** 2
        z = abs(own) / deviation[k]
        firm = np.clip(4.5 - z, 0.0, 1.0)
        high = (height[near] ** 3).sum() / (height[near] ** 2).sum() / deviation[k]
        high = max(np.clip((high - 0.6) / 0.9, 0.0, 1.0), 1.0 - firm)
        expected[k] = part * height[k] + max(0.0, 1.0 - firm * furthest / z) * high * own
    found = agreement.believed(residual, deviation, height, doubt, places, radius)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def square_lattice(side: int = 24, step: int = 10) -> Any:
    axis = np.arange(side) * step + 8
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)


def test_columns_that_are_lower_than_their_noise_are_no_atoms_of_several_times_their_height() -> (
    None
):
    rng = np.random.default_rng(fresh_seed(30))
    places = square_lattice()
    n = len(places)
    height, deviation = np.full(n, 0.5), np.ones(n)
    residual = rng.standard_normal(n)
    residual[7] = 6.0  # something that is certainly there is shown
    found = agreement.believed(residual, deviation, height, np.zeros(n), places, 60.0)
    assert found[7] > 5.5
    assert np.abs(np.delete(found, 7)).max() < 0.5


def test_a_lattice_without_defects_has_next_to_none_of_its_noise_and_vacancies_stay() -> None:
    rng = np.random.default_rng(fresh_seed(31))
    places = square_lattice()
    n = len(places)
    lattice, deviation = np.full(n, 6.0), np.ones(n)
    electrons = rng.standard_normal(n)
    missing = rng.permutation(n)[:6]  # far too few to be another lattice
    apart = electrons.copy()
    apart[missing] -= 6.0
    beyond = 0.5 * apart  # the restored image has a half of all that
    found = drawn_to_lattice(apart - beyond, beyond, lattice, deviation, 0.0, places, 60.0)
    assert np.mean(found.agree) > 0.9
    kept = beyond + found.drawn
    others = np.delete(np.arange(n), missing)
    assert np.mean(kept[others] ** 2) < 0.3
    assert np.abs(kept - apart).max() < 1.2  # none is far from what was recorded
    assert np.mean(kept[missing]) == pytest.approx(np.mean(apart[missing]), abs=0.15)
    assert found.outlier[missing].min() == 1.0
    assert np.mean(found.outlier[others]) < 0.03


def test_a_vacancy_of_few_electrons_keeps_more_than_normal_noise_would() -> None:
    rng = np.random.default_rng(fresh_seed(31))
    places = square_lattice()
    n = len(places)
    expected = 6.0  # electrons a column: none of them is rarer than twelve
    counts = rng.poisson(expected, n).astype(np.float64)
    missing = rng.permutation(n)[:6]
    counts[missing] = 0.0
    apart, deviation = counts - expected, np.full(n, np.sqrt(expected))
    lattice, nothing = np.full(n, expected), np.zeros(n)
    counted, even = (
        drawn_to_lattice(apart, nothing, lattice, deviation, own, places, 60.0)
        for own in (1.0, 0.0)
    )
    assert counted.outlier[missing].min() == 1.0
    assert np.mean(even.outlier[missing]) < 0.97
    assert np.mean(counted.outlier) < 0.1
    # what is taken away of the others' noise moves none of them to either side
    others = np.delete(np.arange(n), missing)
    assert abs(np.mean(counted.drawn[others] - apart[others])) < 0.3


def test_what_is_rare_among_counts_is_as_far_as_what_is_as_rare_in_normal_noise() -> None:
    deviation = np.full(4, np.sqrt(6.0))
    found = chance_root(np.array([-6.0, 6.0, 0.0, -1e-6]), deviation, 1.0)
    np.testing.assert_allclose(found, [-3.464, 2.153, 0.0, -1e-6 / np.sqrt(6.0)], atol=1e-3)
    for own in (0.0, 1e-9):
        np.testing.assert_allclose(chance_root(deviation, deviation, own), 1.0, rtol=1e-6)
    # inverted contrast: electrons are missing where it is high
    np.testing.assert_allclose(
        chance_root(-deviation, deviation, -1.0), -chance_root(deviation, deviation, 1.0)
    )


def test_columns_that_really_differ_are_not_drawn_to_a_lattice() -> None:
    rng = np.random.default_rng(fresh_seed(32))
    places = square_lattice()
    n = len(places)
    apart = rng.normal(0.0, 2.0, n)
    agree = drawn_to_lattice(
        apart, np.zeros(n), np.full(n, 6.0), np.ones(n), 0.0, places, 60.0
    ).agree
    assert agree.max() == 0.0
    few = drawn_to_lattice(
        np.zeros(4), np.zeros(4), np.full(4, 6.0), np.ones(4), 0.0, places[:4], 60.0
    ).agree
    assert few.max() == 0.0, "too few to say anything"


@pytest.mark.parametrize("shape", [(1, 5), (15, 40), (16, 16), (17, 33), (40, 16), (63, 65)])
@pytest.mark.parametrize("kind", ["noise", "flat", "empty", "point"])
def test_any_image_has_a_finite_result(shape: tuple[int, int], kind: str) -> None:
    data = np.zeros(shape, np.float32)
    if kind == "noise":
        data = np.random.default_rng(0).normal(0.0, 1.0, shape).astype(np.float32)
    if kind == "flat":
        data += 3.0
    if kind == "point":
        data[shape[0] // 2, shape[1] // 2] = 100.0
    for restored in (data, np.full_like(data, data.mean())):
        found = faithful(data, restored)
        for part in (found.image, found.uncertainty, found.departure):
            assert part.shape == shape
            assert np.isfinite(part).all()


def test_a_texture_is_filtered_as_well_as_by_the_gaussian_that_the_truth_chooses() -> None:
    apart = []
    for number in range(4):
        rng = np.random.default_rng(fresh_seed(40 + number))
        truth = film(rng).electrons(5e2)
        data = rng.poisson(truth).astype(np.float32)
        filtered, _, _ = texture(data, np.full(data.shape, data.mean(), np.float32))
        best = max(psnr(smooth(data, width), truth) for width in np.arange(1.0, 4.5, 0.25))
        apart.append(psnr(filtered, truth) - best)
    assert np.mean(apart) > 0.0


def test_columns_are_moved_to_where_the_recorded_image_has_them() -> None:
    scene = strained(np.random.default_rng(fresh_seed(45)))
    heights = scene.columns[:, 2]
    electrons = recorded(scene, 2e3, 1)[2]
    lattice = (electrons * (0.012 + _columns(scene.sites, heights))).astype(np.float32)
    whole = (electrons * (0.012 + _columns(scene.columns[:, :2], heights))).astype(np.float32)
    noisy = np.random.default_rng(2).poisson(whole).astype(np.float32)
    ones = np.ones_like(whole)
    found = put_back(noisy, lattice, whole, ones, 2.8)
    assert displacements(lattice, whole, scene)["followed"] < 0.1
    assert displacements(found, whole, scene)["followed"] > 0.9
    # what is where it belongs stays there, but for a part of what noise makes of it
    still = put_back(noisy, whole, whole, ones, 2.8)
    assert psnr(still, whole) > psnr(found, whole)
    assert displacements(still, whole, scene)["position px"] < 0.12
    np.testing.assert_array_equal(put_back(noisy, lattice, whole, 0.0 * ones, 2.8), lattice)


@pytest.mark.parametrize("make", [strained, dislocated])
def test_the_judge_of_positions_tells_a_lattice_from_the_truth(make: Any) -> None:
    scene = make(np.random.default_rng(fresh_seed(44)))
    truth = scene.electrons(2e4)
    same = displacements(truth, truth, scene)
    assert same["position px"] == 0.0
    assert same["followed"] == pytest.approx(1.0)
    near = np.ones(len(scene.sites), np.bool_)
    if scene.core is not None:
        near = np.hypot(*(scene.columns[:, :2] - scene.core).T) > 60.0
    lattice = replace(scene, columns=scene.columns[near], sites=scene.sites[near], core=None)
    halfway = 0.5 * (lattice.sites + lattice.columns[:, :2])
    heights = lattice.columns[:, 2]
    drawn = (0.012 + _columns(halfway, heights)).astype(np.float32)
    whole = (0.012 + _columns(lattice.columns[:, :2], heights)).astype(np.float32)
    assert displacements(drawn, whole, lattice)["followed"] == pytest.approx(0.5, abs=0.1)
