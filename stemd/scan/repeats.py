"""A place that is scanned several times: its frames added up where they belong.

The reader's maps hold all frames, one behind the other, as they came. The engines have maps of the
one place, the sum of the frames so far. What moved between the frames is measured, whole and line
by line, in the image in which two frames are most alike; a position goes whole to the nearest
place. While the scan runs each frame is compared with the sum of those before; at its end all are
compared with the sum of all, so that finished images do not depend on when anything came.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition
from stemd.blocks import Block, EventBlock, FrameBlock, Notice
from stemd.engines.base import PositionMaps, Positions
from stemd.engines.restoration.frames.aligned import SMALLEST_PX, Aligned, align
from stemd.engines.restoration.frames.places import Places, places_of
from stemd.engines.restoration.frames.so_far import SoFar
from stemd.pixels import Mask
from stemd.scan.frame_images import best_image, frame_image
from stemd.scan.frames_told import frames_told

WHOLE = 0.9
"""Part of a frame's positions without which it is not added."""


class Repeats:
    """The frames of one scan with `repeats`. `take` and `settle` are called by one thread.

    `place`: the acquisition of one frame, `recorded`: the maps of all, which the reader fills;
    `maps`: those of the place, which the engines have.
    """

    def __init__(self, acquisition: Acquisition, recorded: PositionMaps) -> None:
        scan = acquisition.scan
        self.place = replace(acquisition, scan=scan.once)
        self.recorded = recorded
        self.maps = PositionMaps(self.place, recorded.detector_names)
        self.settled = False
        """Whether the maps are those of all frames."""
        self._repeats, self._size = scan.repeats, scan.shape[0] * scan.shape[1]
        self._reached = 0
        self._so_far: SoFar | None = None
        self._looked_at = 0
        self._image: str | None = None
        self._left_out: list[int] = []
        self._places: Places | None = None
        self._found: Aligned | None = None
        self._first: PositionMaps | None = None

    @property
    def positions(self) -> int:
        """Of the place."""
        return self._size

    @property
    def of(self) -> int:
        """Frames that the scan has."""
        return self._repeats

    @property
    def added(self) -> int:
        """Frames that have been added up."""
        return self.maps.frames or 0

    def first(self) -> PositionMaps:
        """The maps of the first frame alone, for engines that are given no more."""
        if self._first is None:
            recorded, one = self.recorded, slice(0, self._size)
            maps = PositionMaps(self.place, recorded.detector_names)
            maps.total, maps.done = recorded.total[one], recorded.done[one]
            maps.moment_y, maps.moment_x = recorded.moment_y[one], recorded.moment_x[one]
            maps.masked = recorded.masked
            self._first = maps
        return self._first

    def mask(self, masked: Mask | None) -> None:
        """It is known now which detector pixels count nowhere."""
        self.maps.masked = masked
        if self._first is not None:
            self._first.masked = masked

    def take(self, complete: list[Positions]) -> list[Positions]:
        """Positions of all frames are complete; returns those of the place that are new.

        These are the first frame's. When a later frame is over the maps change as a whole.
        """
        new = []
        for first, stop in complete:
            self._reached = max(self._reached, stop)
            if self._looked_at == 0 and first < self._size:
                new.append((first, min(stop, self._size)))
                self._copy(first, min(stop, self._size))
        while (self._looked_at + 1) * self._size <= self._reached < self._repeats * self._size:
            self._look_at(self._looked_at)
        return new

    def settle(self) -> Iterator[Notice]:
        """All frames have come: add them up where the sum of all says that they belong."""
        if self.settled:
            return
        self.settled = True
        whole = [n for n in range(self._repeats) if self._is_whole(n)]
        there = [n for n in range(self._repeats) if self.recorded.done[self._part(n)].any()]
        added = whole or there[:1]
        self._left_out = [n for n in there if n not in added]
        if len(whole) < 2 or min(self.maps.shape) < SMALLEST_PX:
            self._add_unmoved(added)
            if len(whole) > 1:
                yield Notice(
                    "frames_unmoved",
                    f"frames of less than {SMALLEST_PX} lines or columns show too little to be "
                    "moved: they are added as they came",
                )
        else:
            self._image = best_image(self.recorded, self.maps.shape, whole)
            found = align(
                [frame_image(self.recorded, self.maps.shape, n, self._image) for n in whole]
            )
            self._found = found
            self._left_out += [n for n, fits in zip(whole, found.used, strict=True) if not fits]
            if not found.moved:
                yield Notice(
                    "frames_unmoved",
                    "the frames show too little to tell how they have moved: they are added as "
                    "they came, and the sum is not aligned",
                )
            if found.kinds is not None:
                yield _two_kinds([int(n) for n in np.array(whole)[found.kinds.second]])
            lines = np.zeros((self._repeats, self.maps.shape[0], 2))
            used = np.zeros(self._repeats, np.bool_)
            lines[whole], used[whole] = found.lines, found.used
            self._places = places_of(lines, used, self.maps.shape[1], self.recorded.done)
            self._add_up(self._places)
        for n in sorted(self._left_out):
            yield Notice(
                "frame_left_out",
                f"frame {n} (from 0) of {self._repeats} is not in the sum: "
                + (
                    "it does not fit the others, or shows too little to be placed"
                    if n in whole
                    else "positions of it are missing"
                ),
                level="info" if n == there[-1] and n not in whole else "warning",
            )

    # what pattern engines are given

    def of_any(self, block: Block) -> Block:
        """A block with the positions of whatever frame as those of the place."""
        probe = block.probe.copy()
        probe[probe >= 0] %= self._size
        return self._with(block, probe, 0, self._repeats)

    def of_first(self, block: Block) -> Block | None:
        """A block with the positions of the first frame alone; None where it has none."""
        probe = block.probe[: block.count]
        inside = (probe >= 0) & (probe < self._size)
        ends = isinstance(block, EventBlock) and any(a < self._size for a, _ in block.complete)
        if not inside.any() and not ends:
            return None
        if inside.all() and not isinstance(block, EventBlock):
            return block
        only = block.probe.copy()
        only[only >= self._size] = -1
        return self._with(block, only, 0, 1)

    def placed(self, block: FrameBlock | EventBlock) -> Iterator[Block]:
        """A block with its positions where they belong, after `settle`."""
        assert self._places is not None
        if isinstance(block, EventBlock):
            over = self._places.runs(block.complete)
            for probe in self._moved(block):
                yield replace(block, acquisition=self.place, probe=probe, complete=over)
                over = []
            if over:
                yield replace(block, acquisition=self.place, count=0, complete=over)
            return
        for probe in self._moved(block):
            yield replace(block, acquisition=self.place, probe=probe)

    def _moved(self, block: FrameBlock | EventBlock) -> Iterator[NDArray[Any]]:
        """Places of a block's positions, for some of them once more."""
        probe = block.probe[: block.count]
        there = probe >= 0
        if not there.any():
            return
        low, high = int(probe[there].min()), int(probe[there].max()) + 1
        assert self._places is not None
        for places in self._places.of(low, high):
            yield np.where(there, places[np.where(there, probe - low, 0)], -1).astype(probe.dtype)

    def _with(self, block: Block, probe: NDArray[Any], first: int, stop: int) -> Block:
        if not isinstance(block, EventBlock):
            assert isinstance(block, FrameBlock)
            return replace(block, acquisition=self.place, probe=probe)
        size = self._size
        complete = [
            (max(a - n * size, 0), min(b - n * size, size))
            for a, b in block.complete
            for n in range(max(first, a // size), min(stop, -(-b // size)))
        ]
        return replace(block, acquisition=self.place, probe=probe, complete=complete)

    # what is told

    def about(self) -> dict[str, Any]:
        """What stands in the description of each image."""
        scan = self.place.scan
        about: dict[str, Any] = {"frames": self.added, "of": self._repeats}
        if self._left_out:
            about["left_out"] = sorted(self._left_out)
        if self._image is not None:
            about["aligned_by"] = self._image
        shown: Aligned | SoFar | None = self._found if self.settled else self._so_far
        if shown is None:
            return about
        return about | frames_told(shown, scan) | self._dose()

    def _dose(self) -> dict[str, float]:
        step, maps = self.place.scan.step_size_angstrom, self.maps
        done = int(np.count_nonzero(maps.done))
        if step is None or not done:
            return {}
        total = float(maps.evened(maps.total)[maps.done].sum(dtype=np.float64))
        dose = total * self.place.detector.scale / (done * step**2)
        return {"dose_e_per_square_angstrom": round(dose, 3)}

    @property
    def first_only(self) -> dict[str, Any]:
        """As `about`, of images of the first frame alone."""
        return {"frames": 1, "of": self._repeats}

    def shifts(self) -> list[list[float]] | None:
        """Of each frame that was compared, (y, x) in positions, once `settle` has found them."""
        if self._found is None:
            return None
        return [[round(float(v), 3) for v in shift] for shift in self._found.shifts]

    # within

    def _part(self, frame: int) -> slice:
        return slice(frame * self._size, (frame + 1) * self._size)

    def _is_whole(self, frame: int) -> bool:
        return int(np.count_nonzero(self.recorded.done[self._part(frame)])) >= WHOLE * self._size

    def _copy(self, first: int, stop: int) -> None:
        recorded, maps, part = self.recorded, self.maps, slice(first, stop)
        if maps.detector_names != recorded.detector_names:
            maps.rename_detectors(recorded.detector_names)
        maps.total[part] = recorded.total[part]
        maps.moment_y[part], maps.moment_x[part] = recorded.moment_y[part], recorded.moment_x[part]
        maps.detector_sums[:, part] = recorded.detector_sums[:, part]
        maps.done[part] = recorded.done[part]

    def _look_at(self, frame: int) -> None:
        """Frame number `frame` is over, others follow: add it where it belongs."""
        self._looked_at = frame + 1
        shape = self.maps.shape
        if min(shape) < SMALLEST_PX or not self._is_whole(frame):
            return
        if self._so_far is None:
            self._so_far = SoFar(shape)
            self._first_whole = frame
        elif self._image is None:
            pair = [self._first_whole, frame]
            self._image = best_image(self.recorded, shape, pair)
            self._so_far.add(frame_image(self.recorded, shape, pair[0], self._image), pair[0])
        if self._image is None:
            self.maps.frames = 1
            return
        self._so_far.add(frame_image(self.recorded, shape, frame, self._image), frame)
        self._left_out = [n for n in range(frame + 1) if n not in self._so_far.numbers]
        self._add_up(self._so_far.places(self._repeats, self.recorded.done))

    def _add_unmoved(self, frames: list[int]) -> None:
        ny, nx = self.maps.shape
        used = np.zeros(self._repeats, np.bool_)
        used[frames] = True
        self._places = places_of(np.zeros((self._repeats, ny, 2)), used, nx, self.recorded.done)
        self._add_up(self._places)

    def _add_up(self, places: Places) -> None:
        """The maps anew: exact sums of whole positions."""
        recorded, maps = self.recorded, self.maps
        if maps.detector_names != recorded.detector_names:
            maps.rename_detectors(recorded.detector_names)
        pairs = [(recorded.total, maps.total), (recorded.moment_y, maps.moment_y)]
        pairs += [(recorded.moment_x, maps.moment_x)]
        pairs += list(zip(recorded.detector_sums, maps.detector_sums, strict=True))
        frames = len(places.first) // self._size
        for values, sums in pairs:
            sums[:] = 0
            for n in range(frames):
                places.add_to(sums, values[self._part(n)], n)
        maps.done[:] = places.counts > 0
        maps.counts, maps.frames = places.counts, places.frames


def _two_kinds(frames: list[int]) -> Notice:
    listed = ", ".join(map(str, frames[:20])) + (", ..." if len(frames) > 20 else "")
    return Notice(
        "frames_of_two_kinds",
        f"frames {listed} (from 0) show something else than the others do: the sum is of both",
        remedy="did the place or the specimen change? Make the images of each part by itself",
    )
