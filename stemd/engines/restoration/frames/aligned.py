"""The sum of many frames of one place, each where it belongs.

What laboratories do at low dose (L. Jones, P. D. Nellist, Microsc. Microanal. 19 (2013) 1050; L.
Jones et al., Adv. Struct. Chem. Imaging 1 (2015) 8): the specimen drifts and lines are displaced
between frames, and both are measured by comparing each frame with the sum of all, instead of being
guessed from one. A sum invents nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.engines.restoration.estimate.channels import estimate
from stemd.engines.restoration.frames.rings import resolution
from stemd.engines.restoration.frames.shift import Correlation, add, of_lines, refined
from stemd.errors import UsageError

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

SMALLEST_PX = 32
PASSES = 2
"""Comparisons of all frames with the sum of all: the first sum is blurred by what it corrects."""
UNLIKE = 6.0
"""Deviations from the usual likeness to the sum at which a frame does not fit."""
LESS_LIKE = 0.7
"""A frame that is at least this part as alike as usual fits."""
COVERED = 0.5
"""A pixel belongs to the sum where this part of the frames show it."""


@dataclass(frozen=True, slots=True)
class Aligned:
    """`image`: the sum of the frames that fit, as if each had seen every pixel: (y, x) float32.

    It is the part of the first frame that most frames show, from pixel `corner` (y, x) on;
    `halves` are the sums of the even and of the odd frames that fit, times two. `shifts` (n, 2)
    of each frame in pixels and `lines` (n, ny, 2) of its lines, such that line j of frame n shows
    the first frame's place (j + y, i + x). `used` (n,). `resolution_px`: the finest period that
    both halves show (`rings.resolution`), None where they show nothing alike or there is one.
    """

    image: F32
    halves: tuple[F32, F32]
    corner: tuple[int, int]
    shifts: F64
    lines: F64
    likeness: F64
    used: Mask
    resolution_px: float | None

    def drift(self, frame_time_s: float) -> tuple[tuple[float, float], float]:
        """Drift (y, x) in pixels a second, and its standard error: a line through the shifts."""
        time = np.flatnonzero(self.used) * frame_time_s
        if len(time) < 2:
            return (0.0, 0.0), float("inf")
        moved = self.shifts[self.used]
        centred = time - time.mean()
        spread = float(centred @ centred)
        slope = centred @ moved / spread
        rest = moved - moved.mean(axis=0) - centred[:, None] * slope
        error = np.inf
        if len(time) > 2:
            error = float(np.sqrt(np.square(rest).sum() / (2 * (len(time) - 2)) / spread))
        return (float(slope[0]), float(slope[1])), error


def align(frames: Sequence[F32], reach_px: float | None = None) -> Aligned:
    """The aligned sum of frames (y, x) of one size, in any unit, in the order of their scans.

    A frame is searched for within `reach_px` (an eighth of the shorter side) of where the drift so
    far leads it. First each against the growing sum, whole; then, against what the sum of all
    shows, whole and line by line. Lines that do not say that they moved are not. Frames that are
    unlike the sum are left out. Raises UsageError for frames of several sizes, or too small.
    """
    shapes = sorted({frame.shape for frame in frames})
    if len(shapes) != 1 or len(shapes[0]) != 2 or min(shapes[0]) < SMALLEST_PX:
        raise UsageError(
            f"frames of {', '.join(map(str, shapes)) or 'no'} pixels cannot be added up",
            f"give images of one size, at least {SMALLEST_PX} x {SMALLEST_PX}",
        )
    shape = shapes[0]
    correlation = Correlation(shape, reach_px or min(shape) / 8.0)
    shifts = _growing(frames, correlation)
    lines = np.repeat(shifts[:, None], shape[0], axis=1)
    used = np.ones(len(frames), np.bool_)
    likeness = np.ones(len(frames))
    for turn in range(PASSES):
        total, weight = _summed(frames, lines, used)
        for n in range(len(frames)):
            likeness[n] = _likeness(frames[n], lines[n], total, weight, correlation, used[n])
        used = _fitting(likeness)
        shown = estimate(_mean(total, weight)).shown
        for n in map(int, np.flatnonzero(used)):
            whole = refined(frames[n], shown, (float(shifts[n, 0]), float(shifts[n, 1])))
            lines[n] = of_lines(frames[n], shown, whole)
            shifts[n] = lines[n].mean(axis=0)
        # the first frame that fits says where the others are
        first = shifts[np.flatnonzero(used)[0]].copy()
        if turn == PASSES - 1:
            shifts -= first
            lines -= first
    return _result(frames, shifts, lines, likeness, used)


def _growing(frames: Sequence[F32], correlation: Correlation) -> F64:
    """Whole shifts (n, 2) of each frame against the sum of those before it."""
    shape = frames[0].shape
    total, weight = np.zeros(shape), np.zeros(shape)
    shifts = np.zeros((len(frames), 2))
    for n, frame in enumerate(frames):
        if n:
            last = shifts[n - 1]
            step = last - shifts[n - 2] if n > 1 else np.zeros(2)
            expected = float(last[0] + step[0]), float(last[1] + step[1])
            found = correlation.found(
                correlation.transformed(frame),
                correlation.transformed(_mean(total, weight)),
                expected,
            )
            shifts[n] = found
        add(frame, np.tile(shifts[n], (shape[0], 1)), total, weight)
    return shifts


def _summed(frames: Sequence[F32], lines: F64, used: Mask) -> tuple[F64, F64]:
    total, weight = np.zeros(frames[0].shape), np.zeros(frames[0].shape)
    for n in map(int, np.flatnonzero(used)):
        add(frames[n], lines[n], total, weight)
    return total, weight


def _mean(total: F64, weight: F64) -> F32:
    """The mean frame; what none has shown has the mean of all."""
    shown = weight > 1e-3
    middle = float(total.sum() / max(float(weight.sum()), 1e-30))
    mean = np.where(shown, total / np.where(shown, weight, 1.0), middle)
    return mean.astype(np.float32)


def _likeness(
    frame: F32, lines: F64, total: F64, weight: F64, correlation: Correlation, used: bool
) -> float:
    """Of a frame and the sum of all others, where it was found."""
    own, own_weight = np.zeros_like(total), np.zeros_like(weight)
    add(frame, lines, own, own_weight)
    others, others_weight = total, weight
    if used:
        others, others_weight = total - own, weight - own_weight
    inside = (own_weight > 0.5) & (others_weight > 0.5)
    one = np.where(inside, _mean(own, own_weight), np.float32(0.0))
    other = np.where(inside, _mean(others, others_weight), np.float32(0.0))
    if not inside.any():
        return 0.0
    one = np.where(inside, one, one[inside].mean()).astype(np.float32)
    other = np.where(inside, other, other[inside].mean()).astype(np.float32)
    a, b = correlation.transformed(one), correlation.transformed(other)
    return correlation.likeness(a, b)


def _fitting(likeness: F64) -> Mask:
    """Which frames are as alike to the sum as the others are."""
    middle = float(np.median(likeness))
    scatter = 1.48 * float(np.median(np.abs(likeness - middle)))
    least = min(middle - UNLIKE * scatter, LESS_LIKE * middle)
    fits: Mask = likeness >= least
    return fits


def _result(frames: Sequence[F32], shifts: F64, lines: F64, likeness: F64, used: Mask) -> Aligned:
    even = np.zeros_like(used)
    even[np.flatnonzero(used)[::2]] = True
    one, one_weight = _summed(frames, lines, used & even)
    other, other_weight = _summed(frames, lines, used & ~even)
    count = int(used.sum())
    weight = one_weight + other_weight
    rows, columns = _covered(weight >= COVERED * count)
    part = np.s_[rows[0] : rows[1], columns[0] : columns[1]]
    image = _mean((one + other)[part], weight[part]) * np.float32(count)
    halves = tuple(
        _mean(total[part], own[part]) * np.float32(count)
        for total, own in ((one, one_weight), (other, other_weight))
    )
    finest = resolution(halves[0], halves[1]) if count > 1 else None
    return Aligned(
        image, (halves[0], halves[1]), (rows[0], columns[0]), shifts, lines, likeness, used, finest
    )


def _covered(shown: Mask) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns (first, stop) that are shown, nearly all of each."""
    found = []
    for axis in (1, 0):
        inner = np.flatnonzero(shown.mean(axis=axis) > 0.5)
        found.append((int(inner[0]), int(inner[-1]) + 1) if len(inner) else (0, len(shown)))
    return found[0], found[1]
