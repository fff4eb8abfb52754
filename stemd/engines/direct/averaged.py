"""The image of a scan whose data do not say which lens it was taken with.

Each lens that may be the true one, and the one that was told, gives an image; they are averaged by
how well each lens explains the cells. What they do not agree on goes into the uncertainty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.engines.direct.finished import ExactImage

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

TEMPER = 15.0
"""Evidence that makes a lens e times likelier. It would be 1 if the model were true; a peak is
claimed where it is 30 ahead."""
AGAINST = 15.0
"""Evidence by which another lens has to be ahead of the one told: of noise alone the best one of
ten thousand places is 9 ahead."""
LEAST = 0.02
"""Part in the average below which a lens is left out."""


@dataclass(frozen=True, slots=True)
class LensMean:
    """A phase (ny, nx) in radian, its variance, and `apart` (ny, nx): that of the images through
    single lenses. `lenses` with their parts in it, the largest first; `told`: that of the lens
    that was told.
    """

    phase: F32
    variance: float
    apart: F32 | None
    lenses: Sequence[tuple[Aberrations, float]]
    told: float

    def about(self) -> dict[str, Any]:
        """For the description of the image: nothing where it is through the lens told."""
        if self.told == 1.0:
            return {}
        keys = ("defocus_nm", "astigmatism_nm", "astigmatism_deg")
        return {
            "lens": "averaged",
            "lenses": [
                {**{key: lens.as_optics()[key] for key in keys}, "part": round(part, 3)}
                for lens, part in self.lenses
            ],
        }

    def words(self) -> str:
        """What is to be said of an image that is not one through the lens that was told."""
        found = ", ".join(f"{lens.defocus / 10:.1f} nm" for lens, _ in self.lenses)
        return (
            "the data do not say clearly which lens they were taken with, and speak against the "
            f"one told: the image is the mean through what may be it (defocus {found})"
        )


def averaged(
    exact: ExactImage,
    told: Aberrations,
    possible: Sequence[Aberrations],
    go_on: Callable[[], bool],
) -> LensMean | None:
    """The mean over the lens told and others that may be the true one; None once `go_on` says no.

    With no others it is the image through the one told. Costs an image for each.
    """
    lenses, made = [told, *possible], []
    for lens in lenses:
        image = exact.through(lens, go_on)
        if image is None:
            return None
        made.append(image)
    if not possible:
        return LensMean(made[0].phase, made[0].variance, None, [(told, 1.0)], 1.0)
    parts = parts_of([image.evidence for image in made])
    used = np.flatnonzero(parts)
    phases = np.stack([made[n].phase for n in used])
    weights = parts[used].astype(np.float32)
    mean = np.einsum("n,nyx->yx", weights, phases)
    apart = np.einsum("n,nyx->yx", weights, (phases - mean) ** 2)
    variance = float(sum(parts[n] * made[n].variance for n in used))
    order = used[np.argsort(-parts[used], kind="stable")]
    shares = [(lenses[n], float(parts[n])) for n in order]
    return LensMean(mean, variance, apart, shares, float(parts[0]))


def parts_of(evidence: Sequence[float]) -> F64:
    """Of each lens in the average, by its evidence; they sum to 1.

    The first one was told. It is all of it where none of the others is clearly ahead.
    """
    each = np.array(evidence, np.float64)
    parts = np.exp((each - each.max()) / TEMPER)
    if each[1:].max(initial=-np.inf) - each[0] < AGAINST:
        parts[1:] = 0.0
    parts[parts < LEAST * parts.sum()] = 0.0
    return np.asarray(parts / parts.sum())
