"""The image of a stitched object: its coarse structure restored, held to what the data say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.engines.airpi.bright import Evidence
from stemd.engines.airpi.claims import belief
from stemd.engines.airpi.geometry import ObjectGeometry
from stemd.engines.airpi.joined import joined, waves_of
from stemd.engines.airpi.measured_slopes import correction
from stemd.engines.airpi.patch_offsets import image_of, restored_spectrum, without_mean
from stemd.engines.airpi.slopes import Frame, Slopes, near_known

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Averaged:
    """Weights (p, p) on the object's pixels by which a patch's mean was `taken`, and by which
    patches are averaged, `by`.
    """

    taken: F64
    by: F64


@dataclass(frozen=True, slots=True)
class Images:
    """Phase in radian, of mean 0, and weight, float32; 0 where nothing is known.

    `sigma`: standard error of the phase in radian, `gain`: slope of the data against the
    network's image, `believed`: part of the network's image that was used, 0 to 1; None where
    nothing says how large they are.
    """

    phase: F32
    weight: F32
    sigma: float | None = None
    gain: float | None = None
    believed: float | None = None


def finished(
    phase: F32,
    weight: F32,
    lines: NDArray[np.int64],
    of: ObjectGeometry,
    columns: int,
    averaged: Averaged,
    least_transfer: float,
    slopes: Slopes | None,
    evidence: Evidence | None,
) -> Images:
    """What is shown of a stitched object (h, w) of which these scan `lines` are made.

    `least_transfer`: see `patch_offsets.restored_spectrum`. `slopes` of the whole scan, if
    the phase is to agree with them; `evidence` likewise, once the scan is over. What lies outside
    of the lines made, about which patches are on one side only, is left out.
    """
    whole, sure = np.zeros_like(phase), np.zeros_like(weight)
    if not lines.size:
        return Images(whole, sure)
    rows = of.between(int(lines[0]), int(lines[-1]))
    inside = of.between(0, columns - 1)
    box = np.s_[rows.start : rows.stop, inside.start : inside.stop]
    known = weight[box] > 0
    if not known.any():
        return Images(whole, sure)
    shape = rows.stop - rows.start, inside.stop - inside.start
    spectrum = restored_spectrum(
        without_mean(phase[box], known), averaged.taken, averaged.by, least_transfer
    )
    image, pixel, step = image_of(spectrum, shape), of.pixel_angstrom, of.step_size_angstrom
    first = (
        (rows.start - of.origin) * pixel - int(lines[0]) * step,
        (inside.start - of.origin) * pixel,
    )
    at = Frame(pixel, (first[0] + int(lines[0]) * step, first[1]))
    believed = None
    if evidence is not None:
        believed = belief(waves_of(image, at, evidence.linear.at, step, of.beam), evidence)
        image, spectrum = image * np.float32(believed), spectrum * np.float32(believed)
    if slopes is not None:
        part = slopes.lines(int(lines[0]), int(lines[-1]) + 1)
        frame = Frame(pixel, first)
        lens = evidence.lens if evidence is not None else None
        image += correction(spectrum, shape, frame, part, of.beam, lens)
        # between patches that do not meet, positions still have a slope
        known |= near_known(shape, frame, part)
    sigma = gain = None
    if evidence is not None:
        both = joined(image, at, evidence, step, of.beam, slopes)
        image, sigma, gain = both.phase, both.sigma, both.gain
    whole[box], sure[box] = without_mean(image, known), weight[box]
    return Images(whole, sure, sigma, gain, believed)
