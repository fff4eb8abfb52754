"""Projected electrostatic potential of single atoms, from published scattering factors."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit

Coefficients = tuple[
    tuple[float, float, float, float, float], tuple[float, float, float, float, float]
]

LOBATO: dict[str, Coefficients] = {
    "O": (
        (29.9474045242362, -77.6101266255278, 99.8817764623144, -51.2127005505673,
         0.00819618954446032),
        (1.3028398788001, 1.15794105258309, 1.00988549338025, 0.943327971433266,
         0.0433197611321825),
    ),
    "S": (
        (2.67971415610199, -0.474252822230755, 0.514835948989687, -0.0958360024990722,
         0.00248871963818935),
        (3.06889121199971, 0.378216702185809, 0.188721811902548, 0.0923370590031494,
         0.0111920877241144),
    ),
    "Ti": (
        (8.57595775238129, -210.331563465304, 206.097172601541, 0.0477773948977261,
         0.00050571648448032),
        (6.00780668875581, 2.60285856745213, 2.55352345051105, 0.0711429484024153,
         0.00485628439383726),
    ),
    "Sr": (
        (4.77092509299826, 1.47597850155283, 0.304451355544188, 0.00359474981916728,
         3.0008554923e-07),
        (13.3668881330412, 1.33738379577196, 0.177532369437782, 0.00779105033001826,
         0.00028225513964854),
    ),
    "Mo": (
        (2.83105968432053, 2.34858137489674, 0.245105888429696, 0.00235282108218515,
         2.3127083834e-07),
        (10.435719575895, 1.60482868674597, 0.131696934774606, 0.00554977901383345,
         0.0002227474637649),
    ),
    "Au": (
        (1.6759346706487, 3.00486602969729, 0.595340013161635, 0.0117163186623094,
         4.296782976398e-05),
        (5.52231093211402, 1.38007223007196, 0.162229237655945, 0.00901814890416575,
         0.00037927766747767),
    ),
}  # fmt: skip
"""Coefficients (a1..a5), (b1..b5) of the neutral atoms' electron scattering factors:
I. Lobato and D. Van Dyck, Acta Cryst. A70 (2014) 636, doi 10.1107/S205327331401643X."""

VOLT_ANGSTROM_SQUARED = 47.877_647
"""h^2 / (2 pi m0 e) in volt angstrom^2: turns a scattering factor in angstrom into volts."""

TABLE_STEP = 0.005
"""Spacing of the radial table in angstrom."""
CUTOFF = 6.0
"""An atom's potential ends here, in angstrom, faded out over the last one."""


def scattering_factor(element: str, g: NDArray[np.float64]) -> NDArray[np.float64]:
    """Electron scattering factor in angstrom at g (inverse angstrom, g = 2 sin(theta)/lambda).

    f(g) = sum_i a_i (2 + b_i g^2) / (1 + b_i g^2)^2 (Lobato and Van Dyck 2014).
    """
    a, b = (np.array(values)[:, None] for values in LOBATO[element])
    bg2 = b * np.ravel(g)[None, :] ** 2
    return np.asarray((a * (2 + bg2) / (1 + bg2) ** 2).sum(axis=0).reshape(np.shape(g)))


@lru_cache(maxsize=4)
def _bessel_table(top: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x in 0..top and J0(x) = (2/pi) int_0^(pi/2) cos(x sin t) dt, whose midpoint rule is exact
    to rounding once the nodes of the full circle outnumber x.
    """
    nodes = top // 2 + 16
    sine = np.sin((np.arange(nodes) + 0.5) * (math.pi / 2) / nodes)
    x = np.arange(0.0, top + 0.01, 0.01)
    value = np.empty_like(x)
    for start in range(0, x.size, 4096):
        value[start : start + 4096] = np.cos(np.outer(x[start : start + 4096], sine)).mean(axis=1)
    return x, value


@lru_cache(maxsize=64)
def radial_potential(element: str, rms_angstrom: float, g_limit: float) -> NDArray[np.float32]:
    """Projected potential of one atom against radius, V angstrom, every `TABLE_STEP` angstrom.

    v(r) = 2 pi C int f(g) exp(-2 pi^2 u^2 g^2) J0(2 pi g r) g dg: the scattering factor with
    the Debye-Waller factor of an rms displacement u (angstrom, each axis), band-limited by a
    cosine between 0.7 and 1 of `g_limit` (inverse angstrom).
    """
    g = (np.arange(600, dtype=np.float64) + 0.5) * (g_limit / 600)
    taper = 0.5 + 0.5 * np.cos(math.pi * np.clip((g / g_limit - 0.7) / 0.3, 0.0, 1.0))
    weight = (
        scattering_factor(element, g) * np.exp(-2 * (math.pi * rms_angstrom * g) ** 2) * taper * g
    )
    r = np.arange(0.0, CUTOFF, TABLE_STEP)
    phase = 2 * math.pi * np.outer(r, g)
    table = np.interp(phase, *_bessel_table(math.ceil(phase.max()))) @ weight
    table *= 2 * math.pi * VOLT_ANGSTROM_SQUARED * (g_limit / 600)
    table *= 0.5 + 0.5 * np.cos(math.pi * np.clip(r - (CUTOFF - 1.0), 0.0, 1.0))
    return np.asarray(table, np.float32)


@njit(nogil=True, cache=True)
def add_atoms(
    image: NDArray[np.float32],
    row: NDArray[np.float64],
    column: NDArray[np.float64],
    weight: NDArray[np.float32],
    table: NDArray[np.float32],
    pitch: float,
) -> None:
    """Add weight * v(r) of each atom to `image` in place.

    `row` and `column` are in angstrom from the centre of pixel (0, 0), `pitch` is the pixel in
    angstrom, `table` a `radial_potential`. Cost: a few ns for each of (2 CUTOFF / pitch)^2
    pixels an atom. Atoms outside the image add what reaches into it.
    """
    height, width = image.shape
    last = table.size - 2
    for n in range(row.size):
        y0 = max(0, math.ceil((row[n] - CUTOFF) / pitch))
        y1 = min(height - 1, math.floor((row[n] + CUTOFF) / pitch))
        x0 = max(0, math.ceil((column[n] - CUTOFF) / pitch))
        x1 = min(width - 1, math.floor((column[n] + CUTOFF) / pitch))
        for i in range(y0, y1 + 1):
            dy = i * pitch - row[n]
            for j in range(x0, x1 + 1):
                dx = j * pitch - column[n]
                position = math.sqrt(dy * dy + dx * dx) / TABLE_STEP
                index = int(position)
                if index <= last:
                    part = np.float32(position - index)
                    value = table[index] + part * (table[index + 1] - table[index])
                    image[i, j] += weight[n] * value
