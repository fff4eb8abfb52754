"""Room about a scan, so that what lies at opposite edges is not taken for neighbours.

A Fourier transform takes a scan to be periodic. Out of focus a cell sees places beyond the edges;
with so much room about the scan that is not taken for what lies at the opposite edge, but for what
nobody has measured. Nothing is made up there: such positions count as mean ones.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.engines.bright_field.view import Discs
from stemd.engines.kernels.ricom import fast_length

F32 = NDArray[np.float32]


def with_margin(discs: Discs, lens: Aberrations) -> Discs:
    """The same with positions that are not done after the last lines and columns: as many as the
    probe reaches, and no more than the scan has."""
    lines, columns = discs.done.shape
    reach = lens.reach(discs.beam) + discs.beam.airy_radius
    aside = math.ceil(reach / discs.step_angstrom)
    shape = fast_length(lines + min(aside, lines)), fast_length(columns + min(aside, columns))
    done = np.zeros(shape, np.bool_)
    done[:lines, :columns] = discs.done

    def images(cells: slice) -> F32:
        seen = discs.images(cells)
        wide = np.zeros((len(seen), *shape), np.float32)
        wide[:, :lines, :columns] = seen.reshape(-1, lines, columns)
        return wide.reshape(len(seen), -1)

    return replace(discs, images=images, done=done)
