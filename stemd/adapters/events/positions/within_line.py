"""Hits that follow one another in one line: placed many at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.events.ticks import TICK_NS
from stemd.compilation import njit

TOGETHER = 64
"""Hits placed at a time; where not all of them are in the line they are placed one by one."""


@njit(nogil=True, cache=True)
def span(times: NDArray[np.int64], first: int, count: int) -> tuple[int, int]:
    """The earliest and the latest of some times."""
    earliest = latest = times[first]
    at = np.uintp(first)
    for k in range(np.uintp(count)):
        time = times[at + k]
        if time < earliest:
            earliest = time
        if time > latest:
            latest = time
    return earliest, latest


@njit(nogil=True, cache=True)
def from_left(s: Any, row: int) -> tuple[int, int]:
    """Position of the first column of a line in time, and the step from one to the next."""
    if s.serpentine and row & 1:
        return row * s.nx + s.nx - 1, -1
    return row * s.nx, 1


@njit(nogil=True, cache=True)
def place_within(
    times: NDArray[np.int64],
    places: NDArray[np.uint32],
    first: int,
    count: int,
    start: float,
    dwell: float,
    nx: int,
    base: int,
    sign: int,
    acceptance: float,
    probe: NDArray[np.int32],
    place_out: NDArray[np.uint32],
    phase_out: NDArray[np.float32],
    n: int,
) -> int:
    """Place hits first..first+count-1, all of a line that begins at `start`, see `assign`.

    Column c of the line is position base + sign * c. Returns the hits written; those that come
    `acceptance` ticks after the beam or later are not. About 1 ns a hit with 512-bit vectors.
    """
    at, to, last = np.uintp(first), np.uintp(n), np.float64(nx - 1)
    kept = 0
    for k in range(np.uintp(count)):
        offset = times[at + k] - start
        column = min(np.floor(offset / dwell), last)
        phase = offset - column * dwell
        probe[to + k] = np.int32(np.float64(base) + np.float64(sign) * column)
        place_out[to + k] = places[at + k]
        phase_out[to + k] = phase * TICK_NS
        kept += phase < acceptance
    if kept == count:
        return count
    kept = 0
    for k in range(count):
        offset = times[np.uintp(first + k)] - start
        phase = offset - min(np.floor(offset / dwell), last) * dwell
        of, after = np.uintp(n + k), np.uintp(n + kept)
        probe[after], place_out[after] = probe[of], place_out[of]
        phase_out[after] = phase_out[of]
        kept += phase < acceptance
    return kept
