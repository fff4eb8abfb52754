"""The reduction: what the reader thread does with a block while it is still in cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, Optics
from stemd.blocks import Block, EventBlock, FrameBlock, aligned
from stemd.engines.base import PositionMaps, Positions
from stemd.engines.kernels.annuli import annuli
from stemd.engines.kernels.events import accumulate, membership
from stemd.engines.kernels.masked import (
    FEW,
    bits_of,
    leave_out_few_hits,
    leave_out_hits,
    places_of,
)
from stemd.engines.kernels.moments import reduce_frames
from stemd.engines.kernels.nearness import NEAREST, nearness_once, reads_in_order
from stemd.engines.kernels.tiles import PatternPlan, plan_of
from stemd.engines.kernels.vectors import scratch_bytes, sums_count
from stemd.engines.narrow_sums import add_sums
from stemd.pixels import Mask

CENTRE_FRAMES = 64
"""Patterns after which an automatic centre of the virtual detectors is fixed."""

CENTRE_HITS = (256, 65536)
"""Electron hits after which it is found, and found again for good, where there are no frames."""


def position_runs(probe: NDArray[np.int64]) -> list[Positions]:
    """Runs (first, stop) of consecutive positions among probe numbers, -1 being none."""
    if not probe.size:
        return []
    steps = probe[1:] - probe[:-1]
    if probe[0] >= 0 and (steps == 1).all():
        return [(int(probe[0]), int(probe[-1]) + 1)]
    positions = np.unique(probe[probe >= 0])
    if positions.size == 0:
        return []
    breaks = np.flatnonzero(np.diff(positions) != 1)
    firsts = positions[np.concatenate(([0], breaks + 1))]
    lasts = positions[np.concatenate((breaks, [positions.size - 1]))]
    return [(int(first), int(last) + 1) for first, last in zip(firsts, lasts, strict=True)]


def _unmasked(
    shape: tuple[int, int],
    centre: tuple[float, float],
    detectors_px: Mapping[str, Sequence[float]],
    masked: Mask | None,
) -> list[Mask]:
    """The detectors without what is masked."""
    masks = annuli(shape, centre, detectors_px)
    return list(masks) if masked is None else [mask & ~masked for mask in masks]


@lru_cache(maxsize=4)
def _plan_for(
    shape: tuple[int, int],
    dtype: str,
    big_endian: bool,
    masked: bytes | None,
    centre: tuple[float, float],
    radii: tuple[float, ...],
    in_order: bool,
    once: bool,
) -> PatternPlan:
    """The plan for discs of these radii. The parts of a scan share it, and scans that are alike."""
    mask = None if masked is None else np.frombuffer(masked, np.bool_).reshape(shape)
    discs = _unmasked(shape, centre, {str(radius): (0.0, radius) for radius in radii}, mask)
    return plan_of(shape, dtype, mask, discs, big_endian=big_endian, in_order=in_order, once=once)


class Reducer:
    """Adds blocks of patterns to the integer maps: sum, moments, all virtual detectors at once.

    `detectors` is {name: (inner, outer)} in mrad or, in `detectors_px`, in detector pixels.
    Their centre is `optics.center`; with "auto" the COM of the first pattern with counts, and
    from the 65th pattern of the scan on the mean COM of the first 64: the same for any split
    into blocks, live or from a file. The pixels of `maps.masked` count nowhere. One reducer belongs
    to one thread; several with the same maps may reduce disjoint positions at the same time.
    """

    def __init__(
        self,
        acquisition: Acquisition,
        optics: Optics,
        maps: PositionMaps,
        detectors_px: Mapping[str, Sequence[float]],
        centre: tuple[float, float] | None = None,
    ) -> None:
        self._shape = acquisition.detector.shape
        self._middle = ((self._shape[0] - 1) / 2, (self._shape[1] - 1) / 2)
        self._maps = maps
        self._detectors_px = dict(detectors_px)
        self._fixed = centre is not None or optics.center != "auto" or not detectors_px
        self._hits = 0
        self._hit_sums = np.zeros(2, np.int64)
        self._acceptance_ns = optics.acceptance_time_ns or 0.0
        self._seen: list[tuple[float, float]] = []
        if centre is None and optics.center != "auto":
            centre = optics.center
        self.centre: tuple[float, float] | None = centre
        self.mask(maps.masked)

    def mask(self, masked: Mask | None) -> None:
        """Leave these detector pixels (y, x) out of all that is reduced from now on."""
        self._maps.masked = masked
        self._few = self._bits = None
        if masked is not None and np.count_nonzero(masked) <= FEW:
            self._few = places_of(masked)
        elif masked is not None:
            self._bits = bits_of(masked)
        self._set_centre(self.centre)

    def _masks(self) -> list[Mask]:
        centre = self.centre or self._middle
        return _unmasked(self._shape, centre, self._detectors_px, self._maps.masked)

    def _set_centre(self, centre: tuple[float, float] | None) -> None:
        self.centre = centre
        self._plans: dict[tuple[str, bool, bool], PatternPlan] = {}
        self._lookup: NDArray[np.uint32] | None = None

    @property
    def centre_fixed(self) -> bool:
        """Whether the virtual detectors' centre will not move any more by itself."""
        return self._fixed

    def update(self, optics: Optics, detectors_px: Mapping[str, Sequence[float]]) -> None:
        """New centre, acceptance time or virtual detectors from the next block on."""
        self._acceptance_ns = optics.acceptance_time_ns or 0.0
        self._detectors_px = dict(detectors_px)
        if tuple(detectors_px) != self._maps.detector_names:
            self._maps.rename_detectors(tuple(detectors_px))
        if optics.center != "auto":
            self._fixed = True
            self._set_centre(optics.center)
        else:
            self._set_centre(self.centre)

    def reduce(self, block: Block) -> list[Positions]:
        """Add a block to the maps; returns the runs of positions that are now done."""
        if isinstance(block, EventBlock):
            runs = self._reduce_events(block)
        else:
            runs = self._reduce_frames(block)
        for first, stop in runs:
            self._maps.done[first:stop] = True
        return runs

    def reduce_apart(self, block: FrameBlock) -> NDArray[np.int64]:
        """Add a block to the maps once the centre is fixed; returns the positions that are done."""
        self._run(block, 0, block.count)
        probe = block.probe[: block.count]
        complete = probe[probe >= 0]
        self._maps.done[complete] = True
        return complete

    def _reduce_frames(self, block: FrameBlock) -> list[Positions]:
        start = 0
        while not self._fixed and start < block.count:
            self._find_centre(block, start)
            start += 1
        if start < block.count:
            self._run(block, start, block.count)
        return position_runs(block.probe[: block.count])

    def _reduce_events(self, block: EventBlock) -> list[Positions]:
        if self._few is not None:
            leave_out_few_hits(block.probe, block.yx, block.count, self._few)
        elif self._bits is not None:
            leave_out_hits(block.probe, block.yx, block.count, self._shape[1], self._bits)
        start = 0
        while not self._fixed and start < block.count:
            start = self._find_event_centre(block, start)
        if start < block.count:
            self._add_hits(block, start, block.count)
        return list(block.complete)

    def _add_hits(self, block: EventBlock, start: int, stop: int) -> None:
        if self._lookup is None:
            self._lookup = membership(self._masks(), self._shape)
        maps = self._maps
        with maps.changing:
            maps.wide()  # hits are added one by one: none of them may be one too many
        accumulate(
            block.probe[start:stop],
            block.yx[start:stop],
            block.dwell_ns[start:stop],
            stop - start,
            self._acceptance_ns,
            self._lookup,
            maps.total,
            maps.moment_y,
            maps.moment_x,
            maps.detector_sums,
        )

    def _find_event_centre(self, block: EventBlock, start: int) -> int:
        """Reduce hits up to the next stage of the centre; stages do not depend on the blocks."""
        stage = next(limit for limit in CENTRE_HITS if self._hits < limit)
        used = np.flatnonzero(block.probe[start : block.count] >= 0)[: stage - self._hits]
        stop = block.count
        if self._hits + used.size == stage:
            stop = start + int(used[-1]) + 1
        self._add_hits(block, start, stop)
        places = block.yx[start:stop][used].astype(np.int64)
        self._hits += places.size
        self._hit_sums += (int((places >> 16).sum()), int((places & 0xFFFF).sum()))
        if self._hits == stage:
            mean = self._hit_sums / self._hits
            self._set_centre((float(mean[0]), float(mean[1])))
            self._fixed = stage == CENTRE_HITS[-1]
        return stop

    def _find_centre(self, block: FrameBlock, index: int) -> None:
        position = int(block.probe[index])
        if position < 0:
            return
        maps = self._maps
        if self.centre is None:
            self._probe_centre(block, index)
        self._run(block, index, index + 1)
        total = int(maps.total[position])
        if total:
            self._seen.append(
                (int(maps.moment_y[position]) / total, int(maps.moment_x[position]) / total)
            )
        if len(self._seen) >= CENTRE_FRAMES:
            mean_y = sum(y for y, _ in self._seen) / len(self._seen)
            mean_x = sum(x for _, x in self._seen) / len(self._seen)
            self._set_centre((mean_y, mean_x))
            self._fixed = True

    def _probe_centre(self, block: FrameBlock, index: int) -> None:
        pattern = block.patterns()[index].astype(np.int64)
        if self._maps.masked is not None:
            pattern[self._maps.masked] = 0
        total = int(pattern.sum())
        if total:
            height, width = self._shape
            self._set_centre(
                (
                    float((pattern.sum(1) * np.arange(height)).sum() / total),
                    float((pattern.sum(0) * np.arange(width)).sum() / total),
                )
            )

    def _run(self, block: FrameBlock, start: int, stop: int) -> None:
        maps = self._maps
        probe, narrow = block.probe[start:stop], maps.narrow
        to = (maps.total, maps.moment_y, maps.moment_x, maps.detector_sums)
        at = probe
        if narrow:
            sums = np.zeros((3 + len(maps.detector_names), stop - start), np.int64)
            to, at = (*sums[:3], sums[3:]), np.where(probe < 0, -1, np.arange(stop - start))
        received = block.buffer is not None
        kind = block.dtype, block.big_endian, received
        plan = self._plans.get(kind)
        if plan is None:
            plan = self._plans[kind] = self._plan(*kind)
        reduce_frames(
            block.pixels,
            NEAREST if received else nearness_once(),
            block.big_endian,
            block.pixel_offset + start * block.stride,
            block.stride,
            stop - start,
            self._shape[0],
            self._shape[1],
            at,
            self._discs,
            *to,
            self._scratch,
            self._sums,
            *plan,
        )
        if narrow:
            add_sums(maps, probe, sums)

    def _plan(self, dtype: str, big_endian: bool, received: bool) -> PatternPlan:
        """The plan for the discs that the virtual detectors are made of, none of them twice."""
        radii = self._detectors_px.values()
        edges = sorted({radius for pair in radii for radius in pair if radius > 0.0})
        numbers = {radius: number for number, radius in enumerate(edges)}
        pairs = [[numbers.get(radius, len(edges)) for radius in pair[::-1]] for pair in radii]
        self._discs = np.array(pairs, np.int64).reshape(-1, 2)
        self._scratch = aligned(scratch_bytes(len(edges)))
        self._sums = np.zeros(sums_count(len(edges)), np.int64)
        masked = None if self._maps.masked is None else self._maps.masked.tobytes()
        centre = self.centre or self._middle
        return _plan_for(
            self._shape, dtype, big_endian, masked, centre, tuple(edges), reads_in_order(),
            not received,
        )  # fmt: skip
