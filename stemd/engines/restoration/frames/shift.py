"""How far a frame is from what it shows: whole, by what is likely, then line by line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stemd.engines.restoration.distortions import displace_lines
from stemd.engines.restoration.estimate.lines import displacements, noise_variance

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
C64 = NDArray[np.complex64]

COARSEST_PERIODS = 3.0
"""Changes over more than the frame by this number are no feature to be found again."""
FINEST = 0.25
"""Cycles a pixel: finer details are noise to a single frame."""
NEAR_PX = 1.0
TAIL = 3.0
"""How far a frame is from where the drift leads it: Student's t, with this width and tail."""
LAGS = 8
"""Frames that are at most so far apart are compared for an even drift."""
FASTEST_PX = 4.0
"""Even drift a frame beyond which frames must show enough to be found one by one."""
EDGE = 0.125
"""Part of a frame at each edge over which the window falls to 0."""
STEPS = 4
CONVERGED_PX = 1e-3


class Search:
    """Finds the shift of frames (ny, nx) against a reference, within `reach_px` of an expectation.

    In Fourier space, where noise that is white has one variance and a frame is moved by a factor:
    with T of a frame under a window, R of what there is to see without noise, and N the
    noise's power, the logarithm of the likelihood of a shift s is sum Re R T* exp(2 pi i f s) / N.
    A crystal is nearly the same a cell further; which cell it is the drift so far says, where the
    data do not. Cost: one transform of the frame, one of a quarter of its size.
    """

    def __init__(self, shape: tuple[int, int], reach_px: float) -> None:
        ny, nx = shape
        self._window = _flat(shape)
        self._pixels = ny * nx
        self._rows, self._columns = int(FINEST * ny), int(FINEST * nx)
        fy = np.fft.fftfreq(ny)[self._chosen_rows(ny)][:, None]
        fx = (np.arange(self._columns) / nx)[None]
        periods = np.hypot(fy * ny, fx * nx)
        self._gain = (1.0 - np.exp(-0.5 * (periods / COARSEST_PERIODS) ** 4)).astype(np.float32)
        self._twice = np.where(fx == 0.0, 1.0, 2.0).astype(np.float32)
        self._fy, self._fx = fy.astype(np.float32), fx.astype(np.float32)
        self._grid = (2 * self._rows, 2 * self._columns)
        self._pitch = ny / self._grid[0], nx / self._grid[1]
        y, x = (
            ((np.arange(n) + n // 2) % n - n // 2) * pitch
            for n, pitch in zip(self._grid, self._pitch, strict=True)
        )
        self._y, self._x = y[:, None], x[None]
        self._reach = reach_px

    def _chosen_rows(self, ny: int) -> NDArray[np.int64]:
        """Rows of a spectrum that are kept, the positive frequencies first."""
        rows = np.arange(2 * self._rows)
        return np.where(rows < self._rows, rows, ny - 2 * self._rows + rows)

    def transformed(self, frame: F32) -> tuple[C64, float]:
        """A frame's coarse half (2 rows, columns), and the power of its noise there."""
        centred = (frame - np.float32(frame.mean(dtype=np.float64))) * self._window
        whole = np.fft.rfft2(centred)
        quiet = whole[len(whole) // 4 : -(len(whole) // 4), self._columns :]
        # the finest quarter has noise alone, or nearly: the median of its powers
        power = float(np.median(quiet.real**2 + quiet.imag**2)) / np.log(2.0)
        part = whole[self._chosen_rows(len(frame)), : self._columns] * self._gain
        return np.asarray(part, np.complex64), max(power, 1e-30)

    def moved(self, frame: C64, shift: tuple[float, float]) -> C64:
        """What a frame shows at `shift` from the reference, where the reference has it."""
        y = np.exp(-2j * np.pi * self._fy * np.float32(shift[0])).astype(np.complex64)
        x = np.exp(-2j * np.pi * self._fx * np.float32(shift[1])).astype(np.complex64)
        return np.asarray(frame * y * x, np.complex64)

    @staticmethod
    def shown(total: C64, noise: float, count: float) -> C64:
        """What a sum of `count` frames shows of one, without the noise of this power in the sum."""
        power = np.maximum(total.real**2 + total.imag**2, np.float32(1e-30))
        kept = np.maximum(np.float32(1.0) - np.float32(noise) / power, np.float32(0.0))
        return np.asarray(total * (kept / np.float32(count)), np.complex64)

    def found(
        self, frame: C64, noise: float, reference: C64, expected: tuple[float, float]
    ) -> tuple[float, float]:
        """s such that frame[j, i] is reference(j + s.y, i + s.x), as likely as possible."""
        cross = reference * frame.conj()
        surface = np.fft.irfft2(
            np.concatenate([cross, np.zeros((len(cross), 1), np.complex64)], axis=1), self._grid
        )
        # sum over all frequencies of the frame, negative ones too, is that of its pixels
        likely = surface * (self._grid[0] * self._grid[1] / noise)
        apart = (self._y - expected[0]) ** 2 + (self._x - expected[1]) ** 2
        likely -= 0.5 * (TAIL + 2.0) * np.log1p(apart / (TAIL * NEAR_PX**2))
        likely[apart > self._reach**2] = -np.inf
        j, i = np.unravel_index(int(likely.argmax()), likely.shape)
        return self._between(cross, float(self._y[j, 0]), float(self._x[0, i]))

    def _between(self, cross: C64, y: float, x: float) -> tuple[float, float]:
        """The top of the correlation near (y, x), by steps of Newton."""
        start = y, x
        cross = cross * self._twice
        for _ in range(STEPS):
            turned = self.moved(cross, (-y, -x))
            rows, columns = turned.real.sum(axis=1), turned.real.sum(axis=0)
            fy, fx = self._fy[:, 0], self._fx[0]
            slope = np.array([fy @ turned.imag.sum(axis=1), fx @ turned.imag.sum(axis=0)])
            mixed = fy @ (turned.real @ fx)
            bend = np.array([[fy**2 @ rows, mixed], [mixed, fx**2 @ columns]])
            if bend[0, 0] <= 0.0 or np.linalg.det(bend) <= 1e-9 * np.trace(bend) ** 2:
                return start
            dy, dx = np.clip(np.linalg.solve(bend, -slope) / (2.0 * np.pi), -1.0, 1.0)
            y, x = y + float(dy), x + float(dx)
            if max(abs(dy), abs(dx)) < CONVERGED_PX:
                break
        return (y, x) if np.hypot(y - start[0], x - start[1]) <= 2.0 * max(self._pitch) else start

    def velocity(self, frames: Sequence[C64]) -> tuple[float, float]:
        """The even drift (y, x) in pixels a frame that makes all frames most alike.

        From the correlations of all pairs that are up to `LAGS` frames apart.
        """
        lags = min(LAGS, len(frames) - 1)
        v = np.arange(-FASTEST_PX, FASTEST_PX + 1e-9, 1.0 / LAGS)
        score = np.zeros((len(v), len(v)))
        for lag in range(1, lags + 1):
            cross = np.zeros_like(frames[0])
            for one, other in zip(frames[:-lag], frames[lag:], strict=True):
                cross += one * other.conj()
            y = np.exp(2j * np.pi * lag * v[:, None] * self._fy[:, 0])
            x = np.exp(2j * np.pi * lag * self._fx[0][:, None] * v)
            score += (y @ (cross * self._twice) @ x).real
        scale = 1.48 * float(np.median(np.abs(score - np.median(score)))) or 1.0
        clear = (score - np.median(score)) / scale
        apart = v[:, None] ** 2 + v[None] ** 2
        likely = clear * clear.max() - 0.5 * (TAIL + 2.0) * np.log1p(apart / (TAIL * NEAR_PX**2))
        j, i = np.unravel_index(int(likely.argmax()), likely.shape)
        return float(v[j]), float(v[i])

    def likeness(self, one: C64, other: C64) -> float:
        """Normalised correlation of two images that lie upon each other, -1 to 1."""
        energy = self.energy(one, one) * self.energy(other, other)
        return self.energy(one, other) / max(float(np.sqrt(energy)), 1e-30)

    def energy(self, one: C64, other: C64) -> float:
        """Scalar product: of a sum of frames with itself, how alike these are where they lie."""
        return float(((one * other.conj()).real * self._twice).sum(dtype=np.float64))


def _flat(shape: tuple[int, int]) -> F32:
    """A window (ny, nx) that falls to 0 at the edges only: what is left out tells nothing."""
    sides = []
    for n in shape:
        inwards = np.minimum(np.arange(n), n - 1 - np.arange(n)) + 0.5
        sides.append(np.sin(0.5 * np.pi * np.minimum(inwards / (EDGE * n), 1.0)) ** 2)
    window: F32 = (sides[0][:, None] * sides[1][None]).astype(np.float32)
    return window


def of_lines(frame: F32, shown: F32, shift: tuple[float, float]) -> F64:
    """Shifts (ny, 2) of each line of a frame that is shifted by `shift` as a whole.

    Where the lines do not say that they moved, all of them have the frame's shift.
    """
    ny = len(frame)
    whole = np.tile(np.array(shift), (ny, 1))
    seen = displace_lines(shown, whole[:, 0].copy(), whole[:, 1].copy(), cubic=True)
    found, _ = displacements(frame, seen, noise_variance(frame, seen), np.zeros((ny, 2)))
    return whole + found
