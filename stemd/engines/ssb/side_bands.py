"""Single side-band ptychography: the phase from the overlaps of diffracted discs.

J. M. Rodenburg, B. C. McCallum, P. D. Nellist, Ultramicroscopy 48 (1993) 304; T. J. Pennycook et
al., Ultramicroscopy 151 (2015) 160; compared with in thesis chapters 4 and 5.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.beam import Beam
from stemd.engines.kernels.side_bands import add_side_bands

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

BATCH_BYTES = 16 * 1024 * 1024
"""Of the cells' images that are transformed together."""


def side_band_phase(
    images: Callable[[slice], F32],
    vectors: F64,
    done: NDArray[np.bool_],
    beam: Beam,
    lens: Aberrations,
    step_angstrom: float,
    regularisation: float,
    go_on: Callable[[], bool] = lambda: True,
) -> F32 | None:
    """The phase in radian, float32 (ny, nx), of zero mean; None once `go_on` says no.

    `images(columns)`: counts of some detector cells at every position, float32 (cells, ny * nx);
    `vectors` (cells, 2): their scattering vectors y and x in scan axes and convergence
    semi-angles, NaN for a cell that is not to be used; `done` (ny, nx): which positions are
    there, the others count as the mean pattern; `lens`: aberrations that are taken out.

    At each scan frequency Q the estimates of phi(Q) by all cells K in the aperture for which only
    one of K - Q and K + Q is (see `add_side_bands`) are added up and divided by their number plus
    `regularisation` times the greatest possible number, that of all cells in the aperture: 0 is
    their mean, large is their sum, which transfers each frequency as well as it is measured.
    The scan is taken as periodic. Costs one transform of the scan a cell; no more than two
    images and a batch are in memory.
    """
    ny, nx = done.shape
    with np.errstate(invalid="ignore"):
        used = np.hypot(vectors[:, 0], vectors[:, 1]) < 1.0
    disc = int(np.count_nonzero(used))
    aperture = beam.aperture
    qy = np.fft.fftfreq(ny, step_angstrom) / aperture
    qx = np.fft.rfftfreq(nx, step_angstrom) / aperture
    coefficients = lens.coefficients(beam)
    total = np.zeros((ny, nx // 2 + 1), np.complex128)
    number = np.zeros(total.shape, np.int32)
    batch = max(1, BATCH_BYTES // (4 * ny * nx))
    flat = done.reshape(-1)
    there = max(1, int(np.count_nonzero(flat)))
    whole = there == flat.size
    counted = 0.0
    for first in range(0, used.size, batch):
        chosen = np.flatnonzero(used[first : first + batch])
        if not chosen.size:
            continue
        if not go_on():
            return None
        low = first + int(chosen[0])
        seen = images(slice(low, first + int(chosen[-1]) + 1))
        for cell in chosen:
            image = seen[first + cell - low]
            # a position that is not there would else be a dark one
            counts = float(image.sum(dtype=np.float64))
            counted += counts
            image -= counts / there
            if not whole:
                image[~flat] = 0.0
            spectrum = np.fft.rfft2(image.reshape(ny, nx))
            ky, kx = vectors[first + cell]
            add_side_bands(spectrum, ky, kx, qy, qx, coefficients, total, number)
    weight = number + 2.0 * regularisation * disc
    known = weight > 0
    total[known] /= weight[known]
    phase = np.fft.irfft2(total, (ny, nx))
    # by the mean counts of a cell in use: a part of the electrons fell into others, or beside them
    return (phase * (disc * there / max(counted, 1e-30))).astype(np.float32)
