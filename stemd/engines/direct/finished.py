"""The finished image of `direct`: exact, from the kept cells of a whole scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.engines.bright_field.margin import with_margin
from stemd.engines.bright_field.measuring import folds_seen
from stemd.engines.bright_field.seen_cells import cells_of
from stemd.engines.bright_field.view import Discs
from stemd.engines.direct.uncertainty import variance_of
from stemd.engines.lens.absorption import Absorbing
from stemd.engines.lens.estimate import Frequencies, Linear
from stemd.engines.lens.finer import Finer, grid_times, times_for
from stemd.engines.lens.weights import Method
from stemd.errors import StemdError

F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Made:
    """A phase (ny, nx) in radian, its variance, and the evidence for the lens it was seen through:
    0 where `method` has none, or nobody asks."""

    phase: F32
    variance: float
    evidence: float


@dataclass(frozen=True, slots=True)
class ExactImage:
    """How the finished image is made: `times` x `times` pixels a position, within this memory.

    `apart`: likewise, of the grid on which waves that the steps fold are told apart, 1 where that
    is not done. `compared`: the evidence for the lenses is asked for.
    """

    discs: Discs
    method: Method
    times: int
    most_bytes: float
    apart: int = 1
    compared: bool = False

    def for_lenses(self, lenses: Sequence[Aberrations]) -> ExactImage:
        """With folded waves told apart where the steps are coarse, or where that clearly explains
        the cells better through one of these lenses: alike for all, so that they compare."""
        alike = replace(self, compared=len(lenses) > 1)
        discs, times = self.discs, grid_times(self.discs.beam, self.discs.step_angstrom)
        needed = Finer.bytes_for((discs.done.shape[0], discs.done.shape[1]), times)
        if self.method != "wiener" or self.times > 1 or needed > self.most_bytes:
            return alike
        coarse = times_for(discs.beam, discs.step_angstrom) > 1
        seen = coarse or any(folds_seen(discs, lens) for lens in lenses)
        return replace(alike, apart=times) if seen else alike

    def through(self, lens: Aberrations, go_on: Callable[[], bool]) -> Made | None:
        """The image through a lens; None once `go_on` says no.

        Raises StemdError where a finer image than the scan takes too much memory.
        """
        if self.times > 1:
            return self._finer(lens, self.times, go_on)
        if self.apart == 1:
            return self._plain(lens, go_on)
        made = self._finer(lens, self.apart, go_on)
        if made is None:
            return None
        at_positions = np.ascontiguousarray(made.phase[:: self.apart, :: self.apart])
        return Made(at_positions, made.variance, made.evidence)

    def _plain(self, lens: Aberrations, go_on: Callable[[], bool]) -> Made | None:
        """At the scan's positions."""
        discs, (ny, nx) = with_margin(self.discs, lens), self.discs.done.shape
        at = Frequencies(discs.done, discs.beam, discs.step_angstrom, level=discs.level)
        coefficients = lens.coefficients(discs.beam)
        both, alone = Absorbing(at, coefficients), Linear(at, coefficients, self.method)
        sums = both if self.method == "wiener" else alone
        for cell in cells_of(discs, at):
            if not go_on():
                return None
            sums.add(cell)
        if self.method != "wiener":
            return Made(_inside(alone.phase(), ny, nx), alone.deviation() ** 2, 0.0)
        estimate = both.phase()
        variance = variance_of(estimate, discs.step_angstrom * discs.beam.aperture)
        return Made(
            _inside(estimate.phase(), ny, nx),
            variance,
            evidence_for(self.discs, lens) if self.compared else 0.0,
        )

    def _finer(self, lens: Aberrations, times: int, go_on: Callable[[], bool]) -> Made | None:
        """On a grid `times` finer."""
        discs = self.discs
        at = Frequencies(discs.done, discs.beam, discs.step_angstrom, level=discs.level, whole=True)
        needed = Finer.bytes_for(at.shape, times)
        if needed > self.most_bytes:
            raise StemdError(
                f"a phase of {times} x {times} pixels a position takes "
                f"{needed / 1e6:,.0f} MB for this scan, more than memory_mb = "
                f"{self.most_bytes / 1e6:g}",
                "lower upsample, or raise memory_mb of the engine",
            )
        sums = Finer(at, discs.beam, discs.step_angstrom, times, lens.coefficients(discs.beam))
        for cell in cells_of(discs, at):
            if not go_on():
                return None
            sums.add(cell)
        return Made(*sums.solved())


def evidence_for(discs: Discs, lens: Aberrations) -> float:
    """How well a lens explains the cells: see `Linear.evidence`.

    Without a margin, as where lenses are searched for: what lies in it is known of no lens, so that
    each has less against the others.
    """
    at = Frequencies(discs.done, discs.beam, discs.step_angstrom, level=discs.level)
    return Linear.of(at, cells_of(discs, at), lens.coefficients(discs.beam)).evidence()


def _inside(phase: F32, ny: int, nx: int) -> F32:
    """The scan's own part of a phase, of zero mean."""
    part = phase[:ny, :nx]
    return np.ascontiguousarray(part - part.mean())
