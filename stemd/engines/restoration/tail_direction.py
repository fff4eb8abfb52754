"""Which way a smear along the lines runs: as a slow detector's, mirrored, or to both sides.

All have one power. Electrons come one by one, and so their noise is skewed: more pixels are far
above the mean than far below. A filter makes that less, and of all that whiten the noise, the one
that undoes what was done makes it most skewed again (D. Donoho, On minimum entropy deconvolution,
1981).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
C128 = NDArray[np.complex128]

Runs = Literal["later", "earlier", "both"]
"""Into later pixels of the line, as a slow detector's tail; into earlier ones, of an image that was
mirrored; into both alike, of one that was filtered or interpolated along its lines."""

SURE = 4.0
"""Standard errors by which the noise must be more skewed than if it were a tail."""


def runs(noise: Sequence[F32], answer: C128) -> Runs:
    """How an image was smeared whose `noise` is that of parts of it, (ny, nx) each.

    `answer` (nx + 1,): what a slow detector does to each frequency of a line that goes on as in a
    mirror. Where the noise does not tell it is taken for one: its skewness over its error is some
    36 / sqrt(counts a pixel) in 256 x 256 pixels.
    """
    ways: tuple[Runs, ...] = "later", "earlier", "both"
    cubes = {way: _cubes(noise, that_runs(answer, way)) for way in ways}
    most = max(cubes.values(), key=lambda cube: abs(float(cube.mean())))
    sign = np.sign(most.mean())  # of an image in the negative it is the other way round
    other: Runs = max("earlier", "both", key=lambda way: float(sign * cubes[way].mean()))
    return other if _surely(sign * (cubes[other] - cubes["later"])) else "later"


def that_runs(answer: C128, way: Runs) -> C128:
    """The `answer` of a slow detector made that of a smear of the same power that runs this way."""
    if way == "later":
        return answer
    turned: C128 = np.conj(answer) if way == "earlier" else np.abs(answer).astype(np.complex128)
    return turned


def _cubes(noise: Sequence[F32], answer: C128) -> F64:
    """Mean cube of each line (lines,) of the noise, had a detector of this `answer` smeared it."""
    cubes = []
    for part in noise:
        nx = part.shape[1]
        both = np.concatenate([part[:, ::-1], part], axis=1)
        white = np.fft.irfft(np.fft.rfft(both, axis=1) / answer, 2 * nx, axis=1)[:, nx:]
        white -= white.mean()
        cubes.append(np.mean(white**3, axis=1))
    return np.concatenate(cubes)


def _surely(values: F64) -> bool:
    """Whether the mean of these is above 0 by more than chance, as they differ by themselves."""
    error = float(values.std()) / np.sqrt(values.size)
    return bool(float(values.mean()) > SURE * error)
