"""What AIRPI's network is shown of nine neighbouring patterns, in training and in use alike.

Patterns are on a grid in units of the convergence semi-angle (`GRID`), which takes energy and
aperture out of the problem: what is left of the optics are a few plain numbers. Counts are given
as their difference from an empty specimen's, in deviations of the noise where noise prevails and
of what atoms usually do where there are electrons enough. The step is one of the plain numbers:
patterns are not weighted by it (thesis eq. 4.10), since a network of full connections scales its
inputs by itself.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stemd.beam import Beam
from stemd.compilation import njit
from stemd.engines.diffraction_grid import DiffractionGrid

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

GRID = DiffractionGrid(half=15, per_angle=4.0)
"""Patterns reach to 3.9 convergence semi-angles."""
SAMPLES = 32
"""Pixels across the real-space field, the inverse of a pixel of `GRID`: 4 wavelengths over the
semi-angle, 6.6 radii of the Airy disc."""
WINDOW = 13
"""Pixels across the part of the field for which the network gives the transmission."""
SCALARS = 6
FEATURES = 1
"""Version of what is computed here; a network knows which one it was trained with."""
FAINT = 1e-4
"""Share of the electrons in a pixel, added to the disc's, below which intensity counts little."""
USUAL = 0.02
"""What atoms usually change in the square root of a pixel's share of the electrons."""
QUIET = 0.25
"""Counts, added to the variance: a pixel that expects none is not infinitely sure."""
SOFT = 8.0
"""Deviations beyond which a feature grows slower."""


def pixel_angstrom(beam: Beam) -> float:
    """Pixel of the real-space field in angstrom, lambda / (8 alpha)."""
    return field_angstrom(beam) / SAMPLES


def field_angstrom(beam: Beam) -> float:
    """The field's width in angstrom: the inverse of a pixel of `GRID`."""
    return GRID.per_angle / beam.aperture


def scalars(beam: Beam, step_size_angstrom: float, reach: float) -> F32:
    """What the network is told of the optics, float32 (SCALARS,); the first is the dose's.

    `reach`: how far the detector sees, in semi-angles. Defocus and Cs in radian at the rim of
    the aperture (eq. 1.17), the depth of focus lambda / alpha^2 in angstrom, the step in radii
    of the Airy disc; each brought to about -1..1. The first, log10 of the electrons a pattern,
    is put in by `fill_features`.
    """
    k = beam.aperture
    rim = math.pi * beam.wavelength * k**2
    depth = 1.0 / (beam.wavelength * k**2)
    return np.array(
        [
            0.0,
            math.log2(step_size_angstrom / beam.airy_radius) / 2.0,
            rim * beam.defocus_angstrom / 4.0,
            rim * 0.5 * beam.cs_mm * 1e7 * (beam.wavelength * k) ** 2 / 4.0,
            math.log(depth / 50.0) / 1.5,
            min(reach, GRID.half / GRID.per_angle) - 2.5,
        ],
        np.float32,
    )


@njit(nogil=True, cache=True)
def fill_features(counts, groups, disc, known, optics, out):  # type: ignore[no-untyped-def]
    """Write the network's input of each group.

    counts: float32 (patterns, K), electrons in the pixels of `GRID`; groups: int64 (n, 9), the
    patterns of a group, row by row of the scan; disc: float32 (K,), `GRID.disc()`; known: float32
    (K,), 1 where the detector sees the pixel, else 0; optics: float32 (SCALARS,), `scalars`; out:
    float32 (n, 9 K + SCALARS). With N the mean of the nine sums, p the disc, a pixel becomes

        x / sqrt(1 + (x / SOFT)^2),
        x = (c - N p) / sqrt(N (p + FAINT) + QUIET) / sqrt(1 + N USUAL^2)

    and 0 where it is not known. A group without electrons is all 0 but for the plain numbers.
    """
    n, K = groups.shape[0], disc.size
    scale = np.empty(K, np.float32)
    for g in range(n):
        total = 0.0
        share = 0.0
        for k in range(K):
            share += disc[k] * known[k]
        for j in range(9):
            row = counts[groups[g, j]]
            part = np.float32(0.0)
            for k in range(K):
                part += row[k] * known[k]
            total += float(part)
        # of all electrons, as if those of the disc that the detector does not see were counted
        N = np.float32(total / 9.0 / max(share, 0.05))
        common = np.float32(1.0 / math.sqrt(1.0 + N * USUAL * USUAL))
        for k in range(K):
            scale[k] = (
                known[k] * common / np.sqrt(N * (disc[k] + np.float32(FAINT)) + np.float32(QUIET))
            )
        target = out[g]
        for j in range(9):
            row = counts[groups[g, j]]
            for k in range(K):
                x = (row[k] - N * disc[k]) * scale[k]
                if N <= 0.0:
                    x = np.float32(0.0)
                y = x * np.float32(1.0 / SOFT)
                target[j * K + k] = x / np.sqrt(np.float32(1.0) + y * y)
        for s in range(SCALARS):
            target[9 * K + s] = optics[s]
        target[9 * K] = np.float32((math.log10(max(N, np.float32(0.1))) - 4.0) / 3.0)


def inputs() -> int:
    """Numbers that the network takes for a group: 9 K + SCALARS."""
    return 9 * GRID.members.size + SCALARS
