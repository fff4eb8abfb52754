"""How far the specimen has moved from one scan to the next, from their centre-of-mass fields."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.engines.vectors import resolve_centre, shifts
from stemd.scan.run import ScanRun

F64 = NDArray[np.float64]

LEAST_SIDE = 16
MOST_POSITIONS = 1 << 21
"""Of a scan that is kept for the next one."""
CLEAR = 8.0
"""Robust deviations by which the correlation's peak stands out from the rest of it."""
ALONE = 1.2
"""Times the next peak: a crystal looks the same when moved by a cell, and then nothing is said."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is kept of a scan: its centre-of-mass field (2, ny, nx), step in nm and time in s."""

    field: F64
    step_nm: float
    time_s: float

    @classmethod
    def of(cls, run: ScanRun) -> Seen | None:
        """None where the scan has no step, is not whole, or too large to be kept."""
        step = run.acquisition.scan.step_size_angstrom
        whole = run.status == "complete" and run.maps.total.size <= MOST_POSITIONS
        if step is None or not whole or min(run.maps.shape) < LEAST_SIDE:
            return None
        center = resolve_centre(run.maps, run.settings.optics, run.acquisition.detector.shape)
        field = np.stack([part.reshape(run.maps.shape) for part in shifts(run.maps, center)])
        return cls(field, step / 10, run.acquisition.started_ns / 1e9)


def drift_between(
    before: Seen | None, now: Seen | None
) -> tuple[tuple[float, float], float] | None:
    """Drift (y, x) in nm/s and its standard error; None where the two do not tell.

    From the peak of the cross-correlation of both fields, each under a window that falls to 0 at
    the edges; between positions by the parabola through the peak and its neighbours.
    """
    if before is None or now is None or before.field.shape != now.field.shape:
        return None
    seconds = now.time_s - before.time_s
    if seconds <= 0.0 or before.step_nm != now.step_nm:
        return None
    ny, nx = now.field.shape[1:]
    window = np.outer(np.hanning(ny), np.hanning(nx))
    one, two = (
        np.fft.rfft2((each - each.mean(axis=(1, 2), keepdims=True)) * window)
        for each in (before.field, now.field)
    )
    surface = np.fft.irfft2((two * one.conj()).sum(axis=0), (ny, nx))
    j, i = (int(n) for n in np.unravel_index(int(surface.argmax()), surface.shape))
    peak = float(surface[j, i])
    scale = 1.48 * float(np.median(np.abs(surface - np.median(surface))))
    if not _stands_alone(surface, (j, i), peak, scale):
        return None
    moved = []
    for axis, at, size in ((0, j, ny), (1, i, nx)):
        line = surface[:, i] if axis == 0 else surface[j]
        low, high = float(line[(at - 1) % size]), float(line[(at + 1) % size])
        bend = low - 2 * peak + high
        part = at + (0.5 * (low - high) / bend if bend < 0.0 else 0.0)
        moved.append((part + size / 2) % size - size / 2)
    unit = now.step_nm / seconds
    return (moved[0] * unit, moved[1] * unit), max(0.1, scale / max(peak, 1e-30)) * unit


def _stands_alone(surface: F64, at: tuple[int, int], peak: float, scale: float) -> bool:
    """Whether the peak is clear, and no other one is as high."""
    if not peak > CLEAR * scale:
        return False
    ny, nx = surface.shape
    y = (np.arange(ny) - at[0] + ny // 2) % ny - ny // 2
    x = (np.arange(nx) - at[1] + nx // 2) % nx - nx // 2
    around = np.hypot(y[:, None], x[None, :]) < math.sqrt(ny * nx) / 16 + 2
    return peak > ALONE * float(surface[~around].max(initial=0.0))
