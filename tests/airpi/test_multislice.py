"""The simulation against closed forms, and against another program."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra 'training'")

from stemd.beam import Beam  # noqa: E402
from stemd.virtual.scattering import LOBATO, VOLT_ANGSTROM_SQUARED  # noqa: E402
from training.airpi import multislice, potential  # noqa: E402
from training.airpi.potential import Atoms, Grid  # noqa: E402

NUMBERS = {"O": 8, "S": 16, "Ti": 22, "Sr": 38, "Mo": 42, "Au": 79}
GRID = Grid(96, 14.0)
AT_REST = 1


def specimen() -> Atoms:
    numbers = np.array([79, 8, 42, 8], np.int64)
    places = np.array([[0.0, 3.1, 4.73], [2.0, 7.013, 7.2], [4.0, 5.5, 9.96], [6.0, 13.9, 0.4]])
    return Atoms(numbers, places)


def at_rest(atoms: Atoms) -> np.ndarray:
    return np.zeros((AT_REST, *atoms.places.shape))


def test_the_table_is_the_published_one():
    for name, (a, b) in LOBATO.items():
        table_a, table_b = potential.lobato_table()[NUMBERS[name]]
        np.testing.assert_allclose(table_a, a, rtol=1e-9)
        np.testing.assert_allclose(table_b, b, rtol=1e-9)


def test_potential_is_the_sum_of_the_scattering_factors():
    atoms = specimen()
    got = potential.potentials(atoms, GRID, 1, 6.0, at_rest(atoms))[0, 0].numpy()
    k = GRID.frequency
    expected = np.zeros((96, 96), complex)
    for number, (_, y, x) in zip(atoms.numbers, atoms.places, strict=True):
        wave = np.exp(-2j * math.pi * (k[:, None] * y + k[None, :] * x))
        expected += wave * potential.scattering_factor(int(number), GRID.radius())
    expected *= VOLT_ANGSTROM_SQUARED / (GRID.side / 96) ** 2 * GRID.band()
    seen = np.fft.fft2(got)
    inner = GRID.radius() < 0.75 * potential.BAND * 48 / GRID.side
    scale = np.abs(expected).max()
    assert np.abs(seen - expected)[inner].max() < 0.002 * scale
    assert np.abs(seen - expected).max() < 0.01 * scale


def test_empty_specimen_gives_the_probe_wherever_it_stands():
    atoms = Atoms(np.zeros(0, np.int64), np.zeros((0, 3)))
    beam = Beam(80e3, 25.0, 60.0, 0.001)
    positions = np.array([[0.0, 0.0], [3.3, 9.1]])
    waves = multislice.exit_waves(atoms, beam, GRID, positions, at_rest(atoms))
    probe = multislice.probe_wave(beam, GRID)
    np.testing.assert_allclose(waves.coherent, np.stack([probe, probe]), atol=1e-6)
    np.testing.assert_allclose(waves.intensity.sum(axis=(1, 2)), 1.0, rtol=1e-5)


def test_weak_atom_scatters_as_the_first_born_approximation_says():
    # one hydrogen atom, a nearly plane wave: psi(k) = i sigma C f(k) exp(-2 pi i k r) / L^2
    beam = Beam(300e3, 0.4)
    atoms = Atoms(np.array([1], np.int64), np.array([[0.0, 6.31, 4.2]]))
    assert np.count_nonzero(np.abs(multislice.probe_wave(beam, GRID)) > 0) == 1
    wave = multislice.exit_waves(atoms, beam, GRID, np.zeros((1, 2)), at_rest(atoms)).coherent[0]
    k = GRID.frequency
    expected = 1j * beam.sigma * VOLT_ANGSTROM_SQUARED / GRID.side**2
    expected = expected * potential.scattering_factor(1, GRID.radius())
    expected = expected * np.exp(-2j * math.pi * (k[:, None] * 6.31 + k[None, :] * 4.2))
    ring = (GRID.radius() > 0.1) & (GRID.radius() < 1.0)
    assert np.abs(wave - expected)[ring].max() < 0.02 * np.abs(expected[ring]).max()


def test_free_flight_between_two_slices_is_fresnel_propagation():
    # atoms of no account at the top and bottom: the second slice's distance defocuses the probe
    beam = Beam(100e3, 20.0)
    far = Beam(100e3, 20.0, defocus_angstrom=-60.0)
    atoms = Atoms(np.array([1, 1], np.int64), np.array([[0.0, 0.0, 0.0], [60.0, 0.0, 0.0]]))
    middle = np.array([[7.0, 7.0]])
    got = multislice.exit_waves(atoms, beam, GRID, middle, at_rest(atoms), 30.0).coherent[0]
    expected = multislice.probe_wave(far, GRID)
    # the waves' norm is 1
    assert np.linalg.norm(got - expected) < 0.05
    assert np.linalg.norm(got - multislice.probe_wave(beam, GRID)) > 0.5


def test_phonons_move_intensity_out_of_the_coherent_wave():
    atoms = specimen()
    moved = multislice.displacements(atoms, 12, 0.15, np.random.default_rng(3))
    waves = multislice.exit_waves(atoms, Beam(), GRID, np.array([[3.1, 4.73]]), moved)
    coherent = (np.abs(waves.coherent) ** 2).sum()
    assert waves.intensity.sum() < 1.0 + 1e-5
    assert coherent < 0.99 * waves.intensity.sum()


@pytest.mark.filterwarnings("ignore")  # of abTEM's own dependencies
def test_patterns_are_those_of_abtem(monkeypatch):
    import abtem
    import ase

    atoms, beam = specimen(), Beam(300e3, 25.0)
    grid = Grid(384, GRID.side)
    model = ase.Atoms(
        numbers=atoms.numbers,
        positions=atoms.places[:, ::-1] + np.array([0.0, 0.0, 1.0]),
        cell=(grid.side, grid.side, 8.0),
        pbc=(True, True, False),
    )
    volts = abtem.Potential(
        model, gpts=grid.samples, slice_thickness=2.0, projection="infinite",
        parametrization="lobato",
    )  # fmt: skip
    probe = abtem.Probe(energy=beam.energy_ev, semiangle_cutoff=25.0, soft=False)
    at = np.array([[3.0, 5.0], [6.7, 7.4]])
    out = probe.multislice(volts, scan=abtem.CustomScan(at[:, ::-1].copy()), lazy=False)
    theirs = out.diffraction_patterns(max_angle=None, fftshift=False).array
    theirs = np.transpose(np.asarray(theirs, np.float64), (0, 2, 1))

    # the same sharp aperture for both
    sharp = (grid.radius() <= beam.aperture).astype(complex)
    sharp /= np.linalg.norm(sharp)
    monkeypatch.setattr(multislice, "probe_wave", lambda beam, grid: sharp)
    ours = multislice.exit_waves(atoms, beam, grid, at, at_rest(atoms)).intensity
    mrad = grid.radius() * beam.wavelength * 1e3
    difference = np.abs(ours - theirs)
    for where, limit in ((mrad < 25.0, 0.01), ((mrad > 30.0) & (mrad < 60.0), 0.03)):
        part = difference[:, where].sum(axis=1) / theirs[:, where].sum(axis=1)
        assert np.all(part < limit), part
