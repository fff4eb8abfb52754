"""The live image of `direct`: its sums, which lines are added when, and how near it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from stemd.aberrations import Aberrations
from stemd.acquisition import Optics
from stemd.beam import Beam
from stemd.engines.beside.positions_taken import PositionsTaken
from stemd.engines.direct.growing import LATE_S, GrowingPhase, LinesToAdd
from stemd.engines.direct.line_kernels import LineKernels, line_kernels
from stemd.engines.kernels.growing import add_lines, mix_cells
from stemd.engines.kernels.line_products import EIGHT
from stemd.engines.kernels.transforms import Columns, quick_length
from stemd.engines.lens.estimate import Cell, Frequencies, Linear
from stemd.scan.run import ScanRun
from tests.engines import weak_phase
from tests.engines.scenes import acquisition_of, blocks_of, engine, settings_of


def until(true: Callable[[], bool]) -> None:
    """Wait until it is so."""
    end = time.monotonic() + 60.0
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


BEAM = Beam(300e3, 20.0)
LENS = Aberrations(defocus=20.0, astigmatism_x=10.0)
SIDE, FIELD, PER_ANGLE = 40, 10.0, 4
STEP = FIELD / SIDE


@pytest.fixture(scope="module")
def shares() -> np.ndarray:
    truth = weak_phase.random_phase(96, SIDE, 0.1, 5, 16.0)
    return weak_phase.patterns(truth, FIELD, SIDE, BEAM, LENS, PER_ANGLE)


def cells() -> tuple[np.ndarray, np.ndarray]:
    """Indices (y, x) in `shares` of the cells in the disc, and their points."""
    half = 2 * PER_ANGLE
    y, x = np.indices((2 * half + 1, 2 * half + 1)) - half
    disc = np.flatnonzero(np.hypot(y, x) < 0.8 * PER_ANGLE)
    middle = np.stack([y.ravel()[disc], x.ravel()[disc]], axis=1) / PER_ANGLE
    fine = np.array([-0.25, 0.25]) / PER_ANGLE
    square = np.stack(np.meshgrid(fine, fine, indexing="ij"), -1).reshape(1, 4, 2)
    return disc, middle[:, None] + square


def kernels_of(means: np.ndarray, points: np.ndarray, size: int, nx: int) -> LineKernels:
    columns = np.arange(means.size)
    power = np.full(64, 0.01), np.zeros(64)
    return line_kernels(
        points, means, columns, LENS.coefficients(BEAM), BEAM, STEP, size, nx, power
    )


def test_cells_are_mixed_as_the_plain_sum_and_what_is_not_chosen_is_a_mean_one():
    rng = np.random.default_rng(1)
    counts = rng.poisson(0.7, (9, 12)).astype(np.float32)
    columns = np.array([1, 4, 7, 11])
    weights = rng.normal(size=(4, 16)).astype(np.float32)
    offset = rng.normal(size=16).astype(np.float32)
    chosen = rng.random(9) < 0.7
    real, imag = np.full((2, 10, 16), np.nan, np.float32)
    mix_cells(counts, columns, chosen, weights, offset, real, imag, 4)
    expected = np.where(chosen, (counts[:, columns] @ weights + offset).T, 0.0)
    found = np.stack(
        [part[:9, lane].T for lane in (slice(4, 8), slice(8, 12)) for part in (real, imag)]
    )
    np.testing.assert_allclose(found.reshape(16, 9), expected, rtol=1e-5, atol=1e-5)
    assert np.isnan(real[9]).all()
    assert np.isnan(real[:, [3, 12]]).all()


def test_lines_are_added_as_the_plain_sum_and_nothing_wraps_around():
    rng = np.random.default_rng(2)
    length, components, rows, ny = 12, 8, 32, 7
    plain = rng.normal(size=(length, 3, components)).astype(np.float32)
    kernel = rng.normal(size=(2, length // 2 + 1, components, rows)).astype(np.float32)
    lines, image = np.array([0, 3, 6]), np.zeros((2, length // 2 + 1, ny + rows), np.float32)
    real, imag = (np.ascontiguousarray(plain[..., part]) for part in (slice(4), slice(4, 8)))
    room = np.empty((2, length, 12), np.float32)
    columns = Columns.of(length)
    made = columns.transformed(real.reshape(length, 12), imag.reshape(length, 12), room)
    add_lines(*made, lines, *kernel, *image)
    expected = np.zeros((length // 2 + 1, ny + rows), np.complex128)
    spectra, complex_kernel = np.fft.rfft(plain, axis=0), kernel[0] + 1j * kernel[1]
    for number, line in enumerate(lines):
        part = np.einsum("qj,qjd->qd", spectra[:, number], complex_kernel)
        expected[:, line : line + rows] += 2.0 * part
    np.testing.assert_allclose(image[0] + 1j * image[1], expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7, 16, 23, 33, 97, 140, 271])
def test_columns_are_transformed_as_by_numpy(n: int):
    length = quick_length(n)
    assert length >= n
    assert length % 2 == 0
    real, imag = np.random.default_rng(n).normal(size=(2, length, 5)).astype(np.float32)
    expected = np.fft.fft(real + 1j * imag, axis=0)
    got = Columns.of(length).transformed(real, imag, np.empty((2, length, 5), np.float32))
    np.testing.assert_allclose(got[0] + 1j * got[1], expected, atol=1e-4)


def test_kernels_of_the_whole_scan_give_the_finished_image(shares):
    """The same filter, and a kernel as large as the scan: only its borders differ."""
    disc, points = cells()
    counts = shares.reshape(SIDE, SIDE, -1)[..., disc].astype(np.float32) * 1e4
    at = Frequencies(np.ones((SIDE, SIDE), np.bool_), BEAM, STEP)
    images = np.ascontiguousarray(np.moveaxis(counts, 2, 0))
    spectra = [Cell(*at.spectrum_of(image), p) for image, p in zip(images, points, strict=True)]
    expected = Linear.of(at, spectra, LENS.coefficients(BEAM))
    means = counts.mean(axis=(0, 1)).astype(np.float64)
    power = expected.ring_power() / at.positions, np.zeros(64)
    made = line_kernels(
        points, means, np.arange(means.size), LENS.coefficients(BEAM), BEAM, STEP, 39, SIDE, power
    )
    assert made.components % EIGHT == 0
    phase = GrowingPhase(made, (SIDE, SIDE))
    phase.add(np.arange(SIDE), lambda line: counts[line], np.ones((SIDE, SIDE), np.bool_))
    inner = (slice(8, -8), slice(8, -8))
    got, wanted = phase.image()[inner], expected.phase()[inner]
    assert np.corrcoef(got.ravel(), wanted.ravel())[0, 1] > 0.97
    assert made.deviation == pytest.approx(expected.deviation(), rel=0.1)


def test_any_cut_into_lines_and_parts_of_lines_gives_the_same_image(shares):
    disc, points = cells()
    counts = shares.reshape(SIDE, SIDE, -1)[..., disc].astype(np.float32) * 1e4
    made = kernels_of(counts.mean(axis=(0, 1)).astype(np.float64), points, 9, SIDE)
    every = np.ones((SIDE, SIDE), np.bool_)
    whole, parts = (GrowingPhase(made, (SIDE, SIDE)) for _ in range(2))
    whole.add(np.arange(SIDE), lambda line: counts[line], every)
    rng = np.random.default_rng(4)
    first = rng.random((SIDE, SIDE)) < 0.4
    for chosen in (first, ~first):
        for line in rng.permutation(SIDE):
            parts.add(np.array([line]), lambda line: counts[line], chosen[[line]])
    np.testing.assert_allclose(parts.image(), whole.image(), atol=2e-5)


def test_a_line_waits_for_its_rest_a_little_and_not_once_the_next_has_begun():
    seen = PositionsTaken(4 * 6)
    lines = LinesToAdd(seen, (4, 6))

    def come(first: int, stop: int) -> None:
        seen.taken[first:stop] = True
        lines.touch(first, stop - 1)

    assert not lines.take(0.0)[0].size
    come(0, 6)
    which, chosen = lines.take(100.0)
    assert which.tolist() == [0]
    assert chosen.all()
    come(6, 9)
    assert not lines.take(100.0)[0].size  # its rest may come at once
    which, chosen = lines.take(100.0 + LATE_S)
    assert which.tolist() == [1]
    np.testing.assert_array_equal(chosen[0], [1, 1, 1, 0, 0, 0])
    come(12, 14)
    come(9, 11)
    seen.left_out[10] = True
    which, chosen = lines.take(100.0 + LATE_S)  # line 1 lacks position 11, but line 2 has begun
    assert which.tolist() == [1]
    np.testing.assert_array_equal(chosen[0], [0, 0, 0, 1, 0, 0])
    come(11, 12)
    come(14, 18)
    assert lines.take(100.0 + LATE_S)[0].tolist() == [1, 2]
    which, chosen = lines.everything()
    assert which.tolist() == [0, 1, 2]
    assert chosen.sum() == 17


def camera(shares: np.ndarray, electrons: float) -> np.ndarray:
    """Patterns (n, 20, 20) of a camera whose pixels are the cells, about pixel (10, 9)."""
    half = shares.shape[2] // 2
    counts = np.random.default_rng(8).poisson(shares * electrons).astype(np.uint8)
    seen = np.zeros((SIDE * SIDE, 20, 20), np.uint8)
    seen[:, 10 - half : 11 + half, 9 - half : 10 + half] = counts.reshape(-1, *shares.shape[2:])
    return seen


@pytest.mark.parametrize("center", ["auto", (10.0, 9.0)])
def test_the_live_image_grows_with_each_line_and_is_near_the_finished_one(shares, center):
    patterns = camera(shares, 1000.0)
    optics = Optics(
        energy_ev=300e3, convergence_semi_angle_mrad=20.0, pixel_size_mrad=20.0 / PER_ANGLE,
        center=center, measured="off", **LENS.as_optics(),
    )  # fmt: skip
    choice = engine("direct")
    acquisition = acquisition_of(patterns, (SIDE, SIDE), step_size_angstrom=STEP)
    run = ScanRun(acquisition, settings_of([choice], optics), [choice], live=True)
    blocks = list(blocks_of(acquisition, patterns, (SIDE,)))

    def newest() -> np.ndarray:
        results = run.snapshot(final=False).results
        return results[0].image if results else np.zeros((SIDE, SIDE))

    for number, block in enumerate(blocks):
        run.reduce(block)
        if number in (0, 20):
            until(lambda number=number: newest()[number].any())
            assert not newest()[number + 1 :].any()
    until(lambda: newest()[-1].any())
    live, uncertainty = run.snapshot(final=False).results
    assert live.extra["lens"] == "told"
    assert live.extra["center"] == pytest.approx([10.0, 9.0], abs=0.2)
    assert uncertainty.image.max() > 0.0
    run.end("complete")
    final = run.serve(lambda snapshot: None, lambda: 100.0)
    assert not run.failed
    # a small scan, mostly border; kernels were made for half of it or more
    inner = (slice(8, -8), slice(8, -8))
    exact = final.results[0].image[inner]
    assert np.corrcoef(live.image[inner].ravel(), exact.ravel())[0, 1] > 0.95


def test_what_is_changed_in_mid_scan_makes_the_live_image_anew(shares):
    patterns = camera(shares, 1000.0)
    optics = Optics(
        energy_ev=300e3, convergence_semi_angle_mrad=20.0, pixel_size_mrad=20.0 / PER_ANGLE,
        center=(10.0, 9.0), measured="off",
    )  # fmt: skip
    choice = engine("direct")
    acquisition = acquisition_of(patterns, (SIDE, SIDE), step_size_angstrom=STEP)
    settings = settings_of([choice], optics)
    run = ScanRun(acquisition, settings, [choice], live=True)
    *blocks, last = blocks_of(acquisition, patterns, (SIDE,))
    for block in blocks:
        run.reduce(block)
    until(lambda: bool(run.snapshot(final=False).results))
    told = optics.model_copy(update=LENS.as_optics())
    run.engines.update(replace(settings, optics=told))
    run.reduce(last)

    def defocus() -> float:
        return float(run.snapshot(final=False).results[0].extra["defocus_nm"])

    assert defocus() in (0.0, 2.0)
    until(lambda: defocus() == 2.0)
    run.end("complete")
    run.serve(lambda snapshot: None, lambda: 100.0)
    assert not run.failed
