"""The truth against plain sums, and noisy scans against the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from stemd.acquisition import Scan
from stemd.beam import Beam
from stemd.errors import SinkError, UsageError
from stemd.virtual.diffraction import Camera
from stemd.virtual.microscope import Microscope, Setup
from stemd.virtual.scan import ScanPath
from stemd.virtual.specimen import build
from stemd.virtual.truth import Truth, compute, line_integral_transfer, write
from tests.virtual.test_virtual_diffraction import centre_of_mass


def plain_ricom(com_y: NDArray[np.floating], com_x: NDArray[np.floating], n: int) -> NDArray:
    """Equation 3.4 with unit step, position by position."""
    ny, nx = com_y.shape
    half = n // 2
    image = np.zeros((ny, nx))
    for dy in range(-half, half + 1):
        for dx in range(-half, half + 1):
            if dy == dx == 0:
                continue
            for y in range(max(0, dy), min(ny, ny + dy)):
                for x in range(max(0, dx), min(nx, nx + dx)):
                    # r_p - r = (dy, dx)
                    pull = dy * com_y[y - dy, x - dx] + dx * com_x[y - dy, x - dx]
                    image[y, x] += pull / (dy**2 + dx**2)
    return image / (2 * np.pi)


def correlation(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def truth_of(name: str, shape: tuple[int, int], step: float = 0.3) -> Truth:
    path = ScanPath(Scan(shape=shape, step_size_angstrom=step))
    return compute(build(name, path.field), Beam(), Camera(), path)


def test_the_true_ricom_is_equation_3_4_of_the_true_com() -> None:
    truth = truth_of("nanoparticle", (14, 19))
    for n in (3, 9, 31):
        expected = plain_ricom(truth.com_y, truth.com_x, n)
        assert np.abs(truth.ricom(n) - expected).max() < 1e-5 * np.ptp(expected)
        assert np.allclose(truth.ricom(n, step_angstrom=0.5), 0.25 * truth.ricom(n), rtol=1e-5)


def test_the_true_com_is_the_gradient_of_the_true_phase() -> None:
    step = 0.05
    truth = truth_of("mos2", (60, 70), step)
    pixel = 1.25e-3 / Beam().wavelength
    by_hand = np.gradient(truth.phase.astype(np.float64), step) / np.float64(2 * np.pi * pixel)
    inside = (slice(1, -1), slice(1, -1))
    for seen, expected in zip((truth.com_y, truth.com_x), by_hand, strict=True):
        assert np.abs(seen - expected)[inside].max() < 0.01 * np.ptp(expected)


def test_a_sharp_probe_leaves_the_phase_where_the_potential_is() -> None:
    truth = truth_of("srtio3", (40, 40))
    assert correlation(truth.phase, truth.potential) > 0.6
    top = np.unravel_index(np.argmax(truth.phase), truth.phase.shape)
    assert truth.phase.max() < Beam().sigma * truth.potential.max()
    assert truth.potential[top] > 0.5 * truth.potential.max()


def test_the_filtered_phase_has_the_spectrum_that_equation_3_7_says() -> None:
    truth = truth_of("mos2", (32, 48))
    f = np.hypot(np.fft.fftfreq(32)[:, None], np.fft.fftfreq(48)[None, :])
    n, N = 21, 32
    k = f * N
    with np.errstate(divide="ignore", invalid="ignore"):
        kernel = N / (2 * np.pi * k) * (1 - np.cos((n - 1) / 2 * 2 * np.pi * k / N))
    transfer = np.where(f > 0, kernel * 2 * np.pi * k / N, 0.0)
    expected = np.fft.ifft2(np.fft.fft2(truth.phase.astype(np.float64)) * transfer).real
    assert np.abs(truth.filtered(n) - expected).max() < 1e-5 * np.ptp(expected)
    assert line_integral_transfer(np.array([1 / (n - 1)]), n) == pytest.approx(2.0)


def test_a_band_pass_keeps_only_its_ring() -> None:
    truth = truth_of("nanoparticle", (32, 32))
    assert np.allclose(truth.ricom(9, (0.0, 1000.0)), truth.ricom(9), atol=1e-6)
    low, high = truth.ricom(9, (0.0, 5.0)), truth.ricom(9, (5.0001, 1000.0))
    assert np.allclose(low + high, truth.ricom(9), atol=1e-5)
    spectrum = np.abs(np.fft.fft2(low - low.mean(), (64, 64)))
    k = 32 * np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64)[None, :])
    # cropping an image to its window smears its spectrum a little
    assert np.sum(spectrum[k > 7] ** 2) < 0.02 * np.sum(spectrum**2)


@pytest.mark.parametrize("camera", [Camera(), Camera(rotation_deg=25.0, flip=True)])
def test_ricom_of_a_noisy_scan_correlates_with_the_truth(camera: Camera) -> None:
    scan = Scan(shape=(48, 40), step_size_angstrom=0.3)
    microscope = Microscope(Setup(scan, camera=camera, dose=2000.0))
    counts = np.concatenate(list(microscope.counts(0, 0, scan.frames)))
    com = centre_of_mass(counts)
    com -= com.mean(axis=0)
    if camera.flip:
        com = com[:, ::-1]
    angle = np.radians(camera.rotation_deg)
    y = -com[:, 1] * np.sin(angle) + com[:, 0] * np.cos(angle)
    x = com[:, 1] * np.cos(angle) + com[:, 0] * np.sin(angle)
    seen = plain_ricom(y.reshape(scan.shape), x.reshape(scan.shape), 11)
    assert correlation(seen, microscope.truth().ricom(11)) > 0.93


def test_the_truth_is_written_as_calibrated_images(tmp_path: Path) -> None:
    truth = truth_of("mos2", (8, 10), 0.25)
    written = write(truth, tmp_path / "truth", 0.25, 5)
    names = {path.stem for path in written}
    assert names == {"potential", "phase", "com_y", "com_x", "ricom"}
    with tifffile.TiffFile(tmp_path / "truth" / "ricom.tif") as file:
        assert np.array_equal(file.asarray(), truth.ricom(5, step_angstrom=0.25))
        per_nm = file.pages[0].tags["XResolution"].value
        assert per_nm[0] / per_nm[1] == pytest.approx(40.0)


def test_a_truth_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SinkError, match="file"):
        write(truth_of("vacuum", (4, 4)), tmp_path / "file", 0.3, 5)


def test_a_field_beyond_memory_is_refused() -> None:
    with pytest.raises(UsageError, match="4096"):
        truth_of("vacuum", (4096, 4096))
