"""Multislice with frozen phonons: exit waves of many probe positions at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stemd.beam import Beam
from training.airpi.potential import Atoms, Grid, potentials, slices_of

F64 = NDArray[np.float64]
SLICE_ANGSTROM = 2.0


@dataclass(frozen=True, slots=True)
class ExitWaves:
    """What leaves the specimen, at k in the order of the FFT, relative to each probe position.

    `coherent` complex64 (positions, n, n): the wave averaged over the phonon configurations;
    `intensity` float32 (positions, n, n): the averaged intensity. One electron each: an empty
    specimen's intensity has the sum 1.
    """

    coherent: NDArray[np.complex64]
    intensity: NDArray[np.float32]


def probe_wave(beam: Beam, grid: Grid) -> NDArray[np.complex128]:
    """The incident wave at k in the order of the FFT, at the origin, of total intensity 1.

    A(k) exp(-i chi(k)) (thesis eqs 1.17, 4.2); the aperture's edge is one sample wide.
    """
    wave = beam.radial_wave(grid.radius(), 1.0 / grid.side)
    return np.asarray(wave / np.sqrt((np.abs(wave) ** 2).sum()))


def displacements(
    atoms: Atoms, configurations: int, rms_angstrom: float, rng: np.random.Generator
) -> F64:
    """Random displacements (configurations, n, 3), independent and of `rms_angstrom` an axis."""
    return np.asarray(rng.normal(0.0, rms_angstrom, (configurations, *atoms.places.shape)))


def exit_waves(
    atoms: Atoms,
    beam: Beam,
    grid: Grid,
    positions: F64,
    moved: F64,
    slice_angstrom: float = SLICE_ANGSTROM,
) -> ExitWaves:
    """Exit waves of `positions` (n, 2), y and x in angstrom, through the specimen.

    `moved` (configurations, atoms, 3): `displacements`, or zeros for a specimen at rest. Per
    slice: psi <- P (t psi), t = exp(i sigma V), P(k) = exp(-i pi lambda dz k^2) (Kirkland,
    Advanced Computing in Electron Microscopy, 2nd ed., chapter 6), all of them band-limited.
    The last slice is not followed by a propagation.
    """
    count = slices_of(atoms, slice_angstrom)
    band = grid.band()
    k = grid.frequency
    start = probe_wave(beam, grid)
    ramps = np.exp(-2j * math.pi * positions[:, 0, None, None] * k[:, None])
    ramps = ramps * np.exp(-2j * math.pi * positions[:, 1, None, None] * k[None, :])
    incident = torch.from_numpy((start * ramps).astype(np.complex64))
    back = torch.from_numpy(np.conj(ramps).astype(np.complex64))
    phase = -math.pi * beam.wavelength * slice_angstrom * grid.radius() ** 2
    propagator = torch.from_numpy(np.where(band, np.exp(1j * phase), 0.0).astype(np.complex64))
    last = torch.from_numpy(band.astype(np.float32))
    coherent = torch.zeros_like(incident)
    intensity = torch.zeros(incident.shape)
    for configuration in moved:
        volts = potentials(atoms, grid, count, slice_angstrom, configuration[None])[0]
        angle = volts * beam.sigma
        through = torch.polar(torch.ones_like(angle), angle)
        through = torch.fft.ifft2(torch.fft.fft2(through) * last)
        wave = incident
        for number in range(count):
            wave = torch.fft.fft2(torch.fft.ifft2(wave) * through[number])
            wave = wave * (propagator if number < count - 1 else last)
        coherent += wave
        intensity += wave.real.square() + wave.imag.square()
    coherent *= back / moved.shape[0]
    return ExitWaves(coherent.numpy(), (intensity / moved.shape[0]).numpy())
