"""What AIRPI's network is shown: against plain NumPy, and alike for optics that are alike."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemd.beam import Beam
from stemd.engines.airpi import features
from stemd.engines.airpi.features import GRID, SCALARS, fill_features, scalars

K = GRID.members.size
DISC = GRID.disc()
ALL = np.ones(K, np.float32)
OPTICS = scalars(Beam(300e3, 20.0, 17.0, 0.001), 0.1, 4.0)


def plain(counts, disc, known, optics):
    """The docstring of `fill_features` in NumPy, for one group (9, K)."""
    n = float((counts * known).sum() / 9 / max(float((disc * known).sum()), 0.05))
    scale = np.sqrt(n * (disc + features.FAINT) + features.QUIET) * math.sqrt(
        1 + n * features.USUAL**2
    )
    x = (counts - n * disc) / scale * known
    x = x / np.sqrt(1 + (x / features.SOFT) ** 2)
    told = optics.astype(float).copy()
    told[0] = (math.log10(max(n, 0.1)) - 4) / 3
    return np.concatenate([x.ravel() * (n > 0), told])


@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.5, 20.0, 1e3, 1e7]), st.booleans())
def test_features_are_what_their_equation_says(seed, electrons, part):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(electrons * (DISC + 1e-4), (12, K)).astype(np.float32)
    known = (np.arange(K) % 3 != 0).astype(np.float32) if part else ALL
    groups = rng.integers(0, 12, (3, 9))
    out = np.full((3, features.inputs()), np.nan, np.float32)
    fill_features(counts, groups, DISC, known, OPTICS, out)
    for row, group in zip(out, groups, strict=True):
        np.testing.assert_allclose(row, plain(counts[group], DISC, known, OPTICS), atol=2e-4)


def test_an_empty_specimen_shows_nothing_but_noise():
    counts = np.broadcast_to(1e6 * DISC, (9, K)).astype(np.float32)
    out = np.empty((1, features.inputs()), np.float32)
    fill_features(counts, np.arange(9)[None], DISC, ALL, OPTICS, out)
    assert np.abs(out[0, :-SCALARS]).max() < 1e-3


def test_what_the_detector_does_not_see_changes_nothing():
    rng = np.random.default_rng(1)
    counts = rng.poisson(100 * (DISC + 1e-4), (9, K)).astype(np.float32)
    known = (np.hypot(*GRID.vectors.T) < 1.5).astype(np.float32)
    other = np.where(known > 0, counts, rng.random((9, K))).astype(np.float32)
    rows = np.empty((2, 1, features.inputs()), np.float32)
    for seen, row in zip((counts, other), rows, strict=True):
        fill_features(seen, np.arange(9)[None], DISC, known, OPTICS, row)
    np.testing.assert_array_equal(rows[0], rows[1])


@pytest.mark.parametrize("energy_ev", [60e3, 300e3])
def test_optics_that_are_alike_in_units_of_the_aperture_look_alike(energy_ev):
    # same phase at the rim, same step in Airy radii: only the depth of focus differs
    def alike(beam: Beam) -> Beam:
        k, lam = beam.aperture, beam.wavelength
        defocus = 3.0 / (math.pi * lam * k**2)
        cs_mm = 0.5 / (math.pi * 0.5e7 * lam**3 * k**4)
        return Beam(beam.energy_ev, beam.convergence_semi_angle_mrad, defocus, cs_mm)

    first, second = alike(Beam(energy_ev, 12.0)), alike(Beam(200e3, 25.0))
    a = scalars(first, 0.3 * first.airy_radius, 3.0)
    b = scalars(second, 0.3 * second.airy_radius, 3.0)
    np.testing.assert_allclose(a[[0, 1, 2, 3, 5]], b[[0, 1, 2, 3, 5]], rtol=1e-5)
    assert a[4] != b[4]


def test_the_field_is_the_inverse_of_a_pixel_of_the_grid():
    beam = Beam(300e3, 20.0)
    pixel = 1.0 / features.field_angstrom(beam)
    assert math.isclose(pixel, beam.aperture / GRID.per_angle)
    assert math.isclose(features.pixel_angstrom(beam), beam.wavelength / (8 * 20e-3))
