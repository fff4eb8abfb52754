"""What restoration networks are shown beside the image itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.engines.restoration.distortions import displace_lines
from stemd.engines.restoration.estimate.lines import displacements, moved_back, noise_variance
from stemd.engines.restoration.estimate.phases import placed
from stemd.engines.restoration.estimate.waves import Found, find_waves
from stemd.engines.restoration.estimate.windows import shrunk

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

ROUNDS = 2
"""Times that lines are moved back at most, each followed by another look."""
FIRST, MOST = 75, 200
"""Waves in the first look and in later ones, the strongest first. Displaced lines smear each peak
into many: with more, waves would show the displacements themselves."""
WORTH = 3.0
"""Information about a line's displacement, over what is known beforehand, for a second round."""
CLEARLY = 0.98
"""Part of what the usual estimate leaves of the image that one which begins with lines placed by
their phase may leave, to be taken: on its own it would straighten what is bent."""
SMALLEST_PX = 64
"""Sides below this are continued as in a mirror: windows must fit."""
LEAST_DEVIATION = 2e-3
"""Noise below this part of an image's deviation is taken for this: networks divide by it."""
CHANNELS = ("image", "aligned", "waves", "shown", "noise", "added", "deviation")
"""What a network is given, in this order; see `channels`."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What can be said of an image (ny, nx) without a network; all images (ny, nx) float32.

    `waves`: what is periodic over the image; `shown`: with what windows add; `aligned`: the
    image with its lines moved back, noise and all; `variance` of a pixel's noise; `shifts`
    (ny, 2) of the lines along y and x, in pixels.
    """

    waves: F32
    shown: F32
    aligned: F32
    variance: F32
    shifts: F64


def estimate(image: F32) -> Estimate:
    """Waves, windows and moved lines in turn, of an image (ny, nx) in any unit.

    Lines are moved by what the displaced `shown` differs from itself, so noise stays as it is.
    Where lines show by their phase (`phases`) that they are displaced by a good part of a fine
    lattice's period, the estimate that begins there is made, too, and taken where it leaves clearly
    less of the image. Cost: some 0.3 to 0.7 microseconds a pixel, twice that for such a lattice.
    """
    ny, nx = image.shape
    missing = max(0, SMALLEST_PX - ny), max(0, SMALLEST_PX - nx)
    if any(missing):
        whole = estimate(np.pad(image, ((0, missing[0]), (0, missing[1])), "symmetric"))
        part = np.s_[:ny, :nx]
        return Estimate(
            whole.waves[part], whole.shown[part], whole.aligned[part], whole.variance[part],
            whole.shifts[:ny],
        )  # fmt: skip
    known = _looked_at(image, find_waves(image, FIRST), image, np.zeros((ny, 2)))
    along = placed(image)
    if not along.any():
        return known
    shifts = np.stack([np.zeros_like(along), along], axis=1)
    aligned = displace_lines(image, shifts[:, 0].copy(), -along, cubic=True)
    again = _looked_at(image, find_waves(aligned, FIRST), aligned, shifts)
    return again if _misfit(image, again) < CLEARLY * _misfit(image, known) else known


def _looked_at(image: F32, found: Found, aligned: F32, shifts: F64) -> Estimate:
    """The estimate that begins with the waves `found` in the `aligned` image."""
    worth = np.inf
    for turn in range(ROUNDS + 1):
        waves, mean, noise = found
        periodic = waves.image() + np.float32(mean)
        shown = periodic + shrunk(aligned - periodic, noise)
        if turn == ROUNDS or worth < WORTH:
            break
        most = FIRST if turn == 0 else MOST
        shifts, worth = displacements(image, shown, noise_variance(aligned, shown), shifts)
        if worth == 0.0:
            aligned = image
            # nothing moves, and there are no more waves to be found
            if len(waves.frequency) < most:
                break
        else:
            aligned = moved_back(image, shown, shifts)
        found = find_waves(aligned, MOST, waves.frequency)
    return Estimate(periodic, shown, aligned, noise_variance(aligned, shown), shifts)


def _misfit(image: F32, known: Estimate) -> float:
    """Mean square of what an estimate, its lines displaced, leaves of the image."""
    sy, sx = (np.ascontiguousarray(known.shifts[:, axis]) for axis in (0, 1))
    return float(np.mean(np.square(image - displace_lines(known.shown, sy, sx, cubic=True))))


def shown_of(image: F32) -> F32:
    """What an image (ny, nx) shows without its noise, its lines taken for being where they belong.

    Cost: a third of `estimate`.
    """
    ny, nx = image.shape
    if min(ny, nx) < SMALLEST_PX:
        missing = max(0, SMALLEST_PX - ny), max(0, SMALLEST_PX - nx)
        whole = shown_of(np.pad(image, ((0, missing[0]), (0, missing[1])), "symmetric"))
        return np.ascontiguousarray(whole[:ny, :nx])
    found, mean, noise = find_waves(image, MOST, None)
    waves = found.image() + np.float32(mean)
    shown: F32 = waves + shrunk(image - waves, noise)
    return shown


def channels(image: F32) -> F32:
    """An image (ny, nx) of mean 0 and deviation 1 as networks take it: (7, ny, nx) float32."""
    known = estimate(image)
    return stacked(image, known.waves, known.shown, known.aligned, np.sqrt(known.variance))


def stacked(image: F32, waves: F32, shown: F32, aligned: F32, deviation: F32) -> F32:
    """`CHANNELS`, (7, ny, nx) float32, of an estimate's parts, each (ny, nx).

    `noise` is (aligned - shown) / deviation, `added` (shown - waves) / deviation, `deviation`
    the logarithm of the noise's.
    """
    spread = np.maximum(deviation, np.float32(LEAST_DEVIATION))
    return np.stack(
        [image, aligned, waves, shown, (aligned - shown) / spread, (shown - waves) / spread,
         np.log(spread)]
    ).astype(np.float32, copy=False)  # fmt: skip
