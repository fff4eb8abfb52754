"""Whom to believe where a network and the linear estimate contradict each other.

The linear model fails for strong objects, such as a metal particle: its cells then agree with each
other on a wrong phase. The centre of mass is the slope of the phase under the probe for strong
objects as well as for weak ones (thesis eq. 3.2). It is too coarse and too noisy to decide about
single waves, but of both images as a whole it says which is nearer to the specimen.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.beam import Beam
from stemd.engines.airpi.measured_slopes import (
    LEAST_BLUR,
    Rings,
    blurring_of_mirrored,
    frequencies,
    integrated,
    waves_of,
)
from stemd.engines.airpi.slopes import Slopes

F32 = NDArray[np.float32]
C128 = NDArray[np.complex128]

FINEST = 1.2
"""Semi-angles up to which waves are asked for."""
CLEAR = 3.0
"""Standard errors by which the centre of mass must see anything."""
ALLOWED, DECISIVE = 0.05, 0.15
"""Part of what the centre of mass sees that the linear estimate may explain less than the network
without losing weight, and from which on it has none."""


def trust(
    slopes: Slopes, beam: Beam, network: F32, linear: F32, lens: Aberrations | None = None
) -> float:
    """How far the linear estimate is to be believed against the network, 0 to 1.

    Both images (ny, nx) at the slopes' positions, radian; `lens`: as the data have it, else the
    beam's.
    """
    ky, kx = frequencies(slopes)
    k = np.hypot(ky, kx)
    blur = blurring_of_mirrored(beam, slopes, lens)
    used = (np.abs(blur) > LEAST_BLUR) & (k < FINEST * beam.aperture) & (k > 0.0)
    measured, noise = integrated(slopes, Rings(k / beam.aperture))
    weight = np.where(used, 1.0 / noise, 0.0)
    there = float((weight * np.abs(measured) ** 2).sum()) - float(used.sum())
    if there < CLEAR * math.sqrt(max(1.0, float(used.sum()))):
        return 1.0
    lacking = [
        _lacking(measured, blur * waves_of(image - image.mean(dtype=np.float64)), weight, there)
        for image in (network, linear)
    ]
    beyond = (lacking[1] - lacking[0] - ALLOWED) / (DECISIVE - ALLOWED)
    return float(np.clip(1.0 - beyond, 0.0, 1.0))


def _lacking(measured: C128, image: C128, weight: NDArray[np.float64], there: float) -> float:
    """Part of the power seen that an image does not explain, however strong it is, 0 to 1."""
    own = float((weight * np.abs(image) ** 2).sum())
    both = float((weight * (image.conj() * measured).real).sum())
    explained = max(both, 0.0) ** 2 / own if own > 0.0 else 0.0
    return float(np.clip(1.0 - explained / there, 0.0, 1.0))
