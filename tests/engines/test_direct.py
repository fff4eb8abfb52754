"""The direct estimate: exact for weak objects, and able to find the lens that made the scan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemd.aberrations import Aberrations, scales
from stemd.acquisition import Optics
from stemd.beam import Beam
from stemd.blocks import Notice
from stemd.engines.bright_field import measuring
from stemd.engines.lens.cells import Cells
from stemd.engines.lens.climb import places
from stemd.engines.lens.estimate import Cell, Frequencies, Linear
from stemd.engines.lens.measure import Search, StoppedError, measured
from stemd.results import Snapshot
from stemd.scan.part import ScanPart
from stemd.scan.run import ScanRun
from tests.engines import weak_phase
from tests.engines.scenes import acquisition_of, blocks_of, engine, settings_of

BEAM = Beam(300e3, 20.0)
POSITIONS, FIELD, PER_ANGLE = 40, 10.0, 4
LENS = Aberrations(defocus=90.0, astigmatism_x=18.0, astigmatism_y=-12.0)


def cells_of(
    patterns: np.ndarray, electrons: float, seed: int = 3, part: slice = slice(None)
) -> Cells:
    """Poisson counts of `electrons` a pattern (0: no noise) in the cells of the disc."""
    shares = patterns[part, part]
    rng = np.random.default_rng(seed)
    counts = rng.poisson(shares * electrons) if electrons else shares * 1e6
    half = patterns.shape[2] // 2
    y, x = np.indices(patterns.shape[2:]) - half
    disc = np.hypot(y, x) < 0.97 * PER_ANGLE
    middle = np.stack([y[disc], x[disc]], axis=1) / PER_ANGLE
    fine = (np.array([-0.25, 0.25])) / PER_ANGLE
    points = middle[:, None] + np.stack(np.meshgrid(fine, fine, indexing="ij"), -1).reshape(1, 4, 2)
    images = np.ascontiguousarray(np.moveaxis(counts[:, :, disc], 2, 0), np.float32)
    at = Frequencies(np.ones(images.shape[1:], np.bool_), BEAM, FIELD / POSITIONS)
    return Cells.of(at, [Cell(*at.spectrum_of(i), p) for i, p in zip(images, points, strict=True)])


def estimate_of(cells: Cells, lens: Aberrations) -> Linear:
    return Linear.of(cells.at, cells, lens.coefficients(BEAM))


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return weak_phase.random_phase(96, POSITIONS, 0.05, 5, 16.0)


@pytest.fixture(scope="module")
def scan(truth: np.ndarray) -> np.ndarray:
    return weak_phase.patterns(truth, FIELD, POSITIONS, BEAM, LENS, PER_ANGLE)


def on_scan(truth: np.ndarray) -> np.ndarray:
    """The phase at the positions: it has no frequencies that they cannot hold."""
    spectrum = np.fft.fft2(truth)
    kept = np.rint(np.fft.fftfreq(POSITIONS) * POSITIONS).astype(int)
    return np.fft.ifft2(spectrum[np.ix_(kept, kept)]).real * (POSITIONS / truth.shape[0]) ** 2


@given(st.tuples(*[st.floats(-200.0, 200.0)] * 8))
@settings(max_examples=40, deadline=None)
def test_the_aberration_function_is_that_of_the_angles(lengths):
    from stemd.engines.kernels.overlaps import aberration

    lens = Aberrations(*lengths[:7], spherical=lengths[7] * 1e3)
    u = np.array([[0.3, -0.8], [0.0, 0.5], [-0.7, 0.1]])
    k = u * BEAM.aperture
    expected = weak_phase.chi(BEAM, lens, k[:, 0], k[:, 1])
    got = [aberration(lens.coefficients(BEAM), y, x) for y, x in u]
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


def test_lengths_come_back_from_their_coefficients():
    lens = Aberrations(3.0, 1.0, -2.0, 5.0, 6.0, -7.0, 8.0, 1e4)
    back = Aberrations.of(lens.coefficients(BEAM), BEAM)
    np.testing.assert_allclose(back.as_array(), lens.as_array())
    assert Aberrations(astigmatism_x=0.0, astigmatism_y=2.0).astigmatism == (2.0, 45.0)
    assert scales(BEAM).shape == (8,)


def test_without_noise_the_phase_of_a_weak_object_is_exact(scan, truth):
    cells = cells_of(scan, 0.0)
    image = estimate_of(cells, LENS).phase()
    expected = on_scan(truth)
    assert np.corrcoef(image.ravel(), expected.ravel())[0, 1] > 0.995
    slope = np.polyfit(expected.ravel(), image.ravel(), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.05)


def test_a_wrong_lens_gives_a_wrong_image(scan, truth):
    cells = cells_of(scan, 0.0)
    image = estimate_of(cells, Aberrations()).phase()
    assert np.corrcoef(image.ravel(), on_scan(truth).ravel())[0, 1] < 0.5


def test_noise_is_as_large_as_is_said(scan, truth):
    cells = cells_of(scan, 3000.0)
    estimate = estimate_of(cells, LENS)
    error = (estimate.phase() - on_scan(truth)).std()
    assert estimate.deviation() == pytest.approx(error, rel=0.25)


def test_the_lens_is_found_in_the_data(scan):
    middle = slice(4, 36)
    coarse, fine = cells_of(scan, 3000.0, part=middle), cells_of(scan, 3000.0)
    found = measured(coarse, fine, Aberrations(), BEAM, Search(200.0, 40.0))
    assert found.sure
    error = found.aberrations.as_array()[:3] - LENS.as_array()[:3]
    assert np.abs(error).max() < 4.0
    assert (np.abs(error) < 4.0 * found.sigma[:3] + 1.0).all()


def test_a_lens_that_is_hardly_seen_is_found(scan):
    coarse, fine = cells_of(scan, 100.0, part=slice(4, 36)), cells_of(scan, 100.0)
    found = measured(coarse, fine, Aberrations(), BEAM, Search(100.0, 30.0))
    assert found.sure
    assert found.evidence < 100.0


def test_an_empty_specimen_claims_no_lens_and_is_looked_at_no_further():
    empty = weak_phase.patterns(np.zeros((96, 96)), FIELD, 24, BEAM, LENS, PER_ANGLE)
    cells, search, looks = cells_of(empty, 300.0), Search(100.0, 20.0), []
    found = measured(cells, cells, Aberrations(), BEAM, search, lambda: not looks.append(0))
    assert not found.sure
    assert found.quality == 0.0
    assert found.possible == ()
    assert len(looks) < 30 + 1.2 * places(search.reach(scales(BEAM)))


def test_positions_that_are_missing_count_as_mean_ones():
    counts = np.ones((6, 6), np.float32)
    counts[2, 3] = 0.0
    done = np.ones((6, 6), np.bool_)
    done[2, 3] = False
    spectrum, mean = Frequencies(done, BEAM, 0.25).spectrum_of(counts)
    assert mean == 1.0
    assert np.abs(spectrum).max() < 1e-5


def camera(shares: np.ndarray, electrons: float) -> np.ndarray:
    """Patterns (n, 34, 34) of a camera whose pixels are the cells, about pixel (17, 16)."""
    half = shares.shape[2] // 2
    counts = np.random.default_rng(8).poisson(shares * electrons).astype(np.uint16)
    flat = counts.reshape(-1, *shares.shape[2:])
    seen = np.zeros((len(flat), 34, 34), np.uint16)
    seen[:, 17 - half : 18 + half, 16 - half : 17 + half] = flat
    return seen


def made(
    patterns: np.ndarray,
    jobs: int = 1,
    told: dict[str, Any] | None = None,
    field: float = FIELD,
    **own: Any,
) -> tuple[Snapshot, list[Notice]]:
    """The finished images of a scan of POSITIONS x POSITIONS, and what the engine has said."""
    here = {"energy_ev": 300e3, "convergence_semi_angle_mrad": 20.0, "center": (17.0, 16.0)}
    optics = Optics(pixel_size_mrad=20.0 / PER_ANGLE, **here | (told or {}))
    choice = engine("direct", **own)
    acquisition = acquisition_of(
        patterns, (POSITIONS, POSITIONS), step_size_angstrom=field / POSITIONS
    )
    said: list[Notice] = []
    run = ScanRun(acquisition, settings_of([choice], optics), [choice], notice=said.append)
    parts = [ScanPart(run) for _ in range(jobs - 1)]
    for number, block in enumerate(blocks_of(acquisition, patterns, (90, 31))):
        ([run, *parts])[number % jobs].reduce(block)
    for part in parts:
        part.merge()
    run.end("complete")
    final = run.snapshot(final=True)
    assert not run.failed, str(run.failed)
    return final, said


def test_the_engine_finds_the_lens_says_so_and_shows_the_phase(scan, truth):
    final, said = made(camera(scan, 3000.0))
    phase, uncertainty = final.results
    assert [result.name for result in final.results] == ["direct_phase", "direct_uncertainty"]
    about = phase.extra
    assert about["lens"] == "measured"
    assert about["defocus_nm"] == pytest.approx(9.0, abs=0.6)
    assert about["astigmatism_nm"] == pytest.approx(np.hypot(1.8, 1.2), abs=0.5)
    assert about["measured"]["defocus_sigma_nm"] < 0.5
    expected = on_scan(truth)
    assert np.corrcoef(phase.image.ravel(), expected.ravel())[0, 1] > 0.8
    assert uncertainty.image.min() > 0.0
    (notice,) = said
    assert notice.kind == "direct_lens_disagrees"
    assert "told 0.0" in notice.text


def test_a_lens_that_there_is_no_time_to_find_exactly_is_the_one_found_before(
    scan: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_time(*_: object) -> None:
        raise StoppedError

    patterns = camera(scan, 3000.0)
    exact = made(patterns)[0].results[0].extra["measured"]
    monkeypatch.setattr(measuring, "refined", no_time)
    found = made(patterns)[0].results[0].extra["measured"]
    assert found["sure"]
    assert found["defocus_nm"] == pytest.approx(exact["defocus_nm"], abs=0.5)
    assert found["defocus_sigma_nm"] > exact["defocus_sigma_nm"]


def test_a_lens_that_is_told_is_used_and_agrees(scan):
    told = {"defocus_nm": 9.0, "astigmatism_nm": 2.16, "astigmatism_deg": -16.8}
    final, said = made(camera(scan, 3000.0), told=told | {"measured": "off"})
    assert not said
    assert final.results[0].extra["lens"] == "told"
    assert "measured" not in final.results[0].extra
    again, said = made(camera(scan, 3000.0), told=told)
    assert not said
    assert again.results[0].extra["measured"]["sure"]


@pytest.mark.parametrize("lens", ["measured", "told"])
def test_the_image_is_made_with_the_disc_that_the_lens_is_measured_with(scan, lens):
    told = {"convergence_semi_angle_mrad": 17.5}
    about = made(camera(scan, 3000.0), told=told, lens=lens, search_defocus_nm=1.0)[0].results[0]
    expected = 20.0 if lens == "measured" else 17.5
    assert about.extra["semi_angle_mrad"] == pytest.approx(expected, rel=0.06)
    if lens == "told":
        assert about.extra["semi_angle_mrad"] == 17.5


def test_parts_of_a_scan_give_the_same_image(scan):
    patterns = camera(scan, 300.0)
    told = {"measured": "off"}
    whole, parts = made(patterns, told=told)[0], made(patterns, jobs=3, told=told)[0]
    np.testing.assert_array_equal(whole.results[0].image, parts.results[0].image)


def test_a_scan_that_is_too_small_is_shown_through_the_lens_that_was_told():
    patterns = np.zeros((16, 34, 34), np.uint16)
    patterns[:, 13:22, 12:21] = 5
    optics = Optics(
        energy_ev=300e3, convergence_semi_angle_mrad=20.0, pixel_size_mrad=5.0, center=(17.0, 16.0)
    )
    choice = engine("direct")
    acquisition = acquisition_of(patterns, (4, 4), step_size_angstrom=0.25)
    run = ScanRun(acquisition, settings_of([choice], optics), [choice])
    for block in blocks_of(acquisition, patterns, (16,)):
        run.reduce(block)
    run.end("complete")
    phase, _ = run.snapshot(final=True).results
    assert phase.extra["lens"] == "told"
    assert np.isfinite(phase.image).all()
