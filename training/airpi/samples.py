"""One training specimen: random optics, groups of 3 x 3 patterns and the centre's exit wave."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.beam import Beam
from training.airpi.multislice import displacements, exit_waves, probe_wave
from training.airpi.potential import Grid
from training.airpi.specimens import specimen

F64 = NDArray[np.float64]
DETECTOR = 64
"""Pixels across a pattern."""
GROUPS = 4
"""Places a specimen is looked at: the specimen costs as much as a place."""
PHONONS = 6
REACH = 4.0
"""Half a pattern's width in convergence semi-angles."""
WIDE_ANGSTROM = 1.5
RMS_ANGSTROM = 0.08
CS_MM = 0.001
STEPS = (0.0167, 2.0)
CONVERGENCE = (5.0, 30.0)
ENERGIES = (30e3, 300e3)
DOSES = (3.0, 3e9)
"""Ranges of thesis table 4.1: angstrom, mrad, electronvolt, electrons a pattern."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """`collection_mrad` is half the pattern's width; `step` the scan step in angstrom."""

    beam: Beam
    collection_mrad: float
    step: float

    @property
    def side(self) -> float:
        """Field of view of one pattern in angstrom, the inverse of its pixel."""
        return DETECTOR * self.beam.wavelength / (2e-3 * self.collection_mrad)


@dataclass(frozen=True, slots=True)
class Group:
    """`patterns` float32 (9, 64, 64), row by row of the scan, the share of the electrons in each
    pixel; `wave` complex64 (64, 64), the coherent exit wave of the centre position about it.
    Zero frequency at pixel (32, 32). An empty specimen's wave is `incident`.
    """

    patterns: NDArray[np.float32]
    wave: NDArray[np.complex64]
    conditions: Conditions
    kind: str


def conditions(rng: np.random.Generator) -> Conditions:
    """Random optics in the range of table 4.1, at Scherzer defocus or, for one in five, any.

    Scherzer defocus is sqrt(1.5 Cs lambda), thesis eq. 1.18. Small angles at low energy, whose
    probes are wider than ten atoms, are drawn less often. Patterns reach to `REACH` times the
    convergence angle, so that every sample's disc is equally large: in units of the disc all
    optics are alike but for defocus, Cs, step and the depth of focus.
    """
    energy = math.exp(rng.uniform(*np.log(ENERGIES)))
    alpha = rng.uniform(*CONVERGENCE)
    if Beam(energy, alpha).airy_radius > WIDE_ANGSTROM and rng.random() < 0.7:
        return conditions(rng)
    wavelength = Beam(energy).wavelength
    scherzer = math.sqrt(1.5 * CS_MM * 1e7 * wavelength)
    beam = Beam(energy, alpha, scherzer, CS_MM)
    if rng.random() < 0.2:
        beam = Beam(energy, alpha, rng.normal(0.0, 2.0 * scherzer), CS_MM)
    # finer than a twentieth of the probe teaches what that teaches; wider than two of them, the
    # neighbours do not meet
    finest, widest = 0.05 * beam.airy_radius, 2.0 * beam.airy_radius
    step = math.exp(rng.uniform(math.log(finest), math.log(widest)))
    return Conditions(beam, REACH * alpha, float(np.clip(step, *STEPS)))


def incident(what: Conditions) -> NDArray[np.complex64]:
    """The incident wave at the pattern's pixels (64, 64), zero frequency at (32, 32)."""
    wave = probe_wave(what.beam, Grid(DETECTOR, what.side))
    return np.fft.fftshift(wave).astype(np.complex64)


def groups(seed: int, index: int, samples: int = 128, phonons: int = PHONONS) -> list[Group]:
    """The groups of specimen number `index` of the endless series `seed`: always the same ones.

    `samples` is the simulation's grid: at two thirds of its Nyquist frequency scattering ends,
    which must be beyond the pattern's rim (96 at least), better beyond its corners (136). It is
    also what limits the accuracy: beside a heavy atom the dark field is wrong by a third with
    pixels of 0.15 angstrom and by a tenth with 0.07.
    """
    rng = np.random.default_rng([seed, index])
    what = conditions(rng)
    grid = Grid(samples, what.side)
    object_ = specimen(what.side, rng)
    # well inside: the field is periodic and the specimen ends with a seam at its border
    middles = what.side * rng.uniform(0.35, 0.65, (GROUPS, 1, 2))
    offsets = np.array([[y, x] for y in (-1, 0, 1) for x in (-1, 0, 1)]) * what.step
    if not object_.atoms.numbers.size:
        phonons = 1
    positions = (middles + offsets).reshape(-1, 2)
    moved = displacements(object_.atoms, phonons, RMS_ANGSTROM, rng)
    waves = exit_waves(object_.atoms, what.beam, grid, positions, moved)
    first = samples // 2 - DETECTOR // 2
    kept = slice(first, first + DETECTOR)
    intensity = np.fft.fftshift(waves.intensity, axes=(1, 2))[:, kept, kept]
    coherent = np.fft.fftshift(waves.coherent, axes=(1, 2))[:, kept, kept]
    return [
        Group(intensity[9 * n : 9 * n + 9].copy(), coherent[9 * n + 4].copy(), what, object_.kind)
        for n in range(GROUPS)
    ]


def with_dose(
    patterns: NDArray[np.float32], electrons: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Counts as a camera would see them with that many electrons a pattern on the specimen."""
    return rng.poisson(patterns.astype(np.float64) * electrons).astype(np.float32)


def random_dose(rng: np.random.Generator) -> float:
    """Electrons a pattern, even on a logarithmic scale over `DOSES`."""
    return math.exp(rng.uniform(*np.log(DOSES)))
