"""Waves of the middle of a scan, by which two images are compared.

Positions at the border see what lies beyond the scan. The linear estimate is wrong there, and a
network has neighbours on one side only. Waves of the whole scan have both errors in them: of two
sheets of a dichalcogenide with 1e4 e/angstrom^2 the two images differed in the strongest rings by
four to twenty times the network's error in the middle, so the noisier one was believed.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.engines.bright_field.view import Discs
from stemd.engines.lens.estimate import Frequencies

F64 = NDArray[np.float64]
C128 = NDArray[np.complex128]

LEAST = 16
"""Positions across that must be left without the border; else the whole scan is compared."""


class Inner:
    """Looks at waves (n,) at the frequencies `at` through a window without so many positions
    (`rim`) at each side.

    `noise` (n,): power of the noise, infinite where waves are not known and thus left out. Waves
    are divided by its root before, and multiplied with it after: so the noise of a ring does not
    spread to those beside it, which may have far less. `shape`: the scan's positions, about which
    `at` may have more. `share`: of the waves at these frequencies so many are independent.
    """

    def __init__(self, at: Frequencies, noise: F64, rim: int, shape: tuple[int, int]) -> None:
        self._at, self.share = at, at.share
        self._window: F64 | None = None
        if min(shape) - 2 * rim < LEAST or rim <= 0:
            return
        window = np.zeros(at.shape)
        window[: shape[0], : shape[1]] = np.outer(*(_window(n, rim) for n in shape))
        self._window = window * math.sqrt(shape[0] * shape[1] / float(np.sum(window**2)))
        self.share = float(np.mean(window**2)) ** 2 / float(np.mean(window**4))
        known = np.isfinite(noise) & (noise > 0.0)
        self._root = np.sqrt(np.where(known, noise, 0.0))
        self._inverse = np.where(known, 1.0 / np.where(known, self._root, 1.0), 0.0)

    def of(self, waves: C128) -> C128:
        """Waves of the middle, of the same power as those of the whole scan."""
        if self._window is None:
            return waves
        image = self._at.image_of(waves * self._inverse).astype(np.float64)
        image -= float((image * self._window**2).sum()) / float(np.sum(self._window**2))
        seen = np.fft.rfft2(image * self._window).ravel()[self._at.index]
        return np.asarray(seen * self._root)


def rim_of(discs: Discs, lens: Aberrations) -> int:
    """Positions at a border that see what lies beyond it."""
    return math.ceil((lens.reach(discs.beam) + discs.beam.airy_radius) / discs.step_angstrom)


def _window(size: int, rim: int) -> F64:
    """Weights of positions along an axis: 0 in the rim, and a cosine over as much within."""
    inside = np.arange(size) - rim + 0.5
    far = np.minimum(inside, size - 2 * rim - inside)
    return np.asarray(np.sin(0.5 * math.pi * np.clip(far / rim, 0.0, 1.0)))
