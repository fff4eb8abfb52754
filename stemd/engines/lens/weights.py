"""The direct methods as weights of one linear estimate: phi = sum_k n_k W* G / divisor.

Each of them adds the bright-field cells up after Fourier transform, with weights W of its own, and
divides by what makes the sum a phase in radian.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stemd.engines.kernels.overlaps import GAMMA, MOMENT, ONE_OVERLAP, SHIFT

F64 = NDArray[np.float64]
Method = Literal["wiener", "obf", "ssb", "parallax", "icom"]

KINDS: Mapping[Method, int] = {
    "wiener": GAMMA,
    "obf": GAMMA,
    "ssb": ONE_OVERLAP,
    "parallax": SHIFT,
    "icom": MOMENT,
}
"""What each weights the cells by (`kernels.overlaps.add_overlaps`)."""
SSB_REGULARISATION = 0.1
"""Of the engine `ssb`: the part of the greatest possible number of overlaps that is added."""
LEAST_SHARE = 1e-6
"""A frequency that is transferred by less than this part of the best one is not estimated."""


def divisor(method: Method, transfer: F64, counts: float, power: F64) -> F64:
    """What the sum of all cells is divided by at each frequency, inf where nothing is known.

    `transfer`: sum of n_k |W|^2 over the cells; `counts`: sum of n_k; `power`: the specimen's,
    |phi(q)|^2 divided by the number of positions, which "wiener" alone looks at.

    wiener: transfer + 1 / power, the least mean square error. obf: the noise is made white, and the
    best transferred frequency keeps its size (optimum bright field: Ooe, Seki, Ikuhara, Shibata,
    Ultramicroscopy 220 (2021) 113133). ssb: the mean of all overlaps, regularised as the engine
    `ssb` does. parallax: the mean of all cells, for a transfer of 2 sin chi taken as 2. icom: the
    mean of all cells.
    """
    most = float(transfer.max(initial=0.0))
    known = transfer > LEAST_SHARE * most
    if method == "wiener":
        known &= power > 0.0
        by = transfer + 1.0 / np.where(known, power, 1.0)
    elif method == "obf":
        by = np.sqrt(transfer * most)
    elif method == "ssb":
        by = transfer + 2.0 * SSB_REGULARISATION * counts
    else:
        by = np.full(transfer.shape, counts * (2.0 if method == "parallax" else 1.0))
    return np.where(known, by, np.inf)


def left_out(method: Method, transfer: F64, by: F64, power: F64) -> F64:
    """The variance of the phase that stays at each frequency, divided by the number of positions.

    Of "wiener" noise and what is lacking, power / (1 + power transfer); of the others their noise.
    """
    if method == "wiener":
        return np.asarray(power / (1.0 + power * transfer))
    return np.asarray(transfer / by**2)
