"""A phase image is held to what the centre of mass says of its slopes, and not to its noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from stemd.aberrations import Aberrations
from stemd.beam import Beam
from stemd.engines.airpi.blurs import blurring
from stemd.engines.airpi.measured_slopes import _whole, correction, waves_of
from stemd.engines.airpi.patch_offsets import image_of, mirrored
from stemd.engines.airpi.slopes import Frame, Slopes, near_known
from stemd.engines.probe import probe
from stemd.engines.splines import read_at, spline_response

BEAM = Beam(300e3, 20.0)
PIXEL, STEP, SCAN = 0.12, 0.2, 64
SIDE = int((SCAN - 1) * STEP / PIXEL) + 1
FRAME = Frame(PIXEL, (0.0, 0.0))


def specimen(seed: int = 0) -> np.ndarray:
    """Atoms at random places on the image's pixels, radian."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, SIDE, (60, 2))
    y, x = np.mgrid[:SIDE, :SIDE]
    image = np.zeros((SIDE, SIDE))
    for row, column in places:
        image += 0.4 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 2 / 2.5**2)
    return (image - image.mean()).astype(np.float32)


def measured(phase: np.ndarray, noise: float = 0.0) -> Slopes:
    """The slopes of a phase under the probe, by convolution and differences in real space."""
    side = 63
    intensity = np.abs(probe(BEAM, side, side * PIXEL)).astype(np.float64) ** 2
    blurred = ndimage.convolve(phase.astype(np.float64), intensity / intensity.sum())
    places = np.arange(SCAN) * STEP / PIXEL
    grid = np.meshgrid(places, places, indexing="ij")
    rng = np.random.default_rng(5)
    fields = []
    for axis in (0, 1):
        slope = np.gradient(blurred, PIXEL, axis=axis)
        field = ndimage.map_coordinates(slope, grid, order=3, mode="nearest")
        fields.append((field + rng.normal(0, noise, field.shape)).astype(np.float32))
    return Slopes(fields[0], fields[1], np.ones((SCAN, SCAN), bool), STEP)


def held(image: np.ndarray, slopes: Slopes) -> np.ndarray:
    spectrum = np.fft.rfft2(mirrored(image)).astype(np.complex64)
    return image + correction(spectrum, image.shape, FRAME, slopes, BEAM)


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    inner = np.s_[10:-10, 10:-10]
    return float(np.corrcoef(a[inner].ravel(), b[inner].ravel())[0, 1])


def without_coarse(image: np.ndarray) -> np.ndarray:
    return (image - ndimage.gaussian_filter(image, 3.0, mode="reflect")).astype(np.float32)


@given(
    # scipy starts its filter with an approximation that is wrong on smaller images
    shape=st.tuples(st.integers(14, 19), st.integers(14, 19)),
    places=st.lists(st.floats(-12.0, 30.0), min_size=1, max_size=5),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_a_spline_is_read_as_scipy_reads_it(shape, places, seed):
    image = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    whole = np.fft.rfft2(mirrored(image))
    whole /= spline_response(2 * shape[0], 2 * shape[0])[:, None]
    whole /= spline_response(2 * shape[1], shape[1] + 1)[None, :]
    y, x = np.array(places), np.array(places[::-1])
    read = read_at(image_of(whole, shape), y, x)
    wanted = ndimage.map_coordinates(
        image.astype(np.float64), np.meshgrid(y, x, indexing="ij"), order=3, mode="reflect"
    )
    np.testing.assert_allclose(read, wanted, atol=2e-5)


@given(st.tuples(st.integers(1, 8), st.integers(1, 8)), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_waves_of_a_mirrored_field_give_it_back(shape, seed):
    field = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(image_of(_whole(waves_of(field)), shape), field, atol=1e-5)


@pytest.mark.parametrize("defocus", [0.0, 60.0])
def test_the_blur_is_the_transform_of_the_probe(defocus):
    beam = Beam(200e3, 25.0, defocus, 0.001)
    side, field = 256, 256 * 0.1
    intensity = np.abs(probe(beam, side, field)).astype(np.float64) ** 2
    line = np.fft.rfft(np.fft.ifftshift(intensity.sum(axis=1))).real
    k = np.fft.rfftfreq(side, field / side)
    along = blurring(beam, k[:, None], np.zeros((1, 1)))[:, 0]
    np.testing.assert_allclose(along, line / line[0], atol=0.02)
    ends = np.array([[0.0], [2.1 * beam.aperture]])
    assert blurring(beam, ends, ends[:1])[:, 0] == pytest.approx([1.0, 0.0], abs=0.01)


def test_the_blur_of_an_astigmatic_probe_is_that_of_its_rays():
    """Far from focus the rays make the probe: along y they go by -defocus - A1, along x + A1."""
    lens = Aberrations(defocus=300.0, astigmatism_x=100.0)
    k = np.linspace(0.0, 0.2, 7) * BEAM.aperture

    def disc(reach: float) -> np.ndarray:
        """The transform of a disc of this radius, over its area."""
        y, x = np.mgrid[-1:1:201j, -1:1:201j]
        inside = np.hypot(y, x) < 1.0
        return np.array([np.cos(2 * np.pi * q * reach * y[inside]).mean() for q in k])

    alpha, none = 0.020, np.zeros((1, 1))
    along_y = blurring(BEAM, k[:, None], none, lens)[:, 0]
    along_x = blurring(BEAM, none, k[None, :], lens)[0]
    np.testing.assert_allclose(along_y, disc(400.0 * alpha), atol=0.08)
    np.testing.assert_allclose(along_x, disc(200.0 * alpha), atol=0.08)


def test_coarse_structure_comes_back_from_slopes():
    truth = specimen()
    poor = without_coarse(truth)
    after = held(poor, measured(truth))
    assert likeness(poor, truth) < 0.85
    assert likeness(after, truth) > 0.985
    inner = np.s_[10:-10, 10:-10]
    assert abs(np.polyfit(truth[inner].ravel(), after[inner].ravel(), 1)[0] - 1.0) < 0.1


def test_an_image_that_agrees_is_left_alone():
    truth = specimen()
    change = held(truth, measured(truth)) - truth
    assert change.std() < 0.12 * truth.std()


@pytest.mark.parametrize("noise", [0.05, 0.3, 2.0])
def test_noise_is_not_let_in(noise):
    truth = specimen()
    poor = without_coarse(truth)
    after = held(poor, measured(truth, noise))
    assert likeness(after, truth) > likeness(poor, truth) - 0.05
    nothing = held(np.zeros_like(truth), measured(np.zeros_like(truth), noise))
    # integrated without regard to noise it would be about the noise times the scan's side
    assert nothing.std() < 0.15 * noise


def test_lines_and_shifted_frames_speak_of_the_same_places():
    truth = specimen()
    slopes = measured(truth)
    first, rows = 20, 40
    top = round(first * STEP / PIXEL)
    part = without_coarse(truth)[top : top + 90]
    spectrum = np.fft.rfft2(mirrored(part)).astype(np.complex64)
    frame = Frame(PIXEL, (top * PIXEL - first * STEP, 0.0))
    after = part + correction(spectrum, part.shape, frame, slopes.lines(first, first + rows), BEAM)
    inner = np.s_[10:60, 10:-10]
    assert np.corrcoef(after[inner].ravel(), truth[top : top + 90][inner].ravel())[0, 1] > 0.97


def test_unknown_positions_are_blank_about_them():
    known = np.ones((SCAN, SCAN), bool)
    known[30:] = False
    slopes = Slopes(np.zeros((SCAN, SCAN), "f4"), np.zeros((SCAN, SCAN), "f4"), known, STEP)
    near = near_known((SIDE, SIDE), FRAME, slopes)
    rows = np.flatnonzero(near.any(axis=1))
    assert near[rows].all()
    assert rows[-1] * PIXEL == pytest.approx(29.5 * STEP, abs=PIXEL)
    flat = correction(np.zeros((2 * SIDE, SIDE + 1), "c8"), (SIDE, SIDE), FRAME, slopes, BEAM)
    assert not flat.any()
