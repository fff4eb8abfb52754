"""Lens and phase together, of a specimen that is not weak and goes on beyond the scan."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stemd.aberrations import Aberrations, scales
from stemd.beam import Beam
from stemd.engines.kernels.exit_waves import add_transfers, fold_waves, unfold_waves
from stemd.engines.kernels.overlaps import GAMMA, add_overlaps
from stemd.engines.lens.jointly import Jointly
from stemd.engines.lens.measure import AXIAL, StoppedError
from stemd.engines.lens.patterns import Patterns

SIDE, STEP, PITCH, SIZE = 24, 0.4, 0.2, 128
"""Positions across, angstrom, and the specimen's pixels, of which there are SIZE x SIZE."""
BEAM = Beam(300e3, 20.0)
LENS = Aberrations(120.0, 20.0, -15.0)
TURN = math.radians(2.0)
DOSE = 3e3
"""Electrons a position in the disc."""


def chi(y: np.ndarray, x: np.ndarray, lens: Aberrations = LENS) -> np.ndarray:
    """The aberration function at (y, x) in apertures, as `Aberrations` has it."""
    c = lens.coefficients(BEAM)
    return np.asarray(c[0] * (y**2 + x**2) + c[1] * (x**2 - y**2) + c[2] * 2 * x * y)


def patterns_of(lens: Aberrations = LENS, step: float = STEP) -> Patterns:
    """By a probe that is moved over the specimen and transformed at each position."""
    rng = np.random.default_rng(11)
    k = np.fft.fftfreq(SIZE, PITCH) / BEAM.aperture
    y, x = k[:, None], k[None, :]
    atoms = np.zeros((SIZE, SIZE))
    atoms[rng.integers(0, SIZE, 140), rng.integers(0, SIZE, 140)] = 1.0
    phase = np.fft.ifft2(np.fft.fft2(atoms) * np.exp(-((y**2 + x**2) / 1.4))).real
    through = np.exp(0.9j * phase / phase.max())
    ys = np.fft.fftshift(k)
    inside = [(u, v) for u in ys[::5] for v in ys[::5] if math.hypot(u, v) < 0.95]
    points = np.array(inside)
    rows, columns = (np.searchsorted(ys, points[:, n]) for n in (0, 1))
    counts = np.zeros((len(points), SIDE, SIDE), np.float32)
    first = (SIZE - round((SIDE - 1) * step / PITCH)) // 2
    open_ = y**2 + x**2 < 1.0
    for i in range(SIDE):
        for j in range(SIDE):
            at = (first + round(n * step / PITCH) for n in (i, j))
            r = [n * PITCH * BEAM.aperture for n in at]
            probe = np.fft.ifft2(
                open_ * np.exp(-1j * chi(y, x, lens) - 2j * np.pi * (y * r[0] + x * r[1]))
            )
            wave = np.fft.fftshift(np.fft.fft2(probe * through))
            counts[:, i, j] = np.abs(wave[rows, columns]) ** 2
    counts = rng.poisson(counts * DOSE / len(points)).astype(np.float32)
    # the camera is told to be turned by TURN less than it is
    cos, sin = math.cos(TURN), math.sin(TURN)
    told = points @ np.array([[cos, -sin], [sin, cos]])
    return Patterns(counts, told[:, None, :], 0.04, np.ones((SIDE, SIDE), np.bool_), False)


@pytest.fixture(scope="module")
def patterns() -> Patterns:
    return patterns_of()


def test_lens_and_rotation_are_found_where_the_weak_phase_model_is_wrong(
    patterns: Patterns,
) -> None:
    wrong = Aberrations(128.0, 16.0, -11.0)
    start = np.append(wrong.coefficients(BEAM), 0.0)
    joint = Jointly(patterns, BEAM, STEP, start)
    before = joint.misfit
    peak = joint.improve(AXIAL)
    found = peak.place[:3] / scales(BEAM)[:3]
    variance = peak.variance()
    assert variance is not None
    sigma = np.sqrt(variance[:3]) / scales(BEAM)[:3]
    off = np.abs(found - LENS.as_array()[:3])
    assert (off < 1.0).all()
    assert (off < 4.0 * sigma).all()
    assert (sigma < 0.9).all()
    assert math.degrees(peak.place[8]) == pytest.approx(2.0, abs=0.6)
    # nothing but counting is left
    assert -2.0 * peak.height / patterns.counts.size == pytest.approx(1.0, abs=0.1)
    assert joint.misfit < before


def test_it_ends_when_there_is_no_time(patterns: Patterns) -> None:
    with pytest.raises(StoppedError):
        Jointly(patterns, BEAM, STEP, np.append(LENS.coefficients(BEAM), 0.0), lambda: False)


def test_where_there_is_nothing_no_lens_is_found() -> None:
    there = np.ones((16, 16), np.bool_)
    empty = Patterns(np.full((3, 16, 16), 5, np.float32), np.zeros((3, 1, 2)), 0.1, there, False)
    peak = Jointly(empty, BEAM, STEP, np.append(LENS.coefficients(BEAM), 0.0)).improve(AXIAL)
    assert peak.variance() is None


def test_waves_are_folded_as_the_plain_sum_and_unfolded_by_the_adjoint() -> None:
    rng = np.random.default_rng(2)
    qy, qx = np.fft.fftfreq(12, 0.2), np.fft.fftfreq(16, 0.2)
    points, c = np.array([[0.2, -0.5], [-0.6, 0.1]]), LENS.coefficients(BEAM)
    whole = (rng.normal(size=(12, 16)) + 1j * rng.normal(size=(12, 16))).astype(np.complex64)
    seen = np.empty((2, 6, 8), np.complex64)
    fold_waves(whole, points, qy, qx, c, 0.1, seen)
    for (ky, kx), got in zip(points, seen, strict=True):
        y, x = ky - qy[:, None], kx - qx[None, :]
        size = np.clip((1.0 - np.hypot(y, x)) / 0.1 + 0.5, 0.0, 1.0)
        each = whole * size * np.exp(-1j * chi(y, x))
        np.testing.assert_allclose(got, each.reshape(2, 6, 2, 8).sum((0, 2)), atol=1e-4)
    other = (rng.normal(size=seen.shape) + 1j * rng.normal(size=seen.shape)).astype(np.complex64)
    back = np.zeros_like(whole)
    unfold_waves(other, points, qy, qx, c, 0.1, back)
    assert np.vdot(other, seen) == pytest.approx(np.vdot(back, whole), rel=1e-4)


def test_transfers_are_those_of_the_weak_phase_model() -> None:
    q = np.fft.fftfreq(10, 0.3)
    points, c = np.array([[0.3, -0.4]]), LENS.coefficients(BEAM)
    phase, absorption = np.zeros((2, 10, 10))
    add_transfers(points, np.array([3.0]), q, q, c, 1e-9, phase, absorption)
    y, x = (part.ravel() for part in np.meshgrid(q, q, indexing="ij"))
    expected = np.zeros(100)
    add_overlaps(
        np.ones(100, np.complex64), points, 3.0, y, x, c, GAMMA, np.zeros(100, complex), expected
    )
    np.testing.assert_allclose(phase.ravel(), expected, atol=1e-6)
    low = (np.hypot(0.3 - y, -0.4 - x) < 1.0) * 1.0
    high = (np.hypot(0.3 + y, -0.4 + x) < 1.0) * 1.0
    np.testing.assert_allclose((phase + absorption).ravel(), 6.0 * (low + high), atol=1e-6)
