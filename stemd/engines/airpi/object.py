"""The object of a scan put together from what a network makes of its patterns, line by line.

Knows no thread, network library or setting: patterns go in, features come out, what the network
makes of them goes in, an object comes out.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, Optics
from stemd.blocks import Block, EventBlock, FrameBlock
from stemd.engines.airpi.bright import Evidence
from stemd.engines.airpi.dark_field import power_density
from stemd.engines.airpi.features import (
    GRID,
    SAMPLES,
    WINDOW,
    field_angstrom,
    fill_features,
    inputs,
    scalars,
)
from stemd.engines.airpi.finishing import Averaged, Images, finished
from stemd.engines.airpi.geometry import ObjectGeometry, seen
from stemd.engines.airpi.neighbourhoods import Neighbourhood
from stemd.engines.airpi.patch_offsets import centred
from stemd.engines.airpi.scan_lines import TOO_LATE, ScanLines
from stemd.engines.airpi.slopes import Slopes
from stemd.engines.airpi.stitching import Stitcher
from stemd.engines.diffraction_grid import grid_table
from stemd.engines.kernels.grid import SHARES, bin_hits
from stemd.engines.probe import probe
from stemd.pixels import Mask

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
C64 = NDArray[np.complex64]

Begin = Callable[[F32], Callable[[], C64]]
"""Has a batch of features worked on; what it returns waits for T, (n, WINDOW, WINDOW)."""


class ExitWaveObject:
    """Bins patterns, keeps a few lines of them, and stitches what the network makes of them.

    `held`, `grows`, `begins` as for ScanLines. `add` may be called by one thread, `make` by
    another; `snapshot` by any. Memory is allocated here.
    """

    def __init__(
        self,
        acquisition: Acquisition,
        optics: Optics,
        geometry: ObjectGeometry,
        neighbourhood: Neighbourhood,
        *,
        batch: int,
        held: int,
        grows: bool,
        begins: bool,
    ) -> None:
        ny, nx = acquisition.scan.shape
        self.geometry, self.neighbourhood = geometry, neighbourhood
        self.counts: Counter[str] = Counter()
        """Groups made, and positions left out or late."""
        self.lock = threading.Lock()
        """For the books of `lines`."""
        self.unfitted = False
        """Whether the image shown last is not as exact as the counts allow."""
        self.lines = ScanLines((ny, nx), GRID.members.size, held, grows=grows, begins=begins)
        wave = probe(geometry.beam, SAMPLES, field_angstrom(geometry.beam))
        self.stitcher = Stitcher(wave, WINDOW, geometry.shape((ny, nx)), geometry.oversample)
        kept = slice(self.stitcher.first, self.stitcher.first + WINDOW)
        self._intensity: F32 = (np.abs(wave[kept, kept]) ** 2).astype(np.float32)
        self._stitching = threading.Lock()
        self._detector = acquisition.detector.shape
        self._disc = GRID.disc()
        self._batch = batch
        self._features = np.zeros((2, batch, inputs()), np.float32)
        self._patterns = np.zeros((0, GRID.members.size), np.float32)
        self.turn(optics)

    def turn(
        self,
        optics: Optics,
        center: tuple[float, float] | None = None,
        masked: Mask | None = None,
    ) -> None:
        """Rotation, flip and centre of what is added from now on, and pixels that do not count."""
        if center is not None:
            self.geometry = replace(self.geometry, center=center)
        of = self.geometry
        table = grid_table(
            GRID, self._detector, of.center, of.pixels_per_angle, optics.rotation_deg, optics.flip,
            masked, fill=True,
        )  # fmt: skip
        self.reach, known = seen(table)
        told = scalars(of.beam, of.step_size_angstrom, self.reach)
        self._table, self._known, self._told = table, known, told

    def add(self, block: Block, acceptance_ns: float, after_line: Callable[[], object]) -> None:
        """Bin a block, a line at a time. What has no room or comes too late is counted."""
        if isinstance(block, EventBlock):
            parts = self._event_lines(block)
        else:
            parts = self._frame_lines(block)
        reach = self.neighbourhood.reach
        for line, fill, done in parts:
            with self.lock:
                slot = self.lines.open(line, reach)
            if slot >= 0:
                fill(slot, acceptance_ns)
                self.lines.done[slot, done] = True
            else:
                self.counts["late" if slot == TOO_LATE else "left_out"] += len(done)
            if len(done):
                with self.lock:
                    self.lines.touch(line)
                after_line()

    def _frame_lines(self, block: FrameBlock) -> Iterator[tuple[int, Any, NDArray[np.int64]]]:
        nx = self.lines.shape[1]
        used = np.flatnonzero(block.probe[: block.count] >= 0)
        lines, columns = np.divmod(block.probe[used], nx)
        edges = np.flatnonzero(np.diff(lines)) + 1
        for begin, end in zip([0, *edges], [*edges, used.size], strict=True):
            if begin == end:
                continue
            frames, places = used[begin:end], columns[begin:end]

            def fill(
                slot: int, acceptance_ns: float, frames: Any = frames, places: Any = places
            ) -> None:
                out = self.lines.counts.reshape(-1, GRID.members.size)
                self.counts["saturated"] += self._table.add_frames(
                    block, frames, out, places + slot * nx
                )

            yield int(lines[begin]), fill, places

    def _event_lines(self, block: EventBlock) -> Iterator[tuple[int, Any, NDArray[np.int64]]]:
        nx = self.lines.shape[1]
        n = block.count
        probe_line = block.probe[:n] // nx  # -1 where there is no position
        order = np.argsort(probe_line, kind="stable")
        in_order = bool(n == 0 or (probe_line[1:] >= probe_line[:-1]).all())
        hits = [
            a[:n] if in_order else a[:n][order] for a in (block.probe, block.yx, block.dwell_ns)
        ]
        lines = np.unique(probe_line[probe_line >= 0]).tolist()
        over = [line for a, b in block.complete for line in range(a // nx, (b - 1) // nx + 1)]
        sorted_lines = probe_line[order]
        for line in sorted({*lines, *over}):
            first, last = np.searchsorted(sorted_lines, [line, line + 1])

            def fill(
                slot: int, acceptance_ns: float, line: int = line, first: int = first,
                last: int = last,
            ) -> None:  # fmt: skip
                table = self._table
                probe, yx, dwell_ns = (part[first:last] for part in hits)
                bin_hits(
                    probe, yx, dwell_ns, last - first, acceptance_ns,
                    self._detector[1], line * nx, table.first, table.target, table.share,
                    self.lines.counts[slot],
                )  # fmt: skip

            runs = [
                np.arange(max(a, line * nx), min(b, (line + 1) * nx)) - line * nx
                for a, b in block.complete
                if a < (line + 1) * nx and b > line * nx
            ]
            yield line, fill, np.concatenate([np.zeros(0, np.int64), *runs])

    def waiting(self) -> int | None:
        """A line that can be made, if there is one."""
        with self.lock:
            return self.lines.waiting(self.neighbourhood.reach)

    @property
    def backlog(self) -> int:
        """Lines that could be made now, but for the next."""
        with self.lock:
            ready = self.lines.ready(self.neighbourhood.reach)
            first = self.lines.waiting(self.neighbourhood.reach)
            return 0 if first is None else ready.stop - first - 1

    def make(self, line: int, begin: Begin) -> None:
        """Run the network on a line, add the result to the object. Raises what `begin` raises."""
        chosen = self.neighbourhood
        if chosen.makes(line):
            of = self.geometry
            if self._patterns.shape[0] < chosen.most_patterns:
                self._patterns = np.zeros((chosen.most_patterns, GRID.members.size), np.float32)
            scale = 1.0 / (SHARES * of.counts_per_electron)
            groups, kept = chosen.patterns(self.lines, line, scale, self._patterns)
            column = chosen.columns[kept] + chosen.shift
            step = of.step_size_angstrom / of.pixel_angstrom
            place = np.stack([np.full(column.size, line + chosen.shift), column], axis=1)
            self._stitch(groups, place * step + of.origin, begin)
            self.counts["groups"] += kept.size
        with self.lock:
            self.lines.made[line] = True
            self.lines.let_go(chosen.reach)

    def _stitch(self, groups: Any, places: NDArray[np.float64], begin: Begin) -> None:
        """All batches of a line; the next one's features are made while the network works."""
        waits: tuple[Callable[[], C64], NDArray[np.float64]] | None = None
        parts = np.array_split(np.arange(len(groups)), -(-len(groups) // self._batch) or 1)
        for number, part in enumerate(parts):
            if not part.size:
                continue
            features = self._features[number % 2, : part.size]
            fill_features(
                self._patterns, groups[part], self._disc, self._known, self._told, features
            )
            after = begin(features), places[part]
            if waits is not None:
                self._place(*waits)
            waits = after
        if waits is not None:
            self._place(*waits)

    def _place(self, wait: Callable[[], C64], places: NDArray[np.float64]) -> None:
        patches: C64 = np.multiply(
            centred(wait(), self._intensity), self._intensity, dtype=np.complex64
        )
        with self._stitching:
            self.stitcher.add(patches, places)

    def images(
        self,
        least_transfer: float,
        slopes: Slopes | None = None,
        evidence: Sequence[Evidence] = (),
    ) -> Images:
        """Phase, weight and uncertainty of the lines that are made. See `finishing.finished`."""
        with self._stitching:
            thing, weight = self.stitcher.object(), self.stitcher.weight
        averaged = Averaged(self.stitcher.probe_intensity, self.stitcher.patch_weight)
        made = finished(
            np.angle(thing).astype(np.float32), weight, np.flatnonzero(self.lines.made),
            self.geometry, self.lines.shape[1], averaged, least_transfer, slopes, evidence,
        )  # fmt: skip
        self.unfitted = made.fitted == 0.0
        return made

    def power_density(self) -> F64 | None:
        """The specimen's power by the dark field of all patterns: see `dark_field`."""
        with self.lock:
            summed = self.lines.summed()
        return power_density(summed / SHARES, self._known)

    def merge(self, other: ExitWaveObject) -> None:
        """Add another object's part of the same scan, a later one; lines between are made later."""
        late = self.lines.merge(other.lines, self.neighbourhood.reach)
        self.stitcher.merge([other.stitcher])
        self.counts.update(other.counts)
        self.counts["late"] += late

    def gathered(self) -> Mapping[str, NDArray[Any]]:
        """Lines, sums and counts, as arrays of numbers."""
        kinds = ("groups", "left_out", "late", "saturated")
        counts = np.array([self.counts[kind] for kind in kinds], np.int64)
        return {**self.lines.gathered(), **self.stitcher.gathered(), "counts": counts}

    def restore(self, gathered: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `gathered` of an object of the same geometry has given."""
        self.lines.restore(gathered, self.neighbourhood.reach)
        self.stitcher.restore(gathered)
        kinds = ("groups", "left_out", "late", "saturated")
        self.counts.update(dict(zip(kinds, gathered["counts"].tolist(), strict=True)))
