"""The live image of `direct`: which kernels, when they are made anew, and the image made so far."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.acquisition import Optics
from stemd.engines.beside.positions_taken import PositionsTaken
from stemd.engines.bright_field.discs import BrightField
from stemd.engines.bright_field.measuring import FITTED_SIDE, usable_cells
from stemd.engines.bright_field.view import Discs
from stemd.engines.direct.growing import GrowingPhase, LinesToAdd
from stemd.engines.direct.line_kernels import LineKernels, line_kernels
from stemd.engines.lens.absorption import Absorbing
from stemd.engines.lens.estimate import Cell, Frequencies
from stemd.engines.lens.weights import Method

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

SHARE = 0.25
"""At most this part of the time goes into kernels that follow the growing scan."""
IMAGE_SHARE, IMAGE_EVERY_S = 0.1, 0.05
"""Likewise for copies of the image, and how often there is one at most."""
AGAIN, NEVER = 3, 1 << 62
"""How many times as many positions there are before kernels are made anew."""
ENOUGH_LINES = 64
"""Lines that say enough of the specimen's power."""
LEAST_LINES = 8
"""Lines from which on the specimen's power is taken from the scan."""
ENOUGH = 50.0
"""Counts of a cell beside which the mean of all cells does not matter any more."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What kernels are made for: the bright field of the scan so far, and the lens.

    `optics`: how the camera stands; `measured`: whether the lens is that of the data.
    """

    discs: Discs
    optics: Optics
    lens: Aberrations
    measured: bool
    kernel_size: int
    method: Method = "wiener"


class LivePhase:
    """The image that grows. One thread, but for `lines.touch`.

    Kernels are made anew when there are AGAIN times as many positions, since the mean of each cell,
    the disc's centre and the specimen's power are better known then, until there are ENOUGH_LINES,
    and when `key` says that settings have changed. The image is then made anew from the kept
    cells: all in all, a position is added less than one and a half times.
    """

    def __init__(self, kept: BrightField, seen: PositionsTaken, shape: tuple[int, int]) -> None:
        self.lines = LinesToAdd(seen, shape)
        self.wanted: Wanted | None = None
        """What the image is made with."""
        self._kept, self._shape = kept, shape
        self._phase: GrowingPhase | None = None
        self._key: object = None
        self._added = 0
        self._anew_at = 1
        self._rest_until = self._image_at = 0.0
        self._changed = False

    def grow(self, key: object, wanted: Callable[[], Wanted | None]) -> bool:
        """Add what has come; whether there was anything.

        `wanted()` is asked for what kernels are to be made for, None where it is too early.
        """
        began = time.monotonic()
        lines, chosen = self.lines.take(began)
        self._added += int(np.count_nonzero(chosen))
        due = self._added >= self._anew_at and began >= self._rest_until
        if self._added and (due or key != self._key) and self._anew(key, wanted()):
            ended = time.monotonic()
            self._rest_until = ended + (ended - began) * (1 / SHARE - 1)
        elif self._phase is not None and lines.size:
            self._phase.add(lines, self._counts, chosen)
        else:
            return False
        self._changed = True
        return bool(lines.size)

    @property
    def kernels(self) -> LineKernels | None:
        """Those that the image is made with, None until there are any."""
        return None if self._phase is None else self._phase.kernels

    def image(self) -> tuple[F32, float] | None:
        """The image and its standard error, both in radian, if it has changed and it is time.

        Lines of which nothing is in the image yet are 0.
        """
        now = time.monotonic()
        if self._phase is None or not self._changed or now < self._image_at:
            return None
        self._changed = False
        image = self._phase.image()
        image[~self.lines.added.any(axis=1)] = 0.0
        self._image_at = time.monotonic()
        self._image_at += max(IMAGE_EVERY_S, (self._image_at - now) / IMAGE_SHARE)
        return image, self._phase.kernels.deviation

    def _anew(self, key: object, wanted: Wanted | None) -> bool:
        self._key, self._anew_at = key, AGAIN * self._added
        if wanted is None:
            return False
        lines, chosen = self.lines.everything()
        discs, part = wanted.discs, chosen[-FITTED_SIDE:]
        counts = np.stack([self._counts(int(line)) for line in lines[-FITTED_SIDE:]])
        used, points = usable_cells(discs)
        means = _means(counts[..., used], part)
        if not means.size:
            return False
        coefficients = wanted.lens.coefficients(discs.beam)
        powers = None
        if lines.size >= LEAST_LINES:
            powers = _powers(counts[..., used], part, points, coefficients, discs)
        kernels = line_kernels(
            points, means, used, coefficients, discs.beam, discs.step_angstrom,
            wanted.kernel_size, self._shape[1], powers, wanted.method,
        )  # fmt: skip
        self._phase, self.wanted = GrowingPhase(kernels, self._shape), wanted
        self._phase.add(lines, self._counts, chosen)
        if lines.size >= ENOUGH_LINES:
            self._anew_at = NEVER
        return True

    def _counts(self, line: int) -> F32:
        nx = self._shape[1]
        return self._kept.counts(line * nx, (line + 1) * nx)


def _means(counts: F32, chosen: NDArray[np.bool_]) -> F64:
    """Mean counts of the cells (lines, nx, cells); where few are known, nearer to those of all."""
    number = max(1, int(np.count_nonzero(chosen)))
    sums = counts[chosen].sum(axis=0, dtype=np.float64)
    if not sums.any():
        return np.zeros(0)
    common = sums.mean() / number
    return np.asarray((sums + ENOUGH) / (number + ENOUGH / common))


def _powers(
    counts: F32, chosen: NDArray[np.bool_], points: F64, coefficients: F64, discs: Discs
) -> tuple[F64, F64]:
    """Power of phase and absorption in rings, for each position, by the middle of these lines."""
    nx = counts.shape[1]
    first = max(0, (nx - FITTED_SIDE) // 2)
    middle = slice(first, first + min(nx, FITTED_SIDE))
    at = Frequencies(np.ascontiguousarray(chosen[:, middle]), discs.beam, discs.step_angstrom)
    both = Absorbing(at, coefficients)
    for number, each in enumerate(points):
        image = np.ascontiguousarray(counts[:, middle, number])
        both.add(Cell(*at.spectrum_of(image), each))
    phase, absorption = both.phase(), both.absorption()
    return phase.ring_power() / at.positions, absorption.ring_power() / at.positions
