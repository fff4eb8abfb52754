"""Peaks of a power spectrum that stand out of noise and surroundings, and which are new."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

CERTAIN = 11.0
"""Power of a peak over the noise's mean from which on it is a wave: one in 60,000 by chance."""
LOWEST = 2.6
"""Periods in the image below which a wave is not told from the background."""
RING = 1.0
"""A peak stands `CERTAIN` times this above the mean of its surroundings, too: lines that are
displaced, and edges, smear power over many frequencies."""
RANGE = 0.003
"""Peaks below this part of a round's highest wait for the next: its side lobes are as high."""


def peaks(power: F32, noise: F64, most: int) -> F64:
    """Frequencies (n, 2) of the `most` strongest peaks, between the grid's points by parabolas.

    `power` (ny, nx // 2 + 1) of an even nx, `noise` (nx // 2 + 1,) its mean where there is
    nothing else.
    """
    if most < 1:
        return np.empty((0, 2))
    found = np.empty((power.size // 4 + power.shape[0], 3))
    found = found[: _find_peaks(power, noise, CERTAIN, LOWEST, found)]
    if not len(found):
        return np.empty((0, 2))
    found = found[found[:, 2] > RANGE * found[:, 2].max()]
    order = np.argsort(-found[:, 2], kind="stable")[:most]
    return np.ascontiguousarray(found[order, :2])


def new(found: F64, known: F64, shape: tuple[int, int], apart: float = 0.7) -> F64:
    """Those `found` (n, 2) that are `apart` bins from every `known` frequency and its mirror."""
    near = np.zeros(len(found), np.bool_)
    _mark_near(found, known, shape, apart, near)
    return found[~near]


def lone(frequency: F64, shape: tuple[int, int], apart: float) -> Mask:
    """Which of the frequencies (n, 2) have no earlier one within `apart` bins: (n,)."""
    found = np.ones(len(frequency), np.bool_)
    _mark_lone(frequency, shape, apart, found)
    return found


@njit(nogil=True, cache=True)
def _find_peaks(power: F32, noise: F64, least: float, lowest: float, out: F64) -> int:
    """Local maxima `least` times above noise and half the mean of their surroundings (13 x 13
    without the middle 5 x 5), as (fy, fx, power); one of each pair of mirrored ones.
    """
    ny, half = power.shape
    nx = 2 * (half - 1)
    count = 0
    for j in range(ny):
        if 2 * j == ny:
            continue
        fy = j if 2 * j < ny else j - ny
        for i in range(half - 1):
            p = power[j, i]
            if p <= least * noise[i] or (i == 0 and fy <= 0) or fy * fy + i * i < lowest**2:
                continue
            if not _highest(power, j, i) or count >= out.shape[0]:
                continue
            ring = 0.0
            for dj in range(-6, 7):
                for di in range(-6, 7):
                    if abs(dj) > 2 or abs(di) > 2:
                        ring += _at(power, j + dj, i + di)
            if p <= least * RING * ring / 144.0:
                continue
            c = np.log(p + 1e-30)
            up, down = power[(j - 1) % ny, i], power[(j + 1) % ny, i]
            left, right = _at(power, j, i - 1), power[j, i + 1]
            out[count, 0] = (fy + _vertex(np.log(up + 1e-30), c, np.log(down + 1e-30))) / ny
            out[count, 1] = (i + _vertex(np.log(left + 1e-30), c, np.log(right + 1e-30))) / nx
            out[count, 2] = p
            count += 1
    return count


@njit(nogil=True, cache=True)
def _at(power: F32, j: int, i: int) -> float:
    """Power at any bin, from the half that is kept."""
    ny, half = power.shape
    j %= ny
    if i < 0:
        j, i = (ny - j) % ny, -i
    if i >= half:
        j, i = (ny - j) % ny, 2 * (half - 1) - i
    return float(power[j, i])


@njit(nogil=True, cache=True)
def _highest(power: F32, j: int, i: int) -> bool:
    p = power[j, i]
    for dj in range(-1, 2):
        for di in range(-1, 2):
            if _at(power, j + dj, i + di) > p:
                return False
    return True


@njit(nogil=True, cache=True)
def _vertex(a: float, b: float, c: float) -> float:
    bend = a - 2.0 * b + c
    if bend > -1e-9:
        return 0.0
    return min(0.6, max(-0.6, 0.5 * (a - c) / bend))


@njit(nogil=True, cache=True)
def _mark_near(found: F64, known: F64, shape: tuple[int, int], apart: float, near: Mask) -> None:
    """near[n]: found[n] is within `apart` bins of a known frequency or its mirror image."""
    for n in range(found.shape[0]):
        for m in range(known.shape[0]):
            for sign in (1.0, -1.0):
                y = (found[n, 0] - sign * known[m, 0]) * shape[0]
                x = (found[n, 1] - sign * known[m, 1]) * shape[1]
                if y * y + x * x <= apart * apart:
                    near[n] = True


@njit(nogil=True, cache=True)
def _mark_lone(frequency: F64, shape: tuple[int, int], apart: float, found: Mask) -> None:
    for n in range(frequency.shape[0]):
        for m in range(n):
            y = (frequency[n, 0] - frequency[m, 0]) * shape[0]
            x = (frequency[n, 1] - frequency[m, 1]) * shape[1]
            if y * y + x * x < apart * apart:
                found[n] = False
                break
