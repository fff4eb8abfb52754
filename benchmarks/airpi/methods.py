"""The methods that a phase network is compared with, from the project's engines' own equations."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.airpi.measures import Ruler
from benchmarks.airpi.scan4d import PATTERN, Method, Picture, Scan4D
from stemd.engines.icom import integrate_gradient
from stemd.engines.kernels.ricom import integrate, lines_of, ricom_kernel

F64 = NDArray[np.float64]

KERNELS_ANGSTROM = (0.3, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0)
"""Reaches that the best riCOM kernel is sought among."""
RICOM_ANGSTROM = 1.0
"""Reach of the usual kernel: 21 x 21 at a step of 0.1 angstrom."""


def centre_of_mass(scan: Scan4D) -> tuple[F64, F64]:
    """Shift (y, x) from its mean in detector pixels; 0 for a pattern without counts."""
    k = np.arange(PATTERN) - PATTERN // 2.0
    patterns = scan.fraction()
    total = patterns.sum(axis=(2, 3), dtype=np.float64)
    seen = total > 0
    shifts = []
    for axis in (3, 2):
        moment = patterns.sum(axis=axis, dtype=np.float64) @ k
        shift = np.divide(moment, total, out=np.zeros_like(total), where=seen)
        shifts.append(np.where(seen, shift - shift[seen].mean(), 0.0))
    return shifts[0], shifts[1]


def ricom(scan: Scan4D, reach_angstrom: float = RICOM_ANGSTROM) -> Picture:
    """riCOM with a kernel that reaches so far each way (thesis eq. 3.4)."""
    size = 2 * max(1, round(reach_angstrom / scan.step)) + 1
    return Picture(integrate(*lines_of(*centre_of_mass(scan)), *ricom_kernel(size)), scan.step)


def icom(scan: Scan4D) -> Picture:
    """The whole field integrated."""
    return Picture(integrate_gradient(*lines_of(*centre_of_mass(scan))), scan.step)


class SideBands:
    """Single side-band ptychography of one scan (Rodenburg, McCallum, Nellist 1993; thesis ch. 4).

    G(K, Q) is the transform of the patterns over the scan. Where K and K - Q lie in the aperture
    and K + Q does not, G = A*(K) A(K - Q) i phi(Q) for a weak phase phi. The estimates of all
    such K are summed here, in shares of the electrons in a pixel of the disc.
    """

    def __init__(self, scan: Scan4D) -> None:
        beam = scan.beam
        patterns = scan.fraction()
        mean = float(patterns.sum(dtype=np.float64)) / (scan.shape[0] * scan.shape[1])
        k = (np.arange(PATTERN) - PATTERN // 2) / 8.0
        qy, qx = (np.fft.fftfreq(n, scan.step) / beam.aperture for n in scan.shape)
        total = np.zeros(scan.shape, complex)
        self._number = np.zeros(scan.shape)
        disc = np.argwhere(np.hypot(k[:, None], k[None, :]) < 1.0)
        for row, column in disc:
            y, x = k[row], k[column]
            minus = np.hypot(y - qy[:, None], x - qx[None, :])
            plus = np.hypot(y + qy[:, None], x + qx[None, :])
            single = (minus < 1.0) & (plus >= 1.0)
            angle = beam.aberration(np.hypot(y, x) * beam.aperture)
            angle = angle - beam.aberration(minus * beam.aperture)
            seen = np.fft.fft2(patterns[:, :, row, column].astype(np.float64))
            total += np.where(single, seen * np.exp(-1j * angle), 0.0)
            self._number += single
        self._disc = len(disc)
        self._total = total * (len(disc) / max(mean, 1e-30))
        self._step = scan.step

    def image(self, regularisation: float) -> Picture:
        """Radian. The sum over the number of its terms plus `regularisation` discs: 0 gives the
        mean of the estimates, infinite the plain sum over one disc.
        """
        weight = self._number / self._disc + regularisation
        if math.isinf(regularisation):
            weight = np.ones_like(self._number)
        divisor = weight * self._disc
        phase = np.divide(self._total, divisor, out=np.zeros_like(self._total), where=divisor > 0)
        return Picture(np.fft.ifft2(phase / 1j).real, self._step)


def ssb(scan: Scan4D, regularisation: float = math.inf) -> Picture:
    """SSB as a user would run it."""
    return SideBands(scan).image(regularisation)


METHODS: dict[str, Method] = {
    "riCOM": ricom,
    "iCOM": icom,
    "SSB": ssb,
    "SSB mean": partial(ssb, regularisation=0.0),
}
"""As a user would run them. SSB is the plain sum, as live SSB has it; "SSB mean" takes out the
transfer, which brings resolution at high dose and noise at low."""


def best_ricom(scan: Scan4D) -> Picture:
    """riCOM with the kernel that the truth likes best: an oracle."""
    shift_y, shift_x = centre_of_mass(scan)
    sizes = {2 * max(1, round(reach / scan.step)) + 1 for reach in KERNELS_ANGSTROM}
    images = [integrate(*lines_of(shift_y, shift_x), *ricom_kernel(size)) for size in sorted(sizes)]
    ruler = Ruler(Picture(images[0], scan.step), scan)
    return Picture(max(images, key=ruler.score), scan.step)


def best_ssb(scan: Scan4D) -> Picture:
    """SSB with the regularisation that the truth likes best: an oracle."""
    bands = SideBands(scan)
    images = [bands.image(value).values for value in (0.0, 0.003, 0.01, 0.03, 0.1, 0.3, math.inf)]
    ruler = Ruler(Picture(images[0], scan.step), scan)
    return Picture(max(images, key=ruler.score), scan.step)


ORACLES: dict[str, Method] = {"best riCOM": best_ricom, "best SSB": best_ssb}
