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
from stemd.engines.restoration.frames.places import Places, add_frame, places_of
from stemd.engines.restoration.frames.rings import resolution
from stemd.engines.restoration.frames.shift import C64, Search, of_lines
from stemd.errors import UsageError

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

SMALLEST_PX = 32
SWEEPS = 2
"""Comparisons of each frame, as a whole, with the sum of all others."""
PASSES = 2
"""Comparisons of all lines with the sum of all: the first sum is blurred by what it corrects."""
ALIKE_PX = 1.5
"""Frames so near to an even drift are found again from both alike."""
VELOCITY_FRAMES = 4
"""Over so many frames the drift is taken to be even."""
UNLIKE = 6.0
"""Deviations from the usual likeness to the sum at which a frame does not fit."""
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
    are not. Frames that are unlike the sum are left out. Raises UsageError for frames of several
    sizes, or too small.
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
    shifts, likeness = np.array(rigid.shifts), rigid.likeness()
    used = _fitting(likeness)
    lines = np.repeat(shifts[:, None], shape[0], axis=1)
    for _ in range(PASSES):
        shown = shown_of(_mean(*_summed(frames, lines, used)))
        for n in map(int, np.flatnonzero(used)):
            lines[n] = of_lines(frames[n], shown, (float(shifts[n, 0]), float(shifts[n, 1])))
    # the first frame that fits says where the others are
    middle = lines.mean(axis=1)
    first = middle[np.flatnonzero(used)[0]].copy()
    return _result(frames, middle - first, lines - first, likeness, used)


class Rigid:
    """Whole shifts of frames that come one after the other, against the sum of those before.

    `shifts` (y, x) of each in pixels, the first's 0.
    """

    def __init__(self, shape: tuple[int, int], reach_px: float | None = None) -> None:
        self.shifts: list[tuple[float, float]] = []
        self._search = Search(shape, reach_px or min(shape) / 8.0)
        self._frames: list[C64] = []
        self._noise: list[float] = []
        self._total: C64 | None = None

    def add(self, frame: F32) -> tuple[float, float]:
        """One more frame (ny, nx); returns its shift."""
        seen, noise = self._search.transformed(frame)
        shift = (0.0, 0.0)
        if self._total is not None:
            shown = self._search.shown(self._total, sum(self._noise), len(self._frames))
            shift = self._search.found(seen, noise, shown, self._expected(len(self._frames)))
        moved = self._search.moved(seen, shift)
        self._total = moved if self._total is None else self._total + moved
        self._frames.append(seen)
        self._noise.append(noise)
        self.shifts.append(shift)
        return shift

    def settle(self) -> None:
        """Look for each frame again, in the sum of all others.

        From where they were found one after the other, and from an even drift: with few
        electrons the first frames show too little for the next one to be found in them.
        """
        if len(self._frames) < 3:
            return
        v = self._search.velocity(self._frames)
        even = [(n * v[0], n * v[1]) for n in range(len(self.shifts))]
        apart = np.hypot(*(np.array(self.shifts) - even).T)
        starts = [self.shifts, even] if apart.max() > ALIKE_PX else [self.shifts]
        found = []
        for start in starts:
            self._begin(start)
            for _ in range(SWEEPS):
                self._sweep()
            assert self._total is not None
            found.append((self._search.energy(self._total, self._total), self.shifts))
        self._begin(max(found, key=lambda each: each[0])[1])

    def _begin(self, shifts: list[tuple[float, float]]) -> None:
        self.shifts = list(shifts)
        self._total = np.zeros_like(self._frames[0])
        for frame, shift in zip(self._frames, shifts, strict=True):
            self._total += self._search.moved(frame, shift)

    def _sweep(self) -> None:
        for n, seen in enumerate(self._frames):
            others = self._others(n)
            noise = sum(self._noise) - self._noise[n]
            shown = self._search.shown(others, noise, len(self._frames) - 1)
            self.shifts[n] = self._search.found(seen, self._noise[n], shown, self._expected(n))
            self._total = others + self._search.moved(seen, self.shifts[n])

    def likeness(self) -> F64:
        """Of each frame (n,) and the sum of all others, where it was found; -1 to 1."""
        if len(self._frames) < 2:
            return np.ones(len(self._frames))
        search = self._search
        return np.array(
            [
                search.likeness(search.moved(seen, self.shifts[n]), self._others(n))
                for n, seen in enumerate(self._frames)
            ]
        )

    def likeness_of_last(self) -> float:
        """The same of the last frame alone, as it was found."""
        last = len(self._frames) - 1
        moved = self._search.moved(self._frames[last], self.shifts[last])
        return self._search.likeness(moved, self._others(last))

    def drop_last(self) -> None:
        """The last frame does not fit: it is in no sum."""
        self._total = self._others(len(self._frames) - 1)
        for each in (self._frames, self._noise, self.shifts):
            del each[-1]

    def _others(self, n: int) -> C64:
        assert self._total is not None
        return self._total - self._search.moved(self._frames[n], self.shifts[n])

    def _expected(self, n: int) -> tuple[float, float]:
        """Where frame n should be by those beside it: between two, or as the last ones go on."""
        known = self.shifts
        if 0 < n < len(known) - 1:
            pair = known[n - 1], known[n + 1]
            return (pair[0][0] + pair[1][0]) / 2.0, (pair[0][1] + pair[1][1]) / 2.0
        if n == 0:
            first, second = (known[1], known[2]) if len(known) > 2 else (known[1], known[1])
            return 2.0 * first[0] - second[0], 2.0 * first[1] - second[1]
        last = known[n - 1]
        back = min(n - 1, VELOCITY_FRAMES)
        if back == 0:
            return last
        before = known[n - 1 - back]
        return last[0] + (last[0] - before[0]) / back, last[1] + (last[1] - before[1]) / back


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


def _result(frames: Sequence[F32], shifts: F64, lines: F64, likeness: F64, used: Mask) -> Aligned:
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
        finest, places,
    )  # fmt: skip


def _covered(shown: Mask) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns (first, stop) that are shown, nearly all of each."""
    found = []
    for axis in (1, 0):
        inner = np.flatnonzero(shown.mean(axis=axis) > 0.5)
        found.append((int(inner[0]), int(inner[-1]) + 1) if len(inner) else (0, len(shown)))
    return found[0], found[1]
