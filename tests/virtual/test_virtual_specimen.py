"""Potentials against analytic limits and an independent sum of structure factors."""

import math

import numpy as np
import pytest

from stemd.beam import Beam
from stemd.errors import UsageError
from stemd.virtual.scattering import (
    LOBATO,
    VOLT_ANGSTROM_SQUARED,
    radial_potential,
    scattering_factor,
)
from stemd.virtual.specimen import SPECIMENS, SRTIO3, build

BOHR = 0.529177
NUMBERS = {"O": 8, "S": 16, "Ti": 22, "Sr": 38, "Mo": 42, "Au": 79}


@pytest.mark.parametrize("element", sorted(LOBATO))
def test_scattering_at_high_angles_is_that_of_the_bare_nucleus(element: str) -> None:
    # Mott-Bethe: f = Z / (2 pi^2 a0 g^2) once the electrons no longer screen
    g = 40.0
    expected = NUMBERS[element] / (2 * math.pi**2 * BOHR * g**2)
    assert scattering_factor(element, np.array([g]))[0] == pytest.approx(expected, rel=0.02)


def test_wavelength_and_interaction_constant_are_the_tabulated_ones() -> None:
    beam = Beam(energy_ev=300e3)
    assert beam.wavelength == pytest.approx(0.0196875, rel=1e-5)
    assert beam.sigma * 1e3 == pytest.approx(0.6526, rel=1e-3)  # radian / (kV angstrom)
    assert Beam(energy_ev=100e3).sigma * 1e3 == pytest.approx(0.9244, rel=1e-3)


@pytest.mark.parametrize("element", ["O", "Au"])
def test_an_atom_s_potential_integrates_to_its_forward_scattering(element: str) -> None:
    table = radial_potential(element, 0.08, 4.0).astype(np.float64)
    r = np.arange(table.size) * 0.005
    volume = float(np.sum(table * 2 * math.pi * r) * 0.005)
    forward = VOLT_ANGSTROM_SQUARED * float(scattering_factor(element, np.zeros(1))[0])
    assert volume == pytest.approx(forward, rel=0.01)


def test_a_crystal_s_potential_is_the_fourier_sum_of_its_structure_factors() -> None:
    a, n = 3.905, 40
    pitch, limit = a / n, 4.0
    seen = build("srtio3", (a, a), a).potential((0.0, 0.0), (n, n), pitch, limit)
    h = np.fft.fftfreq(n, 1 / n)
    g = np.hypot(h[:, None], h[None, :]) / a
    taper = 0.5 + 0.5 * np.cos(np.pi * np.clip((g / limit - 0.7) / 0.3, 0, 1))
    total = np.zeros((n, n), complex)
    for element, y, x, count in SRTIO3.sites:
        phase = np.exp(-2j * np.pi * (h[:, None] * y + h[None, :] * x))
        total += count * scattering_factor(element, g) * phase
    total *= VOLT_ANGSTROM_SQUARED / a**2 * taper * np.exp(-2 * (np.pi * 0.08 * g) ** 2)
    expected = np.fft.ifft2(total).real * n * n
    assert np.abs(seen - expected).max() < 3e-3 * expected.max()


@pytest.mark.parametrize("name", sorted(SPECIMENS))
def test_any_window_of_a_specimen_shows_the_same_matter(name: str) -> None:
    specimen = build(name, (30.0, 40.0))
    whole = specimen.potential((-5.0, -5.0), (400, 500), 0.1, 3.0)
    part = specimen.potential((2.0, 11.0), (120, 90), 0.1, 3.0)
    assert np.allclose(whole[70:190, 160:250], part, atol=2e-3 * max(1.0, float(whole.max())))


def test_a_turned_grid_shows_the_turned_specimen() -> None:
    specimen = build("mos2", (20.0, 20.0))
    quarter = np.array([[0.0, -1.0], [1.0, 0.0]])  # grid (row, column) -> specimen (y, x)
    turned = specimen.potential((0.0, -12.0), (80, 121), 0.1, 3.0, quarter)
    plain = specimen.potential((0.0, 0.0), (121, 80), 0.1, 3.0)
    # grid (u, v) lies at specimen (y, x) = (-v, u)
    assert np.allclose(turned, plain[::-1].T, atol=1e-2)


def test_the_nanoparticle_has_a_hole_a_particle_and_a_burgers_vector_of_one_cell() -> None:
    field = 60.0
    specimen = build("nanoparticle", (field, field))
    potential = specimen.potential((0.0, 0.0), (600, 600), 0.1, 3.0)
    assert potential[162, 456] < 2.0
    assert {group.element for group in specimen.atoms((0, 0, field, field))} >= {"Au", "Sr"}
    strontium = next(g for g in specimen.atoms((0, 0, field, field)) if g.element == "Sr")

    def columns_in(low: float, high: float) -> int:
        band = (strontium.y > low) & (strontium.y < high)
        return int(np.sum(band & (strontium.x > 5) & (strontium.x < 55)))

    # one extra half plane ends at the core, at y = 0.72 of the field
    core = 0.72 * field
    above = columns_in(core - 9 * 3.905 / 2 - 1.9, core - 3.905 / 2)
    assert above > 0
    walk = _burgers(strontium.y, strontium.x, core, 0.58 * field)
    assert abs(walk) == 1


def _burgers(y: np.ndarray, x: np.ndarray, core_y: float, core_x: float) -> int:
    """Closure failure, in cells along x, of a square walk from column to column."""
    at = np.argmin((y - (core_y - 10)) ** 2 + (x - (core_x - 10)) ** 2)
    place = np.array([y[at], x[at]])
    start, steps = place.copy(), 5
    for direction in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        for _ in range(steps):
            aim = place + np.array(direction) * 3.905
            nearest = np.argmin((y - aim[0]) ** 2 + (x - aim[1]) ** 2)
            place = np.array([y[nearest], x[nearest]])
    return round(float((place - start)[1]) / 3.905)


def test_an_unknown_specimen_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(UsageError, match="srtio3"):
        build("srtio", (10.0, 10.0))
