"""The phase image of a scan that is still running: every line adds its part as it comes.

All of it is linear: what is added a line at a time, in parts, or anew with other kernels is the
same image.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stemd.engines.beside.positions_taken import PositionsTaken
from stemd.engines.direct.line_kernels import LineKernels
from stemd.engines.kernels.growing import add_lines, mix_cells
from stemd.engines.kernels.transforms import Columns

F32 = NDArray[np.float32]
Bools = NDArray[np.bool_]
Lines = NDArray[np.int64]

AT_ONCE = 8
"""Lines that are added in one go: each time all kernels are read."""
LATE_S = 0.05
"""How long positions of an unfinished line wait for the rest of it at most."""


class GrowingPhase:
    """An image float32 (ny, nx), kept transformed along x, by frequencies and lines.

    There it has as many lines more as kernels have rows, half of them before the first. One thread.
    """

    def __init__(self, kernels: LineKernels, shape: tuple[int, int]) -> None:
        self.kernels = kernels
        self._shape = shape
        frequencies, _, rows = kernels.real.shape
        self._real, self._imag = np.zeros((2, frequencies, shape[0] + rows), np.float32)
        self._columns = Columns.of(kernels.length)
        lanes = kernels.components // 2
        self._room = np.zeros(4 * AT_ONCE * lanes * kernels.length, np.float32)

    def add(self, lines: Lines, counts: Callable[[int], F32], chosen: Bools) -> None:
        """Add positions of some lines, (l,).

        `counts(line)` float32 (nx, kept cells); `chosen` (l, nx): which positions are added, the
        others count as mean ones.
        """
        kernels = self.kernels
        for first in range(0, lines.size, AT_ONCE):
            part = lines[first : first + AT_ONCE]
            each = kernels.components // 2
            size = 4 * kernels.length * part.size * each
            room = self._room[:size].reshape(4, kernels.length, part.size * each)
            real, imag = room[0], room[1]
            real[self._shape[1] :] = imag[self._shape[1] :] = 0.0
            for number, line in enumerate(part):
                mix_cells(
                    np.ascontiguousarray(counts(int(line))), kernels.columns,
                    chosen[first + number], kernels.weights, kernels.offset, real, imag,
                    number * each,
                )  # fmt: skip
            real, imag = self._columns.transformed(real, imag, room[2:])
            add_lines(real, imag, part, kernels.real, kernels.imag, self._real, self._imag)

    def image(self) -> F32:
        """The image as it is, in radian."""
        before = self.kernels.rows // 2
        lines = slice(before, before + self._shape[0])
        spectra = self._real[:, lines] + np.complex64(1j) * self._imag[:, lines]
        whole = np.fft.irfft(spectra, self.kernels.length, axis=0)
        return np.ascontiguousarray(whole[: self._shape[1]].T, np.float32)


class LinesToAdd:
    """Which positions of a scan are to be added next, and which were.

    `touch` may be called by another thread than the rest.
    """

    def __init__(self, seen: PositionsTaken, shape: tuple[int, int]) -> None:
        self.added: Bools = np.zeros(shape, np.bool_)
        self._taken = seen.taken.reshape(shape)
        self._left_out = seen.left_out.reshape(shape)
        self._nx = shape[1]
        self._touched: deque[tuple[int, int]] = deque()
        self._from: int | None = None
        self._newest = 0
        self._late_at = 0.0

    def touch(self, first: int, last: int) -> None:
        """Something of positions first..last (flat) has come."""
        self._touched.append((first // self._nx, last // self._nx))

    def take(self, now: float, least: int = 1) -> tuple[Lines, Bools]:
        """Lines (l,) of which positions are to be added now, and these positions, (l, nx).

        Nothing where there are less than `least` lines: many at once are quicker. A line that is
        not complete waits for its rest, but for no longer than LATE_S, and not once a later line
        has begun; `now` in seconds, of a clock that does not jump. What is given counts as added.
        """
        while self._touched:
            first, last = self._touched.popleft()
            self._from = first if self._from is None else min(self._from, first)
            self._newest = max(self._newest, last)
        if self._from is None:
            return np.zeros(0, np.int64), np.zeros((0, self._nx), np.bool_)
        stop = self._newest + 1
        outstanding = not (self._taken[self._newest] | self._left_out[self._newest]).all()
        if outstanding and now < self._late_at:
            stop -= 1
        if stop - self._from < least:
            return np.zeros(0, np.int64), np.zeros((0, self._nx), np.bool_)
        rows = slice(self._from, stop)
        new = self._taken[rows] & ~self._left_out[rows] & ~self.added[rows]
        used = np.flatnonzero(new.any(axis=1))
        self.added[rows] |= new
        if used.size:
            self._late_at = now + LATE_S
        self._from = self._newest if outstanding else None
        return used + rows.start, new[used]

    def everything(self) -> tuple[Lines, Bools]:
        """All that `take` has given so far, at once."""
        used = np.flatnonzero(self.added.any(axis=1))
        return used, self.added[used]
