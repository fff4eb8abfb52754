"""The linear estimate as kernels of a few positions, for images that grow line by line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.beam import Beam
from stemd.engines.kernels.line_products import EIGHT, ROWS
from stemd.engines.kernels.overlaps import add_both, add_overlaps
from stemd.engines.kernels.ricom import fast_length
from stemd.engines.kernels.transforms import Columns, quick_length
from stemd.engines.lens.absorption import not_shared, shared
from stemd.engines.lens.estimate import Frequencies
from stemd.engines.lens.weights import KINDS, Method, divisor, left_out

C128 = NDArray[np.complex128]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

KEPT = 0.95
"""Part of the kernels' energy, weighted by the cells' noise, that the components hold: twice to
four times as many, for 0.999, bring 0.003 of correlation with the true phase at most."""
PRIOR_RADIAN = 0.1
"""Deviation of the phase that is taken for granted before the scan has said more: white up to the
highest frequency that is transferred."""


@dataclass(frozen=True, slots=True)
class LineKernels:
    """How each position adds to the image: components of its cells, and a kernel for each.

    `columns` int64 (cells,): the used ones among the kept cells; `weights` float32 (cells,
    components), `offset` (components,): component j of a position with counts c in the used cells
    is offset[j] + sum_k c_k weights[k, j]; `real`, `imag` float32 (length // 2 + 1, components,
    rows or more): half the components' kernels, row d - rows // 2 along y, transformed along x with
    `length` points, long enough that nothing wraps around. `deviation`: standard error of the
    finished image in radian, as `Linear.deviation` has it.
    """

    columns: NDArray[np.int64]
    weights: F32
    offset: F32
    real: F32
    imag: F32
    length: int
    deviation: float
    rows: int
    """Height of the kernels in positions."""

    @property
    def components(self) -> int:
        """Components of a position, with those that pad."""
        return int(self.offset.size)


def line_kernels(
    points: F64,
    counts: F64,
    columns: NDArray[np.int64],
    coefficients: F64,
    beam: Beam,
    step_angstrom: float,
    size: int,
    nx: int,
    powers: tuple[F64, F64] | None,
    method: Method = "wiener",
) -> LineKernels:
    """Kernels of `size` x `size` positions for lines of `nx` positions.

    `points` (cells, m, 2): as `lens.estimate.Cell.points`; `counts` (cells,): their means, more
    than 0; `columns` (cells,): where they stand among those that are kept; `powers`: of the
    specimen's phase and absorption by rings of `lens.estimate.RING`, divided by the number of
    positions; None: PRIOR_RADIAN, and no absorption.

    The filter n_k W* / divisor of each cell (`lens.weights`) is made on a grid of twice the
    kernel's size, transformed back and cut. Cells that see nearly the same are put together: by
    the singular value decomposition of the kernels, each divided by its noise sqrt(1 / n_k).
    """
    side = fast_length(2 * size)
    at = Frequencies(np.ones((side, side), np.bool_), beam, step_angstrom)
    each = _power_at(at, None if powers is None else powers[0])
    if method == "wiener":
        other = np.zeros_like(each) if powers is None else _power_at(at, powers[1])
        seen, transfer = _seen_beside_absorption(at, points, counts, coefficients, other)
    else:
        seen, transfer = _seen(at, points, counts, coefficients, method)
    by = divisor(method, transfer, float(counts.sum()), each)
    stays = left_out(method, transfer, by, each)
    kernels = _cut(at.images_of((seen / by).astype(np.complex64)), size)
    mixing, components = _together(kernels, np.sqrt(counts))
    length = quick_length(nx + size // 2)
    return LineKernels(
        columns,
        np.ascontiguousarray(mixing / counts[:, None], np.float32),
        -mixing.sum(axis=0).astype(np.float32),
        *_along_x(components, length),
        length,
        float(np.sqrt((at.twice * stays).sum()) / side),
        size,
    )


def _seen(
    at: Frequencies, points: F64, counts: F64, coefficients: F64, method: Method
) -> tuple[C128, F64]:
    """What each cell is weighted by, (cells, n), and the sum of weights and transfers, (n,)."""
    n = at.index.size
    seen, transfer, one = np.zeros((counts.size, n), np.complex128), np.zeros(n), _ones(n)
    for cell in range(counts.size):
        add_overlaps(
            one, points[cell], counts[cell], at.y, at.x, coefficients, KINDS[method], seen[cell],
            transfer,
        )  # fmt: skip
    return seen, transfer


def _seen_beside_absorption(
    at: Frequencies, points: F64, counts: F64, coefficients: F64, power: F64
) -> tuple[C128, F64]:
    """The same, with what absorption of this power may make of the phase taken out."""
    n = at.index.size
    seen, absorbed = (np.zeros((counts.size, n), np.complex128) for _ in range(2))
    transfer, absorbing, mixed = np.zeros(n), np.zeros(n), np.zeros(n, np.complex128)
    for cell in range(counts.size):
        add_both(
            _ones(n), points[cell], counts[cell], at.y, at.x, coefficients, seen[cell], transfer,
            absorbed[cell], absorbing, mixed,
        )  # fmt: skip
    share = shared(mixed, absorbing, power)
    return seen - share * absorbed, not_shared(transfer, share, mixed)


def _ones(n: int) -> NDArray[np.complex64]:
    return np.ones(n, np.complex64)


def _power_at(at: Frequencies, power: F64 | None) -> F64:
    if power is None:
        # a single position has no frequency
        share = max(float(at.twice.sum()), 1.0) / at.positions
        return np.full(at.index.size, PRIOR_RADIAN**2 / share)
    return np.where(at.ring < power.size, power[np.minimum(at.ring, power.size - 1)], 0.0)


def _cut(kernels: F32, size: int) -> F32:
    """The middle `size` x `size` of each about [0, 0], of zero sum: the mean says nothing."""
    near = np.arange(-(size // 2), size // 2 + 1)
    cut = kernels[:, near[:, None], near]
    return np.asarray(cut - cut.mean(axis=(1, 2), keepdims=True))


def _along_x(components: F32, length: int) -> tuple[F32, F32]:
    """Half the kernels (components, n, n), transformed along x: (frequencies, components, rows)."""
    count, size = components.shape[:2]
    padded = -(-size // ROWS) * ROWS
    # two rows go as the real and the imaginary part of one lane
    real, imag = np.zeros((2, length, count, padded // 2), np.float32)
    near = np.arange(-(size // 2), size // 2 + 1) % length
    real[near, :, : (size + 1) // 2] = components[:, ::2].transpose(2, 0, 1)
    imag[near, :, : size // 2] = components[:, 1::2].transpose(2, 0, 1)
    lanes = length, count * padded // 2
    room = np.empty((2, *lanes), np.float32)
    re, im = Columns.of(length).transformed(real.reshape(lanes), imag.reshape(lanes), room)
    frequencies = np.arange(length // 2 + 1)
    p, m, a, b = re[frequencies], re[-frequencies], im[frequencies], im[-frequencies]
    found = np.zeros((2, frequencies.size, count, padded), np.float32)
    for part, even, odd in ((found[0], p + m, a + b), (found[1], a - b, m - p)):
        part[..., ::2] = even.reshape(frequencies.size, count, -1)
        part[..., 1::2] = odd.reshape(frequencies.size, count, -1)
    found *= 0.25
    return found[0], found[1]


def _together(kernels: F32, root: F64) -> tuple[F64, F32]:
    """Mixing (cells, components) of relative counts, and the components' kernels (.., n, n).

    As many components as hold KEPT of the energy, padded with zeros to a multiple of EIGHT.
    """
    whitened = (kernels / root[:, None, None]).reshape(len(kernels), -1).astype(np.float64)
    energy, directions = np.linalg.eigh(whitened @ whitened.T)
    energy, directions = np.maximum(energy[::-1], 0.0), directions[:, ::-1]
    held = np.cumsum(energy) / max(float(energy.sum()), 1e-300)
    count = min(len(kernels), int(np.searchsorted(held, KEPT)) + 1)
    padded = -(-count // EIGHT) * EIGHT
    mixing = np.zeros((len(kernels), padded))
    mixing[:, :count] = directions[:, :count] * root[:, None]
    components = np.zeros((padded, *kernels.shape[1:]), np.float32)
    components[:count] = (directions[:, :count].T @ whitened).reshape(-1, *kernels.shape[1:])
    return mixing, components
