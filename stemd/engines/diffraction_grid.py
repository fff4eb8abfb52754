"""Patterns on a small grid in units of the convergence semi-angle, turned into scan axes.

On such a grid the undiffracted disc is equally large for all cameras, energies and apertures, so
that one network, or one table of overlaps, serves them all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Optics
from stemd.blocks import FrameBlock
from stemd.engines.kernels.grid import bin_runs, grid_entries
from stemd.engines.kernels.runs import LANES
from stemd.engines.whole_counts import whole_counts
from stemd.errors import StemdError
from stemd.pixels import Mask

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
MOST_LOST = 0.5
"""Part of a grid pixel that may be masked, the rest of it standing for the whole."""
_LIKE = {name: np.empty(0, name) for name in ("u1", "u2", "u4", "u8")}


@dataclass(frozen=True, slots=True)
class DiffractionGrid:
    """Square pixels within a circle of `half` + 0.5 pixels about zero scattering angle.

    `per_angle`: pixels a convergence semi-angle. Pixel (y, x) of the square of 2 `half` + 1
    pixels is at the scattering vector ((y - half), (x - half)) / per_angle semi-angles.
    """

    half: int
    per_angle: float

    @property
    def side(self) -> int:
        """Pixels across the square that holds the circle."""
        return 2 * self.half + 1

    @property
    def members(self) -> NDArray[np.int64]:
        """Flat indices into the square of the pixels of the circle, ascending, (n,)."""
        y, x = np.indices((self.side, self.side)) - self.half
        return np.flatnonzero(np.hypot(y, x) <= self.half + 0.5)

    @property
    def vectors(self) -> NDArray[np.float64]:
        """Scattering vectors (n, 2), y and x in semi-angles, of the pixels of the circle."""
        y, x = np.divmod(self.members, self.side)
        return np.asarray(np.stack([y - self.half, x - self.half], axis=1) / self.per_angle)

    def disc(self) -> F32:
        """Share of the electrons of an empty specimen in each pixel of the circle, sum 1.

        The part of the pixel's area that is inside the aperture, thesis eq. 4.2 with A = 1
        inside the semi-angle.
        """
        fine = 16
        part = ((np.arange(fine) + 0.5) / fine - 0.5) / self.per_angle
        points = self.vectors[:, None, None, :] + np.stack(np.meshgrid(part, part), axis=-1)
        inside = (np.hypot(points[..., 0], points[..., 1]) <= 1.0).mean(axis=(1, 2))
        return np.asarray(inside / inside.sum(), np.float32)


@dataclass(frozen=True, slots=True)
class GridTable:
    """Where each detector pixel goes: entry e adds `share[e]` / SHARES of detector pixel
    `source[e]` (flat) to grid pixel `target[e]` (index among the circle's pixels).

    `first` (height * width + 1,): entries of pixel p are first[p]..first[p+1]-1, for hits.
    `coverage` (n,): which part of a grid pixel's area lies on the detector, 0 to 1; `lost` (n,):
    which part of that is of pixels that do not count. The same
    again for whole patterns: grid pixel k takes the runs `runs[k]`..`runs[k+1]`-1, run r being
    `shares[r]` (16,) of the detector pixels from `starts[r]` on.
    """

    source: I32
    target: I32
    share: I32
    first: I32
    coverage: F32
    lost: F32
    runs: I32
    starts: I32
    shares: NDArray[np.uint8]

    def add_frames(
        self, block: FrameBlock, frames: NDArray[np.int64], out: I32, places: NDArray[np.int64]
    ) -> int:
        """Write the block's patterns number `frames` to out[places], (m, n), in SHARES of a count.

        Returns how many sums were too large for 32 bits and were cut off.
        """
        block = whole_counts(block)
        size = (self.first.size - 1) * int(block.dtype[1])
        return int(bin_runs(
            block.pixels, _LIKE[block.dtype], block.big_endian, block.pixel_offset, block.stride,
            size, frames, self.runs, self.starts, self.shares, out, places,
        ))  # fmt: skip


def beam_angles(optics: Optics) -> tuple[float, float]:
    """(convergence semi-angle, detector pixel) in mrad. Raises StemdError if one is missing."""
    alpha, pixel = optics.convergence_semi_angle_mrad, optics.pixel_size_mrad
    for key, value in (("convergence_semi_angle_mrad", alpha), ("pixel_size_mrad", pixel)):
        if value is None:
            raise StemdError(
                f"optics.{key} is not set, and without it there is no phase",
                f"set optics.{key}",
            )
    assert alpha is not None
    assert pixel is not None
    return alpha, pixel


def grid_table(
    grid: DiffractionGrid,
    shape: tuple[int, int],
    center: tuple[float, float],
    pixels_per_angle: float,
    rotation_deg: float = 0.0,
    flip: bool = False,
    masked: Mask | None = None,
    *,
    fill: bool = False,
) -> GridTable:
    """The table for a detector of `shape` whose zero angle is at `center` (y, x) in pixels.

    `pixels_per_angle`: detector pixels a convergence semi-angle. `flip` transposes, then
    `rotation_deg` turns detector axes into scan axes, as docs/conventions.md has it. A detector
    pixel is shared out by area: points instead of areas made some grid pixels larger than others
    by a tenth where they are not much larger than the detector's. `masked` (height, width): pixels
    that do not count. With `fill` the others of a grid pixel stand for them, as long as they are
    at least half of it; so its counts are those of its whole area.
    """
    height, width = shape
    place = np.full(grid.side**2, -1, np.int64)
    place[grid.members] = np.arange(grid.members.size)
    turn = math.radians(rotation_deg)
    scale = grid.per_angle / pixels_per_angle
    geometry = (
        height, width, float(center[0]), float(center[1]), flip, math.cos(turn), math.sin(turn),
        scale, grid.half, place,
    )  # fmt: skip
    entries = np.empty((2 * height * width, 3), np.int32)
    found = grid_entries(*geometry, entries)
    if found > entries.shape[0]:  # grid pixels that are smaller than the detector's
        entries = np.empty((found, 3), np.int32)
        grid_entries(*geometry, entries)
    source, goal, share = (np.ascontiguousarray(part) for part in entries[:found].T)
    lost = np.zeros(grid.members.size, np.float32)
    if masked is not None:
        source, goal, share, lost = _without(masked, source, goal, share, lost.size, fill=fill)
    return GridTable(
        source,
        goal,
        share,
        np.searchsorted(source, np.arange(height * width + 1)).astype(np.int32),
        _coverage(grid, shape, center, turn, flip, scale),
        lost,
        *_runs(source, goal, share, shape, grid.members.size),
    )


def _without(
    masked: Mask, source: I32, goal: I32, share: I32, count: int, *, fill: bool
) -> tuple[I32, I32, I32, F32]:
    """The entries of pixels that count, and which part of each of `count` grid pixels is lost."""
    kept = ~masked.ravel()[source]
    whole = np.bincount(goal, share, count)
    lost = 1.0 - np.bincount(goal[kept], share[kept], count) / np.maximum(whole, 1.0)
    lost[whole == 0] = 0.0
    source, goal, share = source[kept], goal[kept], share[kept]
    if fill:
        more = np.where(lost <= MOST_LOST, 1.0 / np.maximum(1.0 - lost, MOST_LOST), 1.0)
        share = np.rint(share * more[goal]).astype(np.int32)
    return source, goal, share, lost.astype(np.float32)


def _coverage(
    grid: DiffractionGrid,
    shape: tuple[int, int],
    center: tuple[float, float],
    turn: float,
    flip: bool,
    scale: float,
) -> F32:
    """Which part of each grid pixel lies on the detector, (n,), by 8 x 8 points of it."""
    part = ((np.arange(8) + 0.5) / 8 - 0.5) / grid.per_angle
    points = grid.vectors[:, None, None, :] + np.stack(np.meshgrid(part, part), axis=-1)
    row, column = (points[..., axis] * grid.per_angle / scale for axis in (0, 1))
    y = row * math.cos(turn) + column * math.sin(turn)
    x = -row * math.sin(turn) + column * math.cos(turn)
    if flip:
        y, x = x, y
    inside = np.ones(y.shape, np.bool_)
    for place, middle, size in ((y, center[0], shape[0]), (x, center[1], shape[1])):
        inside &= (place + middle >= -0.5) & (place + middle <= size - 0.5)
    return np.asarray(inside.mean(axis=(1, 2)), np.float32)


def _runs(
    source: I32, target: I32, share: I32, shape: tuple[int, int], count: int
) -> tuple[I32, I32, NDArray[np.uint8]]:
    """The entries of each of `count` grid pixels as runs of LANES detector pixels."""
    order = np.argsort(target, kind="stable")
    source, target, share = source[order], target[order], share[order]
    row, column = np.divmod(source, shape[1])
    new = np.ones(source.size, np.bool_)
    new[1:] = (target[1:] != target[:-1]) | (row[1:] != row[:-1])
    begins = np.flatnonzero(new)
    segment = np.cumsum(new) - 1
    chunk = (column - column[begins][segment]) // LANES
    new[1:] |= chunk[1:] != chunk[:-1]
    begins = np.flatnonzero(new)
    run = np.cumsum(new) - 1
    # the last runs begin earlier, so as not to read behind the pattern
    starts = np.minimum(source[begins], max(0, shape[0] * shape[1] - LANES))
    shares = np.zeros((begins.size, LANES), np.uint8)
    shares[run, source - starts[run]] = share
    edges = np.searchsorted(target[begins], np.arange(count + 1))
    return edges.astype(np.int32), starts.astype(np.int32), shares
