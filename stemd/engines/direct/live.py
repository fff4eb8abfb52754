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
from stemd.engines.bright_field.counted import usable_cells
from stemd.engines.bright_field.discs import BrightField
from stemd.engines.bright_field.measuring import FITTED_SIDE
from stemd.engines.bright_field.view import Discs
from stemd.engines.direct.growing import AT_ONCE, GrowingPhase, LinesToAdd
from stemd.engines.direct.line_kernels import LineKernels, line_kernels
from stemd.engines.lens.absorption import Absorbing
from stemd.engines.lens.estimate import Cell, Frequencies
from stemd.engines.lens.weights import Method

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

IMAGE_SHARE, IMAGE_EVERY_S = 0.1, 0.05
"""At most this part of the time goes into copies of the image, and how often there is one."""
ANEW, NEVER = (1, 16, 64), 1 << 62
"""Lines in the image at which kernels are made anew: from the second on the specimen's power is
taken from the scan, the last one says enough of it."""
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

    Kernels are made anew when there are so many lines as ANEW says, since the mean of each cell,
    the disc's centre and the specimen's power are better known then, and when `key` says that
    settings have changed. The image is then made anew from the kept cells: that is 81 lines more
    in all.
    """

    def __init__(self, kept: BrightField, seen: PositionsTaken, shape: tuple[int, int]) -> None:
        self.lines = LinesToAdd(seen, shape)
        self.wanted: Wanted | None = None
        """What the image is made with."""
        self._kept, self._shape = kept, shape
        self._phase: GrowingPhase | None = None
        self._key: object = None
        self._added = 0
        self._anew_at = 0
        """Positions from which on kernels are made anew."""
        self._image_at = 0.0
        self._changed = False

    def grow(self, key: object, wanted: Callable[[], Wanted | None], *, soon: bool = False) -> bool:
        """Add what has come; whether there was anything.

        `wanted()` is asked for what kernels are to be made for, None where it is too early. Few
        lines wait for the next copy of the image, since nobody sees them before, unless `soon`.
        """
        now = time.monotonic()
        soon = soon or now >= self._image_at or self._phase is None or key != self._key
        lines, chosen = self.lines.take(now, 1 if soon else AT_ONCE)
        self._added += int(np.count_nonzero(chosen))
        due = self._added >= self._anew_at or key != self._key
        if not (self._added and due and self._anew(key, wanted())):
            if self._phase is None or not lines.size:
                return False
            self._phase.add(lines, self._counts, chosen)
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
        nx, added = self._shape[1], self._added
        self._key = key
        self._anew_at = min((n * nx for n in ANEW if n * nx > added), default=NEVER)
        if wanted is None:
            return False
        lines, chosen = self.lines.everything()
        discs, part = wanted.discs, chosen[-FITTED_SIDE:]
        used, points = usable_cells(discs)
        counts = np.stack([self._counts(int(line))[:, used] for line in lines[-FITTED_SIDE:]])
        means = _means(counts, part)
        if not means.size:
            return False
        coefficients = wanted.lens.coefficients(discs.beam)
        powers = None
        if added >= ANEW[1] * nx:
            powers = _powers(counts, part, points, coefficients, discs)
        kernels = line_kernels(
            points, means, used, coefficients, discs.beam, discs.step_angstrom,
            wanted.kernel_size, self._shape[1], powers, wanted.method,
        )  # fmt: skip
        self._phase, self.wanted = GrowingPhase(kernels, self._shape), wanted
        self._phase.add(lines, self._counts, chosen)
        return True

    def _counts(self, line: int) -> F32:
        nx = self._shape[1]
        return self._kept.counts(line * nx, (line + 1) * nx)


def _means(counts: F32, chosen: NDArray[np.bool_]) -> F64:
    """Mean counts of the cells (lines, nx, cells); where few are known, nearer to those of all."""
    number = max(1, int(np.count_nonzero(chosen)))
    each = chosen.reshape(-1).astype(np.float32) @ counts.reshape(-1, counts.shape[-1])
    sums = each.astype(np.float64)
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
    # over the rings the middle of a cell does for all of it
    for number, each in enumerate(points.mean(axis=1, keepdims=True)):
        image = np.ascontiguousarray(counts[:, middle, number])
        both.add(Cell(*at.spectrum_of(image), each))
    phase, absorption = both.phase(), both.absorption()
    return phase.ring_power() / at.positions, absorption.ring_power() / at.positions
