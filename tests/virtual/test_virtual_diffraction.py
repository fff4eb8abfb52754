"""Patterns against analytic cases: discs, phase ramps, the gradient of the truth."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stemd.acquisition import Scan
from stemd.beam import Beam
from stemd.virtual.diffraction import Camera, PatternRenderer
from stemd.virtual.fft import LANES, SIZES, size_of, transform, twiddles
from stemd.virtual.kernels import sample_counts
from stemd.virtual.microscope import Microscope, Setup
from stemd.virtual.scan import ScanPath
from stemd.virtual.specimen import Atoms, Box, Specimen, build

VACUUM = build("vacuum", (10.0, 10.0))


def centre_of_mass(patterns: NDArray[np.floating]) -> NDArray[np.float64]:
    """(n, 2) in pixels from the detector's middle."""
    p = patterns.astype(np.float64)
    y = np.arange(p.shape[1]) - (p.shape[1] - 1) / 2
    x = np.arange(p.shape[2]) - (p.shape[2] - 1) / 2
    total = p.sum((1, 2))
    cy, cx = (p.sum(2) * y).sum(1) / total, (p.sum(1) * x).sum(1) / total
    return np.stack([cy, cx], axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("n", SIZES)
def test_the_transform_agrees_with_numpy(n: int) -> None:
    random = np.random.default_rng(n)
    x = random.standard_normal((2, n, LANES)).astype(np.float32)
    scratch = np.zeros((2, n * LANES), np.float32)
    re, im = transform(
        size_of(n), x[0].flatten(), x[1].flatten(), scratch[0], scratch[1], *twiddles(n)
    )
    expected = np.fft.fft(x[0].astype(np.float64) + 1j * x[1], axis=0)
    assert np.abs((re + 1j * im).reshape(n, LANES) - expected).max() < 2e-6 * n


@pytest.mark.parametrize(
    ("shape", "pixel"), [((64, 64), 1.25), ((48, 80), 1.5), ((16, 16), 5.0), ((256, 192), 0.4)]
)
def test_vacuum_shows_the_aperture_disc_in_the_middle(shape: tuple[int, int], pixel: float) -> None:
    renderer = PatternRenderer(VACUUM, Beam(convergence_semi_angle_mrad=20.0), Camera(shape, pixel))
    pattern = renderer.patterns(np.array([[3.21, 4.56]]))[0].astype(np.float64)
    assert pattern.sum() == pytest.approx(1.0, abs=1e-4)
    assert np.abs(centre_of_mass(pattern[None])).max() < 1e-3
    area = math.pi * (20.0 / pixel) ** 2
    middle = pattern[shape[0] // 2, shape[1] // 2]
    assert middle == pytest.approx(1 / area, rel=0.02)
    y = (np.arange(shape[0]) - (shape[0] - 1) / 2) * pixel
    x = (np.arange(shape[1]) - (shape[1] - 1) / 2) * pixel
    radius = np.hypot(y[:, None], x[None, :])
    # A uniform disc of radius a has a mean square radius of a^2 / 2.
    spread = math.sqrt(2 * float((pattern * radius**2).sum()))
    assert spread == pytest.approx(20.0, rel=0.03)
    assert pattern[radius > 20 + 2 * max(pixel, 1.6)].sum() < 1e-3


def test_the_beam_falls_where_offset_and_descan_put_it() -> None:
    camera = Camera((64, 64), 1.25, offset=(1.3, -2.2), descan=(2.0, -1.0))
    renderer = PatternRenderer(VACUUM, Beam(), camera)
    positions = np.array([[0.0, 0.0], [5.0, 5.0], [10.0, 0.0]])
    seen = centre_of_mass(renderer.patterns(positions, camera.shifts(positions, (10.0, 10.0))))
    expected = np.array([[0.3, -1.7], [1.3, -2.2], [2.3, -1.7]])
    assert np.abs(seen - expected).max() < 0.01


class Ramp(Specimen):
    """A potential that rises evenly: `slope` (y, x) in V, anchored at the origin."""

    def __init__(self, slope: tuple[float, float]) -> None:
        super().__init__("ramp", "a ramp", _no_atoms)
        object.__setattr__(self, "_slope", slope)

    def potential(
        self,
        origin: tuple[float, float],
        shape: tuple[int, int],
        pitch: float,
        g_limit: float,
        axes: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float32]:
        u = np.stack(
            np.meshgrid(
                *(o + pitch * np.arange(n) for o, n in zip(origin, shape, strict=True)),
                indexing="ij",
            )
        )
        turn = np.eye(2) if axes is None else axes
        y, x = np.tensordot(turn, u, axes=1)
        slope: tuple[float, float] = self._slope  # type: ignore[attr-defined]
        return (slope[0] * y + slope[1] * x).astype(np.float32)


def _no_atoms(box: Box) -> list[Atoms]:
    return []


def ramp_shift(camera: Camera, slope: tuple[float, float]) -> NDArray[np.float64]:
    renderer = PatternRenderer(Ramp(slope), Beam(), camera)
    return centre_of_mass(renderer.patterns(np.array([[2.0, 3.0]])))[0]


def pixels_of_slope(volt: float, pixel_mrad: float = 1.25) -> float:
    """Deflection sigma dV/dx / (2 pi) in pixels: by hand, from the definition."""
    beam = Beam()
    return beam.sigma * volt / (2 * math.pi) * beam.wavelength / (pixel_mrad * 1e-3)


def test_a_phase_ramp_moves_the_disc_toward_the_higher_potential_by_the_right_amount() -> None:
    # whole pixels only: the ramp is not periodic in the window otherwise
    volt = 2.0 / pixels_of_slope(1.0)
    seen = ramp_shift(Camera(), (0.0, volt))
    assert seen == pytest.approx([0.0, 2.0], abs=0.01)
    assert ramp_shift(Camera(), (-volt, 0.0)) == pytest.approx([-2.0, 0.0], abs=0.01)


def test_positive_rotation_turns_detector_vectors_counter_clockwise_into_scan_vectors() -> None:
    volt = 2.0 / pixels_of_slope(1.0)
    # scan +x must be what the detector sees as +y: turned counter-clockwise by 90 degrees,
    # down becomes right
    assert ramp_shift(Camera(rotation_deg=90.0), (0.0, volt)) == pytest.approx([2.0, 0.0], abs=0.01)


def test_flip_exchanges_y_and_x_before_the_rotation() -> None:
    volt = 2.0 / pixels_of_slope(1.0)
    assert ramp_shift(Camera(flip=True), (0.0, volt)) == pytest.approx([2.0, 0.0], abs=0.01)
    turned = ramp_shift(Camera(rotation_deg=90.0, flip=True), (0.0, volt))
    assert turned == pytest.approx([0.0, 2.0], abs=0.01)


@settings(max_examples=8, deadline=None)
@given(
    angle=st.floats(-180, 180),
    flip=st.booleans(),
)
def test_rotating_the_detected_com_as_the_conventions_say_gives_the_scan_s_com(
    angle: float, flip: bool
) -> None:
    field = (20.0, 20.0)
    specimen = build("mos2", field)
    positions = np.random.default_rng(3).uniform(2, 18, (20, 2))
    plain = centre_of_mass(PatternRenderer(specimen, Beam(), Camera()).patterns(positions))
    camera = Camera(rotation_deg=angle, flip=flip)
    seen = centre_of_mass(PatternRenderer(specimen, Beam(), camera).patterns(positions))
    y, x = seen.T[::-1] if flip else seen.T
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turned = np.stack([-x * s + y * c, x * c + y * s], axis=1)
    assert np.abs(turned - plain).max() < 0.02 * np.abs(plain).max()


@pytest.mark.parametrize("name", ["srtio3", "nanoparticle"])
def test_the_com_map_is_the_gradient_of_the_true_phase(name: str) -> None:
    setup = Setup(
        Scan(shape=(40, 24), step_size_angstrom=0.37), specimen=name, thickness_angstrom=3.9
    )
    microscope = Microscope(setup)
    truth = microscope.truth()
    frames = np.arange(setup.scan.frames)
    patterns = microscope.renderer.patterns(microscope.path.positions(frames))
    seen = centre_of_mass(patterns).reshape(40, 24, 2)
    for axis, expected in enumerate((truth.com_y, truth.com_x)):
        assert np.corrcoef(seen[..., axis].ravel(), expected.ravel())[0, 1] > 0.999
        slope = float((seen[..., axis] * expected).sum() / (expected**2).sum())
        assert slope == pytest.approx(1.0, abs=0.03)


def test_parts_of_a_large_field_give_the_same_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    specimen = build("nanoparticle", (60.0, 60.0))
    positions = np.random.default_rng(1).uniform(0, 60, (30, 2))
    whole = PatternRenderer(specimen, Beam(), Camera(rotation_deg=20.0)).patterns(positions)
    monkeypatch.setattr("stemd.virtual.diffraction.FIELD_SAMPLES", 40_000)
    parts = PatternRenderer(specimen, Beam(), Camera(rotation_deg=20.0)).patterns(positions)
    assert np.allclose(whole, parts, atol=1e-6)


@pytest.mark.parametrize("dose", [0.002, 0.5, 9.0, 11.0, 300.0])
def test_counts_are_poisson_distributed(dose: float) -> None:
    expected = np.ones((40, 64, 64), np.float32)
    out = np.zeros(expected.shape, np.uint32)
    sample_counts(expected, dose, 5, 0, np.arange(40), 2**32 - 1, out)
    n = out.size
    assert out.mean() == pytest.approx(dose, abs=5 * math.sqrt(dose / n))
    # the variance of a Poisson variance estimate is (mu + 2 mu^2) / n
    spread = math.sqrt((dose + 2 * dose**2) / n)
    assert out.var() == pytest.approx(dose, abs=5 * spread)
    if dose == 9.0:
        share = [np.mean(out == k) for k in range(25)]
        law = [math.exp(-dose) * dose**k / math.factorial(k) for k in range(25)]
        assert share == pytest.approx(law, abs=5 * math.sqrt(0.13 / n))
    neighbours = np.corrcoef(out[..., :-1].ravel(), out[..., 1:].ravel())[0, 1]
    assert abs(neighbours) < 5 / math.sqrt(n)


def test_a_frame_s_counts_depend_on_seed_scan_and_frame_alone() -> None:
    setup = Setup(Scan(shape=(6, 7), flyback=1, step_size_angstrom=0.5), specimen="mos2", dose=400)

    def counts(seed: int, scan: int, first: int, stop: int, part: int) -> NDArray[np.integer]:
        from dataclasses import replace

        microscope = Microscope(replace(setup, seed=seed))
        return np.concatenate(list(microscope.counts(scan, first, stop, part=part)))

    whole = counts(1, 0, 0, 96, 128)
    assert np.array_equal(whole[:48], counts(1, 0, 0, 48, 5))
    assert np.array_equal(whole[20:30], counts(1, 0, 20, 30, 3))
    assert np.array_equal(whole[48:], counts(1, 1, 0, 48, 48))
    assert not np.array_equal(whole[:48], whole[48:])
    assert not np.array_equal(whole[:48], counts(2, 0, 0, 48, 48))
    assert whole[:48].sum() == pytest.approx(48 * 400, rel=0.1)


def test_repeated_scans_come_from_the_cache_with_fresh_noise_only() -> None:
    setup = Setup(Scan(shape=(8, 8), step_size_angstrom=0.5), dose=1e5)
    cached, fresh = Microscope(setup), Microscope(setup, cache_bytes=0)
    for scan in (0, 1):
        a = np.concatenate(list(cached.counts(scan, 0, 64, np.uint32, 2**32 - 1)))
        b = np.concatenate(list(fresh.counts(scan, 0, 64, np.uint32, 2**32 - 1)))
        assert np.array_equal(a, b)


def test_counts_are_clipped_to_the_counter_s_depth() -> None:
    setup = Setup(Scan(shape=(2, 2), step_size_angstrom=0.5), specimen="vacuum", dose=1e6)
    counts = next(Microscope(setup).counts(0, 0, 4, np.uint8, 63))
    assert counts.max() == 63


def test_frames_map_to_positions_as_the_scan_says() -> None:
    scan = Scan(shape=(3, 4), flyback=2, leading=1, step_size_angstrom=0.5)
    path = ScanPath(scan)
    frames = np.arange(scan.frames)
    probe = scan.probes(frames)
    place = path.positions(frames)
    used = probe >= 0
    expected = np.stack([probe[used] // 4, probe[used] % 4], axis=1) * 0.5
    assert np.array_equal(place[used], expected)
    assert np.allclose(place[5:7], [[1 / 6, 1.0], [2 / 6, 0.5]])  # sweeping back
    odd = ScanPath(scan.model_copy(update={"serpentine": True})).positions(np.arange(7, 11))
    assert np.allclose(odd[:, 1], [1.5, 1.0, 0.5, 0.0])


def test_drift_grows_with_time_and_goes_on_from_scan_to_scan() -> None:
    scan = Scan(shape=(4, 4), step_size_angstrom=1.0)
    still = ScanPath(scan, 0.01)
    path = ScanPath(scan, 0.01, drift_angstrom_per_s=(2.0, -1.0))
    frames = np.arange(16)
    moved = path.positions(frames, 1) - still.positions(frames, 1)
    assert moved[0] == pytest.approx([0.32, -0.16])
    assert moved[15] == pytest.approx([0.62, -0.31])


def test_jitter_shifts_whole_lines_by_a_correlated_series() -> None:
    scan = Scan(shape=(4000, 3), step_size_angstrom=0.4)
    path = ScanPath(scan, jitter=0.5, seed=4)
    shift = path.lines(0) / 0.4
    assert shift.std(axis=0) == pytest.approx([0.25, 0.5], rel=0.06)
    assert np.corrcoef(shift[:-1, 1], shift[1:, 1])[0, 1] == pytest.approx(0.5, abs=0.06)
    place = path.positions(np.arange(6)).reshape(2, 3, 2)
    assert np.allclose(np.diff(place[..., 1], axis=1), 0.4)
    assert not np.allclose(shift, path.lines(1) / 0.4)
