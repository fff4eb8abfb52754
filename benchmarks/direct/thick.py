"""Scans of specimens that are too thick for one projected potential: multislice, in NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.beam import Beam
from stemd.virtual.specimen import Specimen

F32 = NDArray[np.float32]

WINDOW, SHARE = 192, 3
"""Samples across a probe's window; of its frequencies so many a side make a detector pixel."""
PATTERN = 40
BAND = 2 / 3


def patterns(
    slices: Sequence[Specimen],
    slice_angstrom: float,
    beam: Beam,
    lens: Aberrations,
    side: int,
    step: float,
    pixel_mrad: float,
    batch: int = 48,
) -> F32:
    """Shares of the electrons (side * side, PATTERN, PATTERN) on pixels of `pixel_mrad`.

    The probe meets the first slice with the whole of `beam` and `lens`; between slices it
    travels freely (Cowley and Moodie, Acta Cryst. 10 (1957) 609).
    """
    unit = pixel_mrad * 1e-3 / beam.wavelength / SHARE
    pitch = 1.0 / (unit * WINDOW)
    k = np.fft.fftfreq(WINDOW, pitch)
    ky, kx = np.meshgrid(k, k, indexing="ij")
    radius = np.hypot(ky, kx)
    band = radius < BAND / (2 * pitch)
    wave = beam.radial_wave(radius, unit) * np.exp(-1j * _not_round(beam, lens, ky, kx))
    wave = (wave / np.sqrt((np.abs(wave) ** 2).sum())).astype(np.complex64)
    travel = np.exp(-1j * np.pi * beam.wavelength * slice_angstrom * radius**2)
    travel = np.where(band, travel, 0.0).astype(np.complex64)
    across = int(np.ceil((side - 1) * step / pitch)) + WINDOW + 2
    through = []
    for each in slices:
        origin = (-pitch * (WINDOW // 2),) * 2
        volts = each.potential(origin, (across, across), pitch, BAND / (2 * pitch))
        through.append(np.exp(1j * beam.sigma * volts).astype(np.complex64))
    places = np.stack(np.meshgrid(*[np.arange(side) * step / pitch] * 2, indexing="ij"), -1)
    places = places.reshape(-1, 2)
    whole = np.floor(places).astype(int)
    made = np.empty((side * side, PATTERN, PATTERN), np.float32)
    for first in range(0, side * side, batch):
        part = slice(first, first + batch)
        rest = (places[part] - whole[part] + WINDOW // 2) * pitch
        shift = np.exp(-2j * np.pi * (ky * rest[:, :1, None] + kx * rest[:, 1:, None]))
        now = (wave * shift).astype(np.complex64)
        for number, sheet in enumerate(through):
            seen = np.stack([sheet[y : y + WINDOW, x : x + WINDOW] for y, x in whole[part]])
            now = scipy.fft.fft2(scipy.fft.ifft2(now) * seen)
            now *= travel if number < len(through) - 1 else band
        far = np.fft.fftshift(np.abs(now) ** 2, axes=(1, 2))
        low = WINDOW // 2 - SHARE * (PATTERN // 2)
        inner = far[:, low : low + SHARE * PATTERN, low : low + SHARE * PATTERN]
        binned = inner.reshape(-1, PATTERN, SHARE, PATTERN, SHARE)
        made[part] = binned.sum(axis=(2, 4))
    return made


def _not_round(
    beam: Beam, lens: Aberrations, ky: NDArray[np.float64], kx: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The phase of what is not round of the lens, radian; see `Aberrations.coefficients`."""
    y, x = ky / beam.aperture, kx / beam.aperture
    c, r = lens.not_round.coefficients(beam), x**2 + y**2
    return np.asarray(
        c[1] * (x**2 - y**2) + c[2] * 2 * x * y + r * (c[3] * x + c[4] * y)
        + c[5] * x * (x**2 - 3 * y**2) + c[6] * y * (3 * x**2 - y**2)
    )  # fmt: skip
