"""Whole shifts of frames against the sum of the others, and which of them are more than chance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.engines.restoration.frames.path import freedom, smooth
from stemd.engines.restoration.frames.shift import C64, Search

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

SWEEPS = 2
"""Comparisons of each frame, as a whole, with the sum of all others."""
ALIKE_PX = 1.5
"""Frames so near to an even drift are found again from both alike."""
CHANGES_PX = (1.0, 0.3, 0.1, 0.02)
"""Changes of the drift from frame to frame that are tried."""
FREE = 12.0
"""What the shifts gain by chance for each number of them that is free: they are what is likeliest
of many."""
EVEN_FREE = 4.0
"""Numbers of an even drift, and as many for where it begins."""
ODD = 3.5
"""Deviations below the usual clearness at which a frame is not where the others lead it."""
NOTICED = 4.0
"""Usual clearness from which on frames are told from those that are elsewhere, by `ODD`."""
SHARP = 400.0
"""Information, 1 / px^2, from which on frames need no drift to be found."""
VELOCITY_FRAMES = 4
"""Over so many frames the drift is taken to be even."""


class Rigid:
    """Whole shifts of frames that come one after the other, against the sum of those before.

    `shifts` (y, x) of each in pixels, the first's 0.
    """

    def __init__(self, shape: tuple[int, int], reach_px: float | None = None) -> None:
        self.shifts: list[tuple[float, float]] = []
        self._search = Search(shape, reach_px or min(shape) / 8.0)
        self.by_chance = self._search.by_chance
        self._frames: list[C64] = []
        self._noise: list[float] = []
        self._total: C64 | None = None
        self._power: Any = 0.0
        self._together = 1

    def add(self, frame: F32) -> tuple[float, float]:
        """One more frame (ny, nx); returns its shift."""
        seen, noise = self._search.transformed(frame)
        shift = (0.0, 0.0)
        if self._total is not None:
            shown = self._search.shown(self._total, sum(self._noise), len(self._frames))
            shift = self._search.found(seen, noise, shown, self._expected(len(self._frames)))
        moved = self._search.moved(seen, shift)
        self._total = moved if self._total is None else self._total + moved
        self._power = self._power + (seen.real**2 + seen.imag**2)
        self._frames.append(seen)
        self._noise.append(noise)
        self.shifts.append(shift)
        return shift

    def settle(self) -> None:
        """Look for each frame again, in the sum of all others.

        From where they were found one after the other, and from an even drift: with few
        electrons the first frames show too little for the next one to be found in them. A drift is
        smooth as far as the frames do not say otherwise.
        """
        if len(self._frames) < 3:
            return
        v = self._search.velocity(self._frames, sum(self._noise))
        even = [(n * v[0], n * v[1]) for n in range(len(self.shifts))]
        apart = np.hypot(*(np.array(self.shifts) - even).T)
        starts = [self.shifts, even] if apart.max() > ALIKE_PX else [self.shifts]
        self._begin(even)
        count = len(even)
        found = [(self._likely() - FREE * EVEN_FREE, even, int(2.0 * count / EVEN_FREE))]
        for start in starts:
            self._begin(start)
            for _ in range(SWEEPS):
                self._sweep()
                found.append(self._smooth())
        _, shifts, self._together = max(found)
        self._begin(shifts)

    def _smooth(self) -> tuple[float, list[tuple[float, float]], int]:
        """Draw the shifts to a smooth drift, as smooth as the frames let it be.

        By likelihood less `FREE` for each number that the frames are left to say themselves.
        Returns this, the shifts, and how many frames have the numbers of one.
        """
        assert self._total is not None
        count, noise = len(self._frames), sum(self._noise)
        shown = self._search.shown(self._total, noise, count)
        information = self._search.sharpness(shown) * (count / noise)
        best = self._likely() - FREE * 2.0 * count, self.shifts, 1
        if not 0.0 < information.min() < SHARP:
            return best
        measured = np.array(self.shifts)
        for change in CHANGES_PX:
            path = smooth(measured, information, change)
            free = freedom(count, information, change)
            self._begin([(float(y), float(x)) for y, x in path - path[0]])
            best = max(best, (self._likely() - FREE * free, self.shifts, int(2.0 * count / free)))
        self._begin(best[1])
        return best

    def _likely(self) -> float:
        """Logarithm of likelihood of all shifts."""
        assert self._total is not None
        noise = sum(self._noise)
        shown = self._search.shown(self._total, noise, 1.0)
        return self._search.energy(shown, self._total) / noise

    def _shown_by_others(self, n: int) -> C64:
        noise = sum(self._noise) - self._noise[n]
        return self._search.shown(self._others(n), noise, len(self._frames) - 1)

    def _begin(self, shifts: list[tuple[float, float]]) -> None:
        self.shifts = list(shifts)
        self._total = np.zeros_like(self._frames[0])
        for frame, shift in zip(self._frames, shifts, strict=True):
            self._total += self._search.moved(frame, shift)

    def _sweep(self) -> None:
        for n, seen in enumerate(self._frames):
            shown = self._shown_by_others(n)
            others = self._others(n)
            self.shifts[n] = self._search.found(seen, self._noise[n], shown, self._expected(n))
            self._total = others + self._search.moved(seen, self.shifts[n])

    def clear(self) -> F64:
        """Deviations of noise by which each frame (n,) is alike to the sum of all others.

        Where it was found, over the noise of the frame alone. Of frames that show nothing the
        likeliest shifts have up to `by_chance`.
        """
        count = len(self._frames)
        if count < 2:
            return np.full(count, np.inf)
        noise = self._apart()
        return np.array([self._clear(n, noise) for n in range(count)])

    def _clear(self, n: int, noise: F32) -> float:
        moved = self._search.moved(self._frames[n], self.shifts[n])
        part = np.float32(self._noise[n] * len(self._noise) / sum(self._noise))
        return self._search.clear(moved, noise * part, self._shown_by_others(n))

    def _apart(self) -> F32:
        """Power of the noise by which frames differ."""
        assert self._total is not None
        count = len(self._frames)
        apart = self._power - (self._total.real**2 + self._total.imag**2) / np.float32(count)
        return self._search.noisy(
            apart / np.float32(count - 1), sum(self._noise) / count, count - 1
        )

    def known(self) -> Mask:
        """Which frames (n,) are where they were found by more than chance.

        Those that one smooth drift leads, as far as it has the numbers of one, all together; but
        not where each shows so little that one which is elsewhere would not be noticed.
        """
        clear, wide = self.clear(), self._together
        if len(clear) < 2:
            return np.ones(len(clear), np.bool_)
        usual = float(np.median(clear))
        if usual < NOTICED:
            wide = 1
        sums = np.concatenate([[0.0], np.cumsum(clear)])
        middle = np.arange(len(clear)) - (wide - 1) // 2
        first = np.clip(middle, 0, len(clear) - wide)
        together = (sums[first + wide] - sums[first]) / np.sqrt(wide)
        least = min(0.5 * usual, usual - ODD)
        return np.asarray((together > self.by_chance) & (clear > least), np.bool_)

    def is_clear(self) -> bool:
        """Whether the last frame is where it was found by more than chance."""
        return self._clear(len(self._frames) - 1, self._apart()) > self.by_chance

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
        self._power = self._power - np.square(np.abs(self._frames[-1]))
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
