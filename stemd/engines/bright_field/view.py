"""What an engine sees of the bright field when it makes its images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.beam import Beam


@dataclass(frozen=True, slots=True)
class Discs:
    """The discs of the first `lines` lines, and how they lie in the scan's axes.

    `images(columns)`: counts of some cells at every position, float32 (cells, lines * nx);
    `vectors` (cells, 2): scattering vectors y and x of the cells' middles in scan axes and
    convergence semi-angles, NaN for a cell that is not to be used; `done` (lines, nx); `center`
    in detector pixels; `radius` of the disc in detector pixels; `cell`: a cell's width there;
    `level`: the disc wanders over the detector (descan), so that cells have slopes; `wanders`
    (2, 2): by how many radian (rows: y, x, in detector axes) an angstrom of the scan (along y,
    along x).
    """

    images: Callable[[slice], NDArray[np.float32]]
    vectors: NDArray[np.float64]
    done: NDArray[np.bool_]
    center: tuple[float, float]
    radius: float
    cell: int
    beam: Beam
    step_angstrom: float
    level: bool = False
    wanders: NDArray[np.float64] | None = None
