"""What cells count in a part of a scan, and what is known of it before any phase."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.beam import Beam
from stemd.engines.lens.absorption import Absorbing
from stemd.engines.lens.cells import TURN, turned
from stemd.engines.lens.estimate import Cell, Frequencies

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Patterns:
    """What cells count in a part of a scan.

    `counts` float32 (cells, ny, nx); `points` float64 (cells, m, 2): y and x of points of each
    cell in apertures, in scan axes; `width` of what a point stands for, likewise; `done` (ny, nx);
    `level`: as of `Frequencies`.
    """

    counts: F32
    points: F64
    width: float
    done: NDArray[np.bool_]
    level: bool


def planes(done: NDArray[np.bool_], *, level: bool) -> F32:
    """What is taken out of every image: float32, orthonormal, (1 or 3, ny, nx)."""
    y, x = np.indices(done.shape)
    each = [done, *((done * y, done * x) if level else ())]
    flat = np.linalg.qr(np.stack(each).reshape(len(each), -1).T.astype(np.float64))[0]
    return np.ascontiguousarray(flat.T.reshape(-1, *done.shape), np.float32)


def powers(patterns: Patterns, beam: Beam, step: float, place: F64) -> F64:
    """Of phase and absorption by the linear model, divided by the positions: (2, rings)."""
    at = Frequencies(patterns.done, beam, step, level=patterns.level)
    both = Absorbing(at, place[:TURN])
    for counts, points in zip(patterns.counts, turned(patterns.points, place[TURN]), strict=True):
        both.add(Cell(*at.spectrum_of(counts), points))
    return np.stack([both.phase().ring_power(), both.absorption().ring_power()]) / at.positions
