"""How far a frame is from what it shows: whole, by correlation, then line by line."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit
from stemd.engines.restoration.distortions import displace_lines
from stemd.engines.restoration.estimate.lines import displacements, noise_variance
from stemd.engines.restoration.estimate.noise import taper

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

SMOOTH_PX = 1.5
"""Details below this are noise to a single frame."""
COARSEST_PERIODS = 3.0
"""Changes over more than the frame by this number are no feature to be found again."""
STEPS = 3
CONVERGED_PX = 1e-3


class Correlation:
    """Finds the shift of a frame against a reference, both (ny, nx).

    The peak of the cross-correlation of both under a Hann window, with details below
    `SMOOTH_PX` and slow changes taken out, within `reach_px` of where it is expected; between
    pixels by a parabola. Cost: two Fourier transforms a frame.
    """

    def __init__(self, shape: tuple[int, int], reach_px: float) -> None:
        ny, nx = shape
        self._window = taper(shape)
        fy, fx = np.fft.fftfreq(ny)[:, None], np.fft.rfftfreq(nx)[None]
        smooth = np.exp(-2.0 * (np.pi * SMOOTH_PX) ** 2 * (fy**2 + fx**2))
        periods = np.hypot(fy * ny, fx * nx)
        self._gain = (smooth * (1.0 - np.exp(-0.5 * (periods / COARSEST_PERIODS) ** 4))).astype(
            np.float32
        )
        self._shape = shape
        self._reach = reach_px
        y = (np.arange(ny) + ny // 2) % ny - ny // 2
        x = (np.arange(nx) + nx // 2) % nx - nx // 2
        self._y, self._x = y[:, None], x[None]

    def transformed(self, frame: F32) -> NDArray[np.complex64]:
        """What `found` compares."""
        centred = (frame - np.float32(frame.mean(dtype=np.float64))) * self._window
        return np.asarray(np.fft.rfft2(centred) * self._gain, np.complex64)

    def found(
        self,
        frame: NDArray[np.complex64],
        reference: NDArray[np.complex64],
        expected: tuple[float, float],
    ) -> tuple[float, float]:
        """s such that frame[j, i] is reference(j + s.y, i + s.x)."""
        surface = np.fft.irfft2(reference * frame.conj(), self._shape)
        near = np.hypot(self._y - expected[0], self._x - expected[1]) <= self._reach
        allowed = np.where(near, surface, -np.inf)
        j, i = (int(n) for n in np.unravel_index(int(allowed.argmax()), self._shape))
        peak = float(surface[j, i])
        at = []
        for axis, k, size in ((0, j, self._shape[0]), (1, i, self._shape[1])):
            line = surface[:, i] if axis == 0 else surface[j]
            low, high = float(line[(k - 1) % size]), float(line[(k + 1) % size])
            bend = low - 2.0 * peak + high
            part = float(np.clip(0.5 * (low - high) / bend, -1.0, 1.0)) if bend < 0.0 else 0.0
            at.append((k + part + size / 2) % size - size / 2)
        return at[0], at[1]

    def likeness(self, one: NDArray[np.complex64], other: NDArray[np.complex64]) -> float:
        """Normalised correlation of two images that lie upon each other, -1 to 1."""
        energy = self._energy(one, one) * self._energy(other, other)
        return self._energy(one, other) / max(float(np.sqrt(energy)), 1e-30)

    def _energy(self, one: NDArray[np.complex64], other: NDArray[np.complex64]) -> float:
        """Scalar product of the pixels: all columns but the first and the last stand for two."""
        square = (one * other.conj()).real.astype(np.float64)
        total = 2.0 * float(square.sum()) - float(square[:, 0].sum())
        if self._shape[1] % 2 == 0:
            total -= float(square[:, -1].sum())
        return total / (self._shape[0] * self._shape[1])


def refined(frame: F32, shown: F32, start: tuple[float, float]) -> tuple[float, float]:
    """The shift of a whole frame to a hundredth of a pixel, by steps of Gauss and Newton.

    `shown` (ny, nx) is what there is to see without noise.
    """
    ny = len(frame)
    slope_y, slope_x = (np.ascontiguousarray(part) for part in np.gradient(shown))
    y, x = start
    for _ in range(STEPS):
        sy, sx = np.full(ny, y), np.full(ny, x)
        seen, gy, gx = (
            displace_lines(part, sy, sx, cubic=True) for part in (shown, slope_y, slope_x)
        )
        margin = int(np.ceil(max(abs(y), abs(x)))) + 2
        inner = np.s_[margin:-margin, margin:-margin]
        if min(frame[inner].shape) < 8:
            return start
        rest = (frame - seen)[inner]
        gy, gx = gy[inner], gx[inner]
        normal = np.array([[(gy * gy).sum(), (gy * gx).sum()], [(gy * gx).sum(), (gx * gx).sum()]])
        if np.linalg.det(normal) <= 1e-9 * max(float(np.trace(normal)) ** 2, 1e-30):
            return start
        dy, dx = np.linalg.solve(normal, [(rest * gy).sum(), (rest * gx).sum()])
        y, x = y + float(np.clip(dy, -1.0, 1.0)), x + float(np.clip(dx, -1.0, 1.0))
        if max(abs(dy), abs(dx)) < CONVERGED_PX:
            break
    if np.hypot(y - start[0], x - start[1]) > 2.0:
        return start
    return y, x


def of_lines(frame: F32, shown: F32, shift: tuple[float, float]) -> F64:
    """Shifts (ny, 2) of each line of a frame that is shifted by `shift` as a whole.

    Where the lines do not say that they moved, all of them have the frame's shift.
    """
    ny = len(frame)
    whole = np.tile(np.array(shift), (ny, 1))
    seen = displace_lines(shown, whole[:, 0].copy(), whole[:, 1].copy(), cubic=True)
    found, _ = displacements(frame, seen, noise_variance(frame, seen), np.zeros((ny, 2)))
    return whole + found


def add(frame: F32, shifts: F64, total: F64, weight: F64) -> None:
    """Add a frame (ny, nx) to `total` where its lines really were, and its weights to `weight`.

    Each pixel goes to the four around (j + shifts[j, 0], i + shifts[j, 1]) by bilinear weights;
    what lies outside is lost. Sums of counts stay sums of counts.
    """
    _add(frame, shifts, total, weight)


@njit(nogil=True, cache=True)
def _add(frame: F32, shifts: F64, total: F64, weight: F64) -> None:
    ny, nx = frame.shape
    for j in range(ny):
        y = j + shifts[j, 0]
        y0 = int(np.floor(y))
        ty = y - y0
        whole = int(np.floor(shifts[j, 1]))
        tx = shifts[j, 1] - whole
        for dy in range(2):
            row = y0 + dy
            if row < 0 or row >= ny:
                continue
            wy = ty if dy else 1.0 - ty
            for i in range(max(0, -whole), min(nx, nx - whole)):
                w = wy * (1.0 - tx)
                total[row, i + whole] += w * frame[j, i]
                weight[row, i + whole] += w
            for i in range(max(0, -whole - 1), min(nx, nx - whole - 1)):
                w = wy * tx
                total[row, i + whole + 1] += w * frame[j, i]
                weight[row, i + whole + 1] += w
