"""The virtual microscope's lens, source and detector, each against what it stands for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stemd.aberrations import Aberrations
from stemd.acquisition import Scan
from stemd.beam import Beam
from stemd.virtual.diffraction import HOT_SHARE, Camera, PatternRenderer
from stemd.virtual.microscope import Microscope, Setup
from stemd.virtual.specimen import build
from tests.engines.weak_phase import chi
from tests.virtual.test_virtual_diffraction import centre_of_mass

LENS = Aberrations(60.0, 25.0, -15.0, 900.0, -400.0, 500.0, 700.0)
SETUP = Setup(Scan(shape=(6, 7), step_size_angstrom=0.7), specimen="mos2", dose=1e4)


def test_patterns_are_those_of_the_aberrated_probe():
    beam = Beam(300e3, 20.0, LENS.defocus)
    specimen = build("mos2", (20.0, 20.0))
    renderer = PatternRenderer(specimen, beam, Camera(), LENS.not_round)
    positions = np.random.default_rng(4).uniform(4.0, 16.0, (6, 2))
    seen = centre_of_mass(renderer.patterns(positions)) * 1.25e-3 / beam.wavelength
    n, pitch = renderer.samples, renderer.pitch
    k = np.fft.fftfreq(n, pitch)
    ky, kx = np.meshgrid(k, k, indexing="ij")
    edge = np.clip((beam.aperture - np.hypot(ky, kx)) / renderer.core_pixel + 0.5, 0.0, 1.0)
    wave = np.sqrt(edge) * np.exp(-1j * chi(beam, LENS, ky, kx))
    wave /= np.sqrt((np.abs(wave) ** 2).sum())
    probe = np.fft.fftshift(np.fft.ifft2(wave))
    for (y, x), got in zip(positions, seen, strict=True):
        origin = (y - n // 2 * pitch, x - n // 2 * pitch)
        potential = specimen.potential(origin, (n, n), pitch, renderer.g_limit)
        pattern = np.abs(np.fft.fft2(probe * np.exp(1j * beam.sigma * potential))) ** 2
        pattern[(np.abs(ky) > 40e-3 / beam.wavelength) | (np.abs(kx) > 40e-3 / beam.wavelength)] = 0
        expected = np.array([(pattern * ky).sum(), (pattern * kx).sum()]) / pattern.sum()
        assert np.abs(got - expected).max() < 0.03 * np.abs(seen).max()


@pytest.mark.parametrize("flip", [False, True])
def test_the_lens_stays_with_the_scan_when_the_camera_is_turned(flip):
    specimen, beam = build("mos2", (20.0, 20.0)), Beam()
    positions = np.random.default_rng(3).uniform(4.0, 16.0, (6, 2))
    plain = centre_of_mass(PatternRenderer(specimen, beam, Camera(), LENS).patterns(positions))
    camera = Camera(rotation_deg=35.0, flip=flip)
    seen = centre_of_mass(PatternRenderer(specimen, beam, camera, LENS).patterns(positions))
    assert np.abs(seen @ camera.axes.T - plain).max() < 0.02 * np.abs(plain).max()


def test_a_drive_acts_from_the_next_scan_on():
    microscope = Microscope(SETUP)
    counts = microscope.counts(0, 0, 84, part=21)
    parts = [next(counts)]
    microscope.move(Aberrations(defocus=80.0, astigmatism_x=20.0))
    parts += list(counts)
    whole = np.concatenate(parts)
    moved = replace(SETUP, beam=Beam(defocus_angstrom=80.0), lens=Aberrations(astigmatism_x=20.0))
    np.testing.assert_array_equal(
        whole[:42], np.concatenate(list(Microscope(SETUP).counts(0, 0, 42)))
    )
    np.testing.assert_array_equal(
        whole[42:], np.concatenate(list(Microscope(moved).counts(1, 0, 42)))
    )


def test_a_source_of_finite_size_is_an_average_over_places():
    microscope = Microscope(replace(SETUP, source_size_angstrom=0.3))
    frames = np.arange(1)
    seen = next(microscope._core(0, frames, 1))[0]
    nodes = np.linspace(-1.2, 1.2, 17)
    weight = np.exp(-0.5 * (nodes / 0.3) ** 2)
    places = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1).reshape(-1, 2)
    share = np.outer(weight, weight).ravel() / weight.sum() ** 2
    plain = Microscope(SETUP)
    at = plain.path.positions(frames) + places
    expected = np.tensordot(share, np.concatenate(list(plain.renderer.core(at))), 1)
    off = np.abs(next(plain._core(0, frames, 1))[0] - expected).max()
    assert np.abs(seen - expected).max() < 0.02 * expected.max() < 0.5 * off


def test_faulty_pixels_and_a_point_spread_are_seen():
    camera = Camera((32, 32), 2.5, hot=2, dead=3, point_spread=1.2)
    vacuum = build("vacuum", (9.0, 9.0))
    sharp = PatternRenderer(vacuum, Beam(), Camera((32, 32), 2.5)).patterns(np.zeros((1, 2)))[0]
    seen = PatternRenderer(vacuum, Beam(), camera).patterns(np.zeros((1, 2)))[0]
    hot, dead = camera.faulty()
    assert (seen.flat[dead] == 0.0).all()
    rest = np.ones(seen.shape, bool)
    rest.flat[hot] = rest.flat[dead] = False
    k = np.fft.fftfreq(32)
    blur = np.exp(-2 * (np.pi * 1.2) ** 2 * (k[:, None] ** 2 + k[None, :] ** 2))
    blurred = np.fft.ifft2(np.fft.fft2(sharp) * blur).real
    assert np.abs(seen - blurred)[rest].max() < 0.01 * blurred.max()
    assert seen.flat[hot] == pytest.approx(blurred.flat[hot] + HOT_SHARE, abs=1e-4)
