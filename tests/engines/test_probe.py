"""The probe against closed forms, and the disc against the virtual microscope."""

from __future__ import annotations

import numpy as np
import pytest

from stemd.acquisition import Scan
from stemd.beam import Beam
from stemd.engines.probe import fit_disc, probe
from stemd.errors import StemdError
from stemd.virtual.diffraction import Camera
from stemd.virtual.microscope import Microscope, Setup


def pacbed(specimen: str, camera: Camera, dose: float = 2000.0) -> np.ndarray:
    scan = Scan(shape=(6, 6), step_size_angstrom=0.6)
    setup = Setup(scan, specimen, beam=Beam(200e3, 22.0), camera=camera, dose=dose)
    counts = np.concatenate(list(Microscope(setup).counts(0, 0, 36)))
    return counts.astype(np.float64).mean(axis=0)


@pytest.mark.slow
@pytest.mark.parametrize("specimen", ["vacuum", "srtio3", "mos2_twisted"])
def test_the_disc_of_the_virtual_microscope_is_found(specimen):
    camera = Camera((64, 72), 1.3, offset=(1.7, -2.4))
    disc = fit_disc(pacbed(specimen, camera))
    assert disc.radius == pytest.approx(22.0 / 1.3, rel=0.03)
    assert disc.center == pytest.approx((31.5 + 1.7, 35.5 - 2.4), abs=0.3)


def test_dead_and_hot_pixels_and_a_beam_stop_do_not_matter():
    image = pacbed("vacuum", Camera((64, 64), 1.3))
    rng = np.random.default_rng(1)
    image.ravel()[rng.choice(image.size, 20, replace=False)] = 0.0
    image.ravel()[rng.choice(image.size, 5, replace=False)] = 1e5
    image[30:34, 40:] = 0.0
    disc = fit_disc(image)
    assert disc.radius == pytest.approx(22.0 / 1.3, rel=0.03)
    assert disc.center == pytest.approx((31.5, 31.5), abs=0.4)


@pytest.mark.parametrize("image", [np.zeros((32, 32)), np.ones((32, 32))])
def test_without_a_disc_there_is_a_clear_error(image):
    with pytest.raises(StemdError, match="position-averaged pattern") as caught:
        fit_disc(image)
    assert "convergence_semi_angle_mrad" in caught.value.remedy


def test_the_probe_in_focus_is_an_airy_disc():
    beam = Beam(300e3, 20.0)
    wave = probe(beam, 256, 40.0)
    assert np.linalg.norm(wave) == pytest.approx(1.0, rel=1e-5)
    line = np.abs(wave[128, 128:]) ** 2
    assert line.argmax() == 0
    zero = int(np.argmax(np.diff(line) > 0)) * 40.0 / 256
    assert zero == pytest.approx(beam.airy_radius, abs=40.0 / 256)


def test_defocus_and_cs_are_in_the_phase():
    beam = Beam(80e3, 25.0, 60.0, 0.01)
    spectrum = np.fft.fft2(np.fft.ifftshift(probe(beam, 64, 20.0)))
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(64, 20 / 64), np.fft.fftfreq(64, 20 / 64)))
    inside = k < 0.9 * beam.aperture
    lam = beam.wavelength
    chi = np.pi * lam * k**2 * (0.5 * 0.01e7 * lam**2 * k**2 - 60.0)
    unwound = spectrum * np.exp(1j * chi)
    assert np.abs(np.angle(unwound[inside])).max() < 1e-3
    assert np.ptp(np.abs(unwound[inside])) < 1e-4
