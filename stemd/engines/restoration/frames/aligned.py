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

from stemd.engines.restoration.estimate.channels import shown_of
from stemd.engines.restoration.frames.kinds import Kinds, kinds_of
from stemd.engines.restoration.frames.places import Places, add_frame, places_of
from stemd.engines.restoration.frames.rigid import Rigid
from stemd.engines.restoration.frames.rings import resolution
from stemd.engines.restoration.frames.shift import of_lines
from stemd.errors import UsageError

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

SMALLEST_PX = 32
PASSES = 2
"""Comparisons of all lines with the sum of all: the first sum is blurred by what it corrects."""
UNLIKE = 6.0
"""Deviations from the usual likeness to the sum at which a frame does not fit."""
KNOWN = 0.5
"""Part of all frames of which it must be known where they are, for these to be added up alone."""
LESS_LIKE = 0.7
"""A frame that is at least this part as alike as usual fits."""


@dataclass(frozen=True, slots=True)
class Aligned:
    """`image`: the sum of the frames that fit, as if each had seen every pixel: (y, x) float32.

    It is the part of the first frame that most frames show, from pixel `corner` (y, x) on;
    `halves` are the sums of the even and of the odd frames that fit, times two. `shifts` (n, 2)
    of each frame in pixels and `lines` (n, ny, 2) of its lines, such that line j of frame n shows
    the first frame's place (j + y, i + x). `used` (n,). `resolution_px`: the finest period that
    both halves show (`rings.resolution`), None where they show nothing alike or there is one.
    `moved`: whether the frames show where they are; else all are added as they came. `kinds`: where
    they show two different things, which frame shows which.
    """

    image: F32
    halves: tuple[F32, F32]
    corner: tuple[int, int]
    shifts: F64
    lines: F64
    likeness: F64
    used: Mask
    resolution_px: float | None
    places: Places
    moved: bool = True
    kinds: Kinds | None = None

    def drift(self, frame_time_s: float) -> tuple[tuple[float, float], float]:
        """Drift (y, x) in pixels a second, and its standard error: a line through the shifts."""
        times = np.flatnonzero(self.used).astype(np.float64) * frame_time_s
        return drift_of(times, self.shifts[self.used])


def drift_of(time: F64, moved: F64) -> tuple[tuple[float, float], float]:
    """Drift (y, x) of shifts `moved` (n, 2) at times (n,), and its standard error."""
    if len(time) < 2:
        return (0.0, 0.0), float("inf")
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
    far leads it. First each against the growing sum, whole, then against the sum of all others;
    then, against what the sum of all shows, line by line. Lines that do not say that they moved
    are not. Frames that are unlike the sum are left out, and those of which chance may have said
    where they are; where that is most of them, nothing moves. Raises UsageError for frames of
    several sizes, or too small.
    """
    shapes = sorted({frame.shape for frame in frames})
    if len(shapes) != 1 or len(shapes[0]) != 2 or min(shapes[0]) < SMALLEST_PX:
        raise UsageError(
            f"frames of {', '.join(map(str, shapes)) or 'no'} pixels cannot be added up",
            f"give images of one size, at least {SMALLEST_PX} x {SMALLEST_PX}",
        )
    shape = shapes[0]
    rigid = Rigid(shape, reach_px)
    for frame in frames:
        rigid.add(frame)
    rigid.settle()
    shifts, likeness, known = np.array(rigid.shifts), rigid.likeness(), rigid.known()
    if np.count_nonzero(known) < max(min(2, len(frames)), KNOWN * len(frames)):
        still = np.zeros((len(frames), shape[0], 2))
        all_ = np.ones(len(frames), np.bool_)
        return _result(frames, still.mean(axis=1), still, likeness, all_, moved=False)
    used = known & _fitting(likeness)
    lines = np.repeat(shifts[:, None], shape[0], axis=1)
    for _ in range(PASSES):
        shown = shown_of(_mean(*_summed(frames, lines, used)))
        for n in map(int, np.flatnonzero(used)):
            lines[n] = of_lines(frames[n], shown, (float(shifts[n, 0]), float(shifts[n, 1])))
    # the first frame that fits says where the others are
    middle = lines.mean(axis=1)
    first = middle[np.flatnonzero(used)[0]].copy()
    return _result(frames, middle - first, lines - first, likeness, used)


def _summed(frames: Sequence[F32], lines: F64, used: Mask) -> tuple[F64, NDArray[np.int32]]:
    """Sum (ny, nx) of the frames that are used, and how many each of its pixels has."""
    total = np.zeros(frames[0].shape)
    counts = np.zeros(frames[0].shape, np.int32)
    for n in map(int, np.flatnonzero(used)):
        add_frame(frames[n], lines[n], total, counts)
    return total, counts


def _mean(total: F64, counts: NDArray[np.int32]) -> F32:
    """The mean frame; what none has shown has the mean of all."""
    middle = float(total.sum() / max(int(counts.sum()), 1))
    mean = np.where(counts > 0, total / np.maximum(counts, 1), middle)
    return mean.astype(np.float32)


def _fitting(likeness: F64) -> Mask:
    """Which frames are as alike to the sum as the others are."""
    middle = float(np.median(likeness))
    scatter = 1.48 * float(np.median(np.abs(likeness - middle)))
    least = min(middle - UNLIKE * scatter, LESS_LIKE * middle)
    fits: Mask = likeness >= least
    return fits


def _result(
    frames: Sequence[F32], shifts: F64, lines: F64, likeness: F64, used: Mask, *, moved: bool = True
) -> Aligned:
    even = np.zeros_like(used)
    even[np.flatnonzero(used)[::2]] = True
    nx = frames[0].shape[1]
    places = places_of(lines, used, nx)
    total = np.zeros(places.counts.size)
    for n in map(int, np.flatnonzero(used)):
        places.add_to(total, frames[n].ravel(), n)
    counts = places.counts.reshape(-1, nx)
    rows, columns = _covered(counts > 0)
    part = np.s_[rows[0] : rows[1], columns[0] : columns[1]]
    count = np.float32(places.frames)
    image = _mean(total.reshape(-1, nx), counts)[part] * count
    halves = tuple(
        _mean(*_summed(frames, lines, half))[part] * count for half in (used & even, used & ~even)
    )
    finest = resolution(halves[0], halves[1]) if places.frames > 1 else None
    return Aligned(
        image, (halves[0], halves[1]), (rows[0], columns[0]), shifts, lines, likeness, used,
        finest, places, moved, kinds_of(frames, lines, used) if moved else None,
    )  # fmt: skip


def _covered(shown: Mask) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns (first, stop) that are shown, nearly all of each."""
    found = []
    for axis in (1, 0):
        inner = np.flatnonzero(shown.mean(axis=axis) > 0.5)
        found.append((int(inner[0]), int(inner[-1]) + 1) if len(inner) else (0, len(shown)))
    return found[0], found[1]
