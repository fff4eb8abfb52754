"""The direct methods as weights of one estimate: each against its own equation written out."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from pydantic import ValidationError

from stemd.aberrations import Aberrations
from stemd.beam import Beam
from stemd.engines.direct.engine import DirectSettings
from stemd.engines.lens.estimate import Cell, Frequencies, Linear
from stemd.engines.lens.weights import SSB_REGULARISATION, Method
from stemd.engines.ssb.side_bands import side_band_phase
from tests.engines import weak_phase

BEAM = Beam(300e3, 20.0)
LENS = Aberrations(defocus=80.0, astigmatism_x=15.0)
SIDE, FIELD, PER_ANGLE = 32, 8.0, 4
STEP = FIELD / SIDE
EVERY = np.ones((SIDE, SIDE), np.bool_)


class Bright:
    """The cells of a noiseless scan: images (cells, ny, nx) and their middles in apertures."""

    def __init__(self) -> None:
        truth = weak_phase.random_phase(64, SIDE, 0.02, 5, 12.0)
        shares = weak_phase.patterns(truth, FIELD, SIDE, BEAM, LENS, PER_ANGLE)
        half = 2 * PER_ANGLE
        y, x = np.indices((2 * half + 1, 2 * half + 1)) - half
        disc = np.hypot(y, x) < 0.97 * PER_ANGLE
        self.middles = np.stack([y[disc], x[disc]], axis=1) / PER_ANGLE
        self.images = np.ascontiguousarray(np.moveaxis(shares[:, :, disc] * 1e6, 2, 0), np.float32)
        spectrum = np.fft.fft2(truth)
        kept = np.rint(np.fft.fftfreq(SIDE) * SIDE).astype(int)
        self.truth = np.fft.ifft2(spectrum[np.ix_(kept, kept)]).real * (SIDE / 64) ** 2
        self.at = Frequencies(EVERY, BEAM, STEP)
        self.relative = self.images / self.images.mean(axis=(1, 2), keepdims=True) - 1.0
        self.counts = self.images.mean(axis=(1, 2))

    def phase(self, method: Method) -> np.ndarray:
        return self.estimate(method).phase()

    def estimate(self, method: Method) -> Linear:
        estimate = Linear(self.at, LENS.coefficients(BEAM), method)
        for image, middle in zip(self.images, self.middles, strict=True):
            estimate.add(Cell(*self.at.spectrum_of(image), middle.reshape(1, 2)))
        return estimate


@pytest.fixture(scope="module")
def bright() -> Bright:
    return Bright()


def close(image: np.ndarray, expected: np.ndarray) -> None:
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(image, expected, atol=2e-4 * scale)


def test_ssb_is_what_the_engine_ssb_makes(bright):
    expected = side_band_phase(
        lambda columns: bright.images[columns].reshape(-1, SIDE * SIDE).copy(), bright.middles,
        EVERY, BEAM, LENS, STEP, SSB_REGULARISATION,
    )  # fmt: skip
    image = bright.phase("ssb")
    assert np.corrcoef(image.ravel(), expected.ravel())[0, 1] > 0.999
    # that one weights all cells alike, this one by their counts
    assert np.polyfit(expected.ravel(), image.ravel(), 1)[0] == pytest.approx(1.0, abs=0.1)


def test_icom_is_the_integrated_centre_of_mass_of_the_bright_field(bright):
    share = bright.counts / bright.counts.sum()
    y, x = np.einsum("c,cyx,ca->ayx", share, bright.relative, bright.middles)
    q = np.fft.fftfreq(SIDE, STEP) / BEAM.aperture
    qy, qx = np.meshgrid(q, q, indexing="ij")
    square = qy**2 + qx**2
    square[0, 0] = 1.0
    spectrum = -1j * (qy * np.fft.fft2(y) + qx * np.fft.fft2(x)) / square
    spectrum[square >= 4.0] = 0.0
    # half a plane cannot tell the sign of the highest frequency
    inner = (slice(1, -1), slice(1, -1))
    close(bright.phase("icom")[inner], np.fft.ifft2(spectrum).real[inner])


def test_parallax_shifts_the_cells_and_flips_the_sign_of_the_lens(bright):
    q = np.fft.fftfreq(SIDE, STEP)
    qy, qx = np.meshgrid(q, q, indexing="ij")
    total = np.zeros((SIDE, SIDE), np.complex128)
    for relative, count, middle in zip(bright.relative, bright.counts, bright.middles, strict=True):
        (ky, kx), h = middle * BEAM.aperture, 1e-5
        slope = [
            (weak_phase.chi(BEAM, LENS, ky + dy, kx + dx)
             - weak_phase.chi(BEAM, LENS, ky - dy, kx - dx)) / (2 * h)
            for dy, dx in ((h, 0.0), (0.0, h))
        ]  # fmt: skip
        total += count * np.fft.fft2(relative) * np.exp(-1j * (slope[0] * qy + slope[1] * qx))
    total *= np.sign(np.sin(weak_phase.chi(BEAM, LENS, qy, qx)))
    total[np.hypot(qy, qx) >= 2 * BEAM.aperture] = 0.0
    expected = np.fft.ifft2(total / (2.0 * bright.counts.sum())).real
    close(bright.phase("parallax"), expected)


def test_obf_has_white_noise_and_wiener_is_its_filter(bright):
    rng = np.random.default_rng(5)
    empty = Linear(bright.at, LENS.coefficients(BEAM), "obf")
    for middle in bright.middles:
        image = rng.poisson(40.0, (SIDE, SIDE)).astype(np.float32)
        spectrum, mean = bright.at.spectrum_of(image)
        empty.add(Cell(spectrum, mean, middle.reshape(1, 2)))
    image = empty.phase()
    power = np.abs(np.fft.rfft2(image).ravel()[bright.at.index]) ** 2
    known = empty.denominator > 0.05 * empty.denominator.max()
    inner = known & (np.hypot(bright.at.y, bright.at.x) < 0.7)
    outer = known & (np.hypot(bright.at.y, bright.at.x) > 1.1)
    assert power[inner].mean() == pytest.approx(power[outer].mean(), rel=0.3)
    assert empty.deviation() == pytest.approx(float(image.std()), rel=0.15)


@pytest.mark.parametrize("method", get_args(Method))
def test_each_shows_the_phase_of_a_weak_specimen_with_its_sign(bright, method):
    image = bright.phase(method)
    assert np.corrcoef(image.ravel(), bright.truth.ravel())[0, 1] > (
        0.3 if method == "icom" else 0.8
    )


def test_an_unknown_method_is_refused_and_a_kernel_has_a_middle():
    assert DirectSettings().method == "wiener"
    with pytest.raises(ValidationError, match="method"):
        DirectSettings(method="best")
    with pytest.raises(ValidationError, match="for example 33"):
        DirectSettings(kernel_size=32)
