"""How far the phase may be off at each place.

The counts' noise is the same everywhere, and next to nothing at high doses: what decides there is
what the model leaves out. Parts of the cells agree with each other within their noise even where
all of them are wrong, so that it cannot be read off their differences. What is added here was
calibrated on specimens of the virtual microscope (`benchmarks.direct.acceptance --seed 1`):

- detail that nobody could have seen: rings in which the specimen is not clear have up to the power
  of the last one in which it is, and so have frequencies beyond those of the scan's steps. The
  last ring that is transferred has at least that of those before it: two discs hardly overlap
  there, so that a semi-angle 2 % wrong makes its power four times too small;
- a part of the phase itself, as strong phases are not what a linear model takes them for: the
  larger, the less of what the cells see one weak specimen explains (`model_error`);
- what a probe sees of places outside of the scan, or that were not measured: OUTSIDE of the
  image's variance, by the part of the probe's reach.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stemd.engines.lens.estimate import REACH, RING, Linear
from stemd.engines.lens.rings import SURE

Bools = NDArray[np.bool_]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

MODEL, UNEXPLAINED, NOT_KNOWN = 0.05, 0.6, 0.2
"""Part of the phase, from its mean, by which it is off of a weak specimen; times the part that is
not explained, which is added; and where nobody has looked for that."""
OUTSIDE = 0.5
"""Part of the image's variance by which a phase is off of which nothing was measured."""
LAST = 8
"""Rings before the last one whose power this one has at least, half an aperture."""


def variance_of(estimate: Linear, step_apertures: float) -> float:
    """Of the phase, in radian^2: noise, detail that is held back, and detail that was not seen.

    `step_apertures`: the scan's step in 1 / aperture.
    """
    at, count = estimate.at, math.ceil(REACH / RING)
    seen, error, most, here = (
        np.asarray(np.bincount(at.ring, weights, count), np.float64)
        for weights in (
            at.twice * (np.abs(estimate.numerator) ** 2 - at.positions * estimate.denominator),
            (at.twice * at.positions * estimate.denominator) ** 2 / at.share,
            at.twice * estimate.denominator**2,
            at.twice,
        )
    )
    power, last = np.zeros(count), math.inf
    sure = seen > SURE * np.sqrt(error)
    for ring in range(count):
        own = max(0.0, seen[ring]) / most[ring] if most[ring] > 0.0 else math.inf
        power[ring] = own if sure[ring] else min(own, last)
        last = own if sure[ring] else last
    clear = np.flatnonzero(sure[count - 1 - LAST : count - 1]) + count - 1 - LAST
    if clear.size:
        power[-1] = max(power[-1], float(np.average(power[clear], weights=here[clear])))
    power = np.where(np.isfinite(power), power, 0.0) / at.positions
    inside = power[at.ring] / (1.0 + power[at.ring] * estimate.denominator)
    edges = np.arange(count + 1) * RING
    # frequencies of the plane a ring, as far as they are beyond those of the scan
    plane = np.pi * np.diff(edges**2) * at.done.size * step_apertures**2
    beyond = edges[:-1] > 0.5 / step_apertures
    outside = np.where(beyond, np.maximum(plane - here, 0.0), 0.0) * power
    return float(((at.twice * inside).sum() + outside.sum()) / at.done.size)


def model_error(explained: float | None) -> float:
    """Part of the phase by which it is off, by what one weak specimen explains of what is seen."""
    if explained is None:
        return NOT_KNOWN
    return MODEL + UNEXPLAINED * min(1.0, max(0.0, 1.0 - explained))


def standard_error(
    phase: F32,
    done: Bools,
    variance: float,
    reach: float,
    model: float = NOT_KNOWN,
    apart: F32 | None = None,
) -> F32:
    """Of the phase at each place in radian, float32 (ny, nx).

    `done` (ny, nx): what was measured; `variance` in radian^2 where there is little to see;
    `reach`: radius in pixels to which a probe sees; `model`: part of the phase by which it is off;
    `apart` (ny, nx): variance of what else is not known.
    """
    there = phase[done].astype(np.float64)
    if not there.size:
        return np.zeros(phase.shape, np.float32)
    aside = phase - there.mean()
    missing = np.maximum(_missing(done, reach), ~done)
    sum_of = variance + (model * aside) ** 2 + OUTSIDE * float(there.var()) * missing
    if apart is not None:
        sum_of = sum_of + apart
    return np.asarray(np.sqrt(sum_of), np.float32)


def _missing(done: Bools, reach: float) -> F64:
    """The part of a disc about each place of which nothing was measured, 0 to 1."""
    radius = max(1, min(round(reach), max(done.shape)))
    ny, nx = (n + 2 * radius for n in done.shape)
    y, x = np.fft.fftfreq(ny, 1 / ny)[:, None], np.fft.fftfreq(nx, 1 / nx)[None, :]
    disc = (np.hypot(y, x) <= radius).astype(np.float64)
    measured = np.fft.irfft2(
        np.fft.rfft2(np.pad(done.astype(np.float64), radius)) * np.fft.rfft2(disc), (ny, nx)
    )
    inner = measured[radius:-radius, radius:-radius] / disc.sum()
    return np.asarray(np.clip(1.0 - inner, 0.0, 1.0))
