"""The phase of a specimen that takes electrons out of the bright field, too.

Heavy and thick specimens scatter electrons beyond the disc. That darkens all cells together, which
out of focus looks like coarse phase: where both overlaps of a cell are open, absorption is
transferred by the cosine of the lens and phase by its sine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.engines.kernels.overlaps import add_both
from stemd.engines.lens.estimate import Cell, Frequencies, Linear

C128 = NDArray[np.complex128]
F64 = NDArray[np.float64]

LEAST_LEFT = 1e-6
"""Part of a sum that is not shared with another, below which rounding made it."""


class Absorbing:
    """Sums over the cells for phase and absorption together; then `phase`.

    `coefficients`: `Aberrations.coefficients` of the lens.
    """

    def __init__(self, at: Frequencies, coefficients: F64) -> None:
        self._sums = Linear(at, coefficients)
        self._coefficients = coefficients
        self._absorption = Linear(at, coefficients)
        self._mixed = np.zeros(at.index.size, np.complex128)

    def add(self, cell: Cell) -> None:
        """Add what one cell has seen."""
        phase, absorption, at = self._sums, self._absorption, self._sums.at
        add_both(
            cell.spectrum, cell.points, cell.counts, at.y, at.x, self._coefficients,
            phase.numerator, phase.denominator, absorption.numerator, absorption.denominator,
            self._mixed,
        )  # fmt: skip

    def evidence(self) -> float:
        """Of a phase alone, as `Linear.evidence` has it."""
        return self._sums.evidence()

    def phase(self) -> Linear:
        """The estimate of the phase, with what absorption may have made of it taken out.

        Either of the two is a Wiener estimate once the other is averaged over by its power: of the
        sums then remains what the other cannot imitate. The power of the absorption is found so in
        rings, as that of the phase is. Where there is none, nothing changes.
        """
        return _rest(self._sums, self._absorption, self._mixed, self.absorption().power())

    def explained(self) -> F64:
        """Of the power of the cells, counts |spectrum|^2 added up, what the two together explain.

        Of noise alone that is two parts in as many as there are cells.
        """
        phase, absorption = self._sums, self._absorption
        share = np.divide(
            self._mixed.conj(), phase.denominator, out=np.zeros_like(self._mixed),
            where=phase.denominator > 0.0,
        )  # fmt: skip
        rest = absorption.numerator - share * phase.numerator
        left = not_shared(absorption.denominator, share, self._mixed.conj())
        return np.asarray(
            _part(phase.numerator, phase.denominator)
            + _part(rest, np.where(left > LEAST_LEFT * absorption.denominator, left, 0.0))
        )

    def absorption(self) -> Linear:
        """Likewise the estimate of the absorption."""
        return _rest(self._absorption, self._sums, self._mixed.conj(), self._sums.power())


def _part(numerator: C128, denominator: F64) -> F64:
    there = denominator > 0.0
    return np.asarray(
        np.where(there, np.abs(numerator) ** 2 / np.where(there, denominator, 1.0), 0.0)
    )


def _rest(wanted: Linear, other: Linear, mixed: C128, power: F64) -> Linear:
    """The sums of one, when the other is averaged over with its power."""
    share = shared(mixed, other.denominator, power / wanted.at.positions)
    return wanted.with_sums(
        wanted.numerator - share * other.numerator, not_shared(wanted.denominator, share, mixed)
    )


def shared(mixed: C128, denominator: F64, power: F64) -> C128:
    """How much of another thing's sum belongs to the wanted one's, where it has this power.

    `mixed`: their common sum; `denominator`: the other's; `power`: divided by the positions.
    """
    known = power > 0.0
    return np.where(known, mixed / (denominator + 1.0 / np.where(known, power, 1.0)), 0.0)


def not_shared(denominator: F64, share: C128, mixed: C128) -> F64:
    """What is left of the wanted thing's own denominator."""
    return np.asarray(np.maximum(denominator - (share * mixed.conj()).real, 0.0))
