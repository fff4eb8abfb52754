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
OUTSTANDING = 8.5
"""Times the usual power of its ring at which a coefficient is a crystal's: noise, and a texture,
have one in exp(8.5) = 5,000."""
RING_PERIODS = 2.0
"""Width of a ring of spatial frequencies, in periods of the frame."""
DOUBT = 1.0
"""Deviations of a ring's usual power that may be chance, and are no signal."""
MARGIN = 0.7
"""Deviations beyond what chance reaches on average."""
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
        self._ring = (periods / RING_PERIODS).astype(np.int32).ravel()
        size = np.bincount(self._ring)
        self._size = np.maximum(size, 1)
        logarithm = 2.0 * np.log(np.maximum(self._gain.ravel(), 1e-12))
        self._gains = np.bincount(self._ring, logarithm) / self._size
        self._grid = (2 * self._rows, 2 * self._columns)
        self._pitch = ny / self._grid[0], nx / self._grid[1]
        y, x = (
            ((np.arange(n) + n // 2) % n - n // 2) * pitch
            for n, pitch in zip(self._grid, self._pitch, strict=True)
        )
        self._y, self._x = y[:, None], x[None]
        self._reach = reach_px
        places = max(np.pi * reach_px**2 / (self._pitch[0] * self._pitch[1]), 2.0)
        self.by_chance = 2.0 * float(np.sqrt(np.log(places))) + MARGIN
        """Deviations that frames without anything to see reach, see `clear`.

        One of so many places reaches sqrt(2 ln) of them; where all frames are moved to be alike,
        sqrt(2) times that.
        """

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

    def shown(self, total: C64, noise: float, count: float) -> C64:
        """What a sum of `count` frames shows of one, without the noise of this power in the sum."""
        power = total.real**2 + total.imag**2
        kept = self._kept(power, noise, OUTSTANDING)
        return np.asarray(total * (kept / np.float32(count)), np.complex64)

    def _kept(self, power: F32, noise: float, outstanding: float, count: int = 1) -> F32:
        """Part of each coefficient that is signal by these powers, sums of `count`, of such noise.

        A texture's coefficients are as likely at one place of a ring as at another: they have the
        ring's part, and those that stand out, of a crystal, their own. Taken each by itself, those
        in which noise is high by chance would be taken for signal, and hide where the frame is.
        """
        level = self.levels(power, noise, count)
        chance = np.exp(DOUBT * np.sqrt(_variance(count) / self._size))
        signal = np.maximum(level - chance, 0.0)
        usual = (signal / np.maximum(level, 1e-30)).astype(np.float32)
        each = power / (np.float32(noise) * np.square(self._gain) + np.float32(1e-30))
        own = np.float32(1.0) - np.float32(1.0) / np.maximum(each, np.float32(1.0))
        high = (np.float32(outstanding) * np.maximum(level, 1.0)).astype(np.float32)
        ring = self._ring
        kept = np.where(each > high[ring].reshape(each.shape), own, usual[ring].reshape(each.shape))
        return np.asarray(kept, np.float32)

    def levels(self, power: F32, noise: float, count: int = 1) -> F64:
        """Usual power of each ring's coefficients over that of the noise, `noise` of it.

        By the mean of logarithms, which a crystal's few high ones hardly change. `power`: sums of
        `count` such powers, each exponentially distributed.
        """
        logarithm = np.log(np.maximum(power, np.float32(1e-30))).ravel()
        mean = np.bincount(self._ring, logarithm) / self._size - self._gains
        # the mean of the logarithm of noise alone is less than that of its mean: digamma function
        less = 1.0 / (2.0 * count) + 1.0 / (12.0 * count**2)
        level: F64 = np.exp(mean + less - np.log(noise))
        return level

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

    def sharpness(self, shown: C64) -> F64:
        """What is `shown` of a frame says of its shift along y and x, times the noise: (2,)."""
        power = (shown.real**2 + shown.imag**2) * self._twice
        y, x = self._fy[:, 0] ** 2 @ power.sum(axis=1), self._fx[0] ** 2 @ power.sum(axis=0)
        return np.array([y, x], np.float64) * (4.0 * np.pi**2)

    def clear(self, frame: C64, noise: F32, shown: C64) -> float:
        """Deviations by which a frame, moved to where it belongs, has what is `shown` of it.

        `noise`: the power of the frame's noise in each coefficient.
        """
        power = (shown.real**2 + shown.imag**2) * self._twice
        square = float((power * noise).sum(dtype=np.float64))
        return self.energy(frame, shown) / max(float(np.sqrt(square)), 1e-30)

    def noisy(self, apart: F32, noise: float, count: int) -> F32:
        """Power of the noise in each coefficient, of mean squares `apart` of `count` frames.

        At least that of white noise. Other noise, of a slow detector or of an image that was
        filtered, must not be taken for something that frames show.
        """
        white = np.float32(noise) * np.square(self._gain)
        ring = self.levels(apart, noise, count).astype(np.float32)[self._ring]
        least = white * np.maximum(ring, np.float32(1.0)).reshape(white.shape)
        return np.asarray(np.maximum(apart, least), np.float32)

    def velocity(self, frames: Sequence[C64], noise: float) -> tuple[float, float]:
        """The even drift (y, x) in pixels a frame that makes all frames most alike.

        From the correlations of all pairs that are up to `LAGS` frames apart. `noise`: that of all.
        """
        power = np.zeros(frames[0].shape, np.float32)
        for frame in frames:
            power += frame.real**2 + frame.imag**2
        weight = self._kept(power, noise, 1.0 + OUTSTANDING / np.sqrt(len(frames)), len(frames))
        weight = weight * self._twice
        lags = min(LAGS, len(frames) - 1)
        v = np.arange(-FASTEST_PX, FASTEST_PX + 1e-9, 1.0 / LAGS)
        score = np.zeros((len(v), len(v)))
        for lag in range(1, lags + 1):
            cross = np.zeros_like(frames[0])
            for one, other in zip(frames[:-lag], frames[lag:], strict=True):
                cross += one * other.conj()
            y = np.exp(2j * np.pi * lag * v[:, None] * self._fy[:, 0])
            x = np.exp(2j * np.pi * lag * self._fx[0][:, None] * v)
            score += (y @ (cross * weight) @ x).real
        scale = 1.48 * float(np.median(np.abs(score - np.median(score)))) or 1.0
        clear = (score - np.median(score)) / scale
        apart = v[:, None] ** 2 + v[None] ** 2
        likely = clear * clear.max() - 0.5 * (TAIL + 2.0) * np.log1p(apart / (TAIL * NEAR_PX**2))
        j, i = np.unravel_index(int(likely.argmax()), likely.shape)
        step = 1.0 / LAGS
        return float(v[j]) + step * _top(score[:, i], int(j)), float(v[i]) + step * _top(
            score[j], int(i)
        )

    def likeness(self, one: C64, other: C64) -> float:
        """Normalised correlation of two images that lie upon each other, -1 to 1."""
        energy = self.energy(one, one) * self.energy(other, other)
        return self.energy(one, other) / max(float(np.sqrt(energy)), 1e-30)

    def energy(self, one: C64, other: C64) -> float:
        """Scalar product: of a sum of frames with itself, how alike these are where they lie."""
        return float(((one * other.conj()).real * self._twice).sum(dtype=np.float64))


def _variance(count: int) -> float:
    """Of the logarithm of a sum of `count` exponentially distributed powers: trigamma function."""
    return 1.0 / count + 1.0 / (2.0 * count**2) + 1.0 / (6.0 * count**3)


def _top(values: F64, at: int) -> float:
    """How far beside the highest value the top of a parabola through it and its neighbours is."""
    if not 0 < at < len(values) - 1:
        return 0.0
    before, here, after = values[at - 1 : at + 2]
    bend = before - 2.0 * here + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend < 0.0 else 0.0


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
