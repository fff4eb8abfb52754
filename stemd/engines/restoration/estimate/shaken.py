"""Lines of a lattice that are displaced by a good part of its period.

Then the first waves that are found show the displaced lattice itself: each of its peaks is smeared
along y into many, and lines that are compared with these have not moved. The highest peaks alone
show the lattice as it would stand, so the lines are compared with these first, along x.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit
from stemd.engines.restoration.distortions import displace_lines
from stemd.engines.restoration.estimate.least_squares import Waves
from stemd.engines.restoration.estimate.lines import displacements, noise_variance
from stemd.engines.restoration.estimate.waves import Found, find_waves

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

TURNS = 4
"""Comparisons, each with the lattice that the last one has left."""
STREAK, OWN = 1.5, 0.1
"""Bins along x within which one wave may be part of a higher one's streak, and the part of its
power from which on it is a peak of its own."""
SLOW_LINES = 12
"""Lines before and after a line: what all of them have moved together is the specimen's."""
LEAST_RADIANS = 0.25
"""Root mean square phase, in the lattice's waves, of displacements that need no such beginning."""


class Steadied(NamedTuple):
    """An image (ny, nx) with its lines moved back, noise and all, by `shifts` (ny, 2), y and x."""

    aligned: F32
    shifts: F64


def unshaken(image: F32, found: Found, most: int) -> Steadied | None:
    """The image with the lines of its lattice moved back along x; None where none have moved.

    `found`: its waves, `most` of them. Cost: for a lattice whose lines have moved `TURNS` - 1
    searches for waves, for all others next to nothing.
    """
    shifts = np.zeros((len(image), 2))
    aligned = image
    for turn in range(TURNS):
        waves, mean, _ = find_waves(aligned, most) if turn else found
        if not len(waves.frequency):
            return None
        peaks = _peaks_alone(waves)
        shown = peaks.image() + np.float32(mean)
        shifts, worth = displacements(image, shown, noise_variance(aligned, shown), shifts)
        shifts[:, 0] = 0.0
        shifts[:, 1] -= _slow(shifts[:, 1])
        if worth == 0.0 or _phase(peaks, shifts[:, 1]) < LEAST_RADIANS:
            return None
        aligned = moved_back(image, shown, shifts)
    return Steadied(aligned, shifts)


def moved_back(image: F32, shown: F32, shifts: F64) -> F32:
    """An image (ny, nx) without what `shifts` (ny, 2) do to what it shows: its noise as it was."""
    sy, sx = (np.ascontiguousarray(shifts[:, axis]) for axis in (0, 1))
    moved: F32 = image - (displace_lines(shown, sy, sx, cubic=True) - shown)
    return moved


def _peaks_alone(waves: Waves) -> Waves:
    """The waves that are no part of a higher one's streak along y."""
    order = np.argsort(-np.abs(waves.amplitude), kind="stable")
    power = np.square(np.abs(waves.amplitude[order]))
    own = np.ones(len(order), np.bool_)
    _mark_streaks(waves.frequency[order, 1] * waves.shape[1], power, own)
    return Waves(waves.shape, waves.frequency[order[own]], waves.amplitude[order[own]])


@njit(nogil=True, cache=True)
def _mark_streaks(bins_x: F64, power: F64, own: Mask) -> None:
    for n in range(bins_x.size):
        for m in range(n):
            near = min(abs(bins_x[n] - bins_x[m]), abs(bins_x[n] + bins_x[m])) < STREAK
            if near and power[n] < OWN * power[m]:
                own[n] = False


def _phase(waves: Waves, shifts: F64) -> float:
    """Root mean square phase by which `shifts` (ny,) along x change waves, by their power."""
    power = np.square(np.abs(waves.amplitude))
    square = float(power @ np.square(waves.frequency[:, 1])) / max(float(power.sum()), 1e-30)
    return 2.0 * np.pi * float(np.sqrt(square) * shifts.std())


def _slow(values: F64) -> F64:
    """Running mean of (n,) values over `SLOW_LINES` before and after."""
    reach = min(SLOW_LINES, len(values) - 1)
    padded = np.pad(values, reach, "reflect")
    mean: F64 = np.convolve(padded, np.full(2 * reach + 1, 1.0 / (2 * reach + 1)), "valid")
    return mean
