"""The bright-field disc of every pattern of a scan, kept as small integers.

What is kept is whole counts on a `lattice` of the detector's pixels, so parts of a scan add up
exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stemd.blocks import Block, EventBlock, FrameBlock
from stemd.engines.base import Gathered
from stemd.engines.bright_field.lattice import Lattice, shared_cells
from stemd.engines.bright_field.squares import Squares
from stemd.engines.diffraction_grid import MOST_LOST, GridTable, grid_table
from stemd.engines.kernels.side_bands import keep_binned, keep_hits
from stemd.errors import StemdError
from stemd.pixels import Mask

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Counts = NDArray[np.unsignedinteger]

CHUNK_BYTES = 1 << 20
WIDER = {1: np.uint16, 2: np.uint32}
SHARE_BITS = 6
"""A binned count is 64 shares (diffraction_grid.SHARES)."""


class BrightField:
    """What is kept of a scan's patterns: counts by position and cell.

    Positions lie in chunks, made when first written to, each of the smallest of uint8, uint16
    and uint32 that holds its counts. `most_bytes` bounds them all: beyond it StemdError is
    raised. `masked()`: pixels (y, x) that do not count, asked for with the first block. One thread
    writes; another may read what is complete.
    """

    def __init__(
        self,
        lattice: Lattice,
        shape: tuple[int, int],
        positions: int,
        most_bytes: int,
        masked: Callable[[], Mask | None] = lambda: None,
    ) -> None:
        self.lattice = lattice
        self._masked = masked
        self._made_table: GridTable | None = None
        self._made_squares: Squares | Literal[False] | None = None
        self._shape, self._positions, self._most = shape, positions, most_bytes
        self._cells = lattice.cells
        self._rows = max(1, CHUNK_BYTES // self._cells)
        self._chunks: list[Counts | None] = [None] * -(-positions // self._rows)
        self._bytes = 0
        self._scratch: NDArray[np.int32] = np.zeros((0, self._cells), np.int32)
        self._numbers: NDArray[np.int64] = np.zeros(0, np.int64)
        self.origin: tuple[int, int] | None = None
        """The middle cell; what is kept lies about it."""
        self.origins: set[tuple[int, int]] = set()
        """Middle cells of all the parts that this was put together from."""

    @property
    def bytes(self) -> int:
        """Memory that the counts take."""
        return self._bytes

    def place(self, center: tuple[float, float]) -> None:
        """Keep the cells about this place on the detector from now on; only once."""
        origin = self.lattice.cell_at(center)
        self.origin = origin
        self.origins.add(origin)

    @property
    def _table(self) -> GridTable:
        if self._made_table is None:
            assert self.origin is not None
            middle = self.lattice.middle(self.origin)
            self._made_table = grid_table(
                self.lattice.grid, self._shape, middle, float(self.lattice.bin),
                masked=self._masked(),
            )  # fmt: skip
        return self._made_table

    def _squares(self, block: FrameBlock) -> bool:
        """Bin the block in the quick way, if that is possible."""
        if self._made_squares is None:
            assert self.origin is not None
            squares = Squares.of(self.lattice, self.origin, self._shape, self._masked())
            self._made_squares = squares or False
        return bool(self._made_squares and self._made_squares.add_frames(block, self._scratch))

    def add(self, block: Block, acceptance_ns: float) -> None:
        """Add a block's patterns, or its hits that come before the acceptance time (0: all)."""
        count = block.count
        if not count:
            return
        probe = block.probe[:count]
        low, high = int(probe.min()), int(probe.max())
        if high < 0:
            return
        if not isinstance(block, EventBlock):
            if self._numbers.size < count:
                self._numbers = np.arange(count)
                self._scratch = np.zeros((count, self._cells), np.int32)
            numbers = self._numbers[:count]
            shift = 0 if self._squares(block) else SHARE_BITS
            if shift and self._table.add_frames(block, numbers, self._scratch, numbers):
                raise StemdError(
                    "a pattern has more than 33 million counts in one bright-field cell",
                    "leave the engines ssb and direct out, or record with less dose",
                )
        for number in range(max(0, low) // self._rows, high // self._rows + 1):
            begin = 0
            while True:
                chunk = self._chunk(number)
                first, most = number * self._rows, np.iinfo(chunk.dtype).max
                if isinstance(block, EventBlock):
                    begin = keep_hits(
                        block.probe, block.yx, block.dwell_ns, count, acceptance_ns,
                        self._shape[1], self._table.first, self._table.target, first, most, chunk,
                        begin,
                    )  # fmt: skip
                else:
                    begin = keep_binned(self._scratch, shift, probe, first, most, chunk, begin)
                if begin >= count:
                    break
                self._widen(number)

    def images(self, columns: slice, positions: int) -> F32:
        """Counts of some cells at the first `positions` positions, float32 (cells, positions)."""
        count = len(range(*columns.indices(self._cells)))
        out = np.zeros((count, positions), np.float32)
        for number, chunk in enumerate(self._chunks):
            first = number * self._rows
            if first >= positions:
                break
            if chunk is not None:
                rows = min(self._rows, positions - first)
                out[:, first : first + rows] = chunk[:rows, columns].T
        return out

    def counts(self, first: int, stop: int) -> F32:
        """Counts of all kept cells at positions first..stop-1, float32 (positions, cells)."""
        out = np.zeros((stop - first, self._cells), np.float32)
        for number in range(first // self._rows, -(-stop // self._rows)):
            chunk, begin = self._chunks[number], number * self._rows
            if chunk is not None:
                low, high = max(first, begin), min(stop, begin + self._rows)
                out[low - first : high - first] = chunk[low - begin : high - begin]
        return out

    def places(self) -> F64:
        """Middles (cells, 2) of the cells in detector pixels, y and x.

        NaN for cells that are not wholly on the detector, or of which half is masked.
        """
        assert self.origin is not None
        places = self.lattice.grid.vectors * self.lattice.bin + self.lattice.middle(self.origin)
        table = self._table
        places[(table.coverage < 0.999) | (table.lost > MOST_LOST)] = np.nan
        return np.asarray(places)

    def covers(self, center: tuple[float, float], radius: float) -> bool:
        """Whether a disc, in detector pixels, was kept of every pattern."""
        reach = self.lattice.half * self.lattice.bin
        return all(
            math.dist(center, self.lattice.middle(origin)) + radius <= reach
            for origin in self.origins
        )

    def merge(self, other: BrightField) -> None:
        """Add the counts of another part of the scan, of the same lattice."""
        if other.origin is None:
            return
        if self.origin is None:
            self.place(self.lattice.middle(other.origin))
        assert self.origin is not None
        self.origins |= other.origins
        mine, theirs = shared_cells(self.lattice, self.origin, other.origin)
        for number, chunk in enumerate(other._chunks):
            if chunk is None:
                continue
            if self.origin == other.origin and self._chunks[number] is None:
                self._set(number, chunk)
                continue
            total = self._chunk(number).astype(np.int64)
            total[:, mine] += chunk[:, theirs]
            self._set(number, _smallest(total, self._chunk(number).dtype))

    def gathered(self) -> Gathered:
        """`low`, `counts` (positions, cells) from there on, `origins` (n, 2), the own one first."""
        used = [number for number, chunk in enumerate(self._chunks) if chunk is not None]
        if self.origin is None or not used:
            return {}
        low, high = used[0] * self._rows, min(self._positions, (used[-1] + 1) * self._rows)
        kinds = [chunk.dtype for chunk in self._chunks if chunk is not None]
        counts = np.zeros((high - low, self._cells), np.result_type(*kinds))
        for number in used:
            chunk = self._chunks[number]
            assert chunk is not None
            counts[number * self._rows - low :][: chunk.shape[0]] = chunk
        touched = np.flatnonzero(counts.any(axis=1))
        first, last = (int(touched[0]), int(touched[-1]) + 1) if touched.size else (0, 0)
        origins = [self.origin, *sorted(self.origins - {self.origin})]
        return {
            "low": np.array([low + first]),
            "counts": counts[first:last],
            "origins": np.array(origins, np.int64),
        }

    def restore(self, gathered: Gathered) -> None:
        """Take over what `gathered` has given."""
        if not gathered:
            return
        origins = [(int(y), int(x)) for y, x in gathered["origins"]]
        self.place(self.lattice.middle(origins[0]))
        self.origins = set(origins)
        counts, low = gathered["counts"], int(gathered["low"][0])
        row = 0
        while row < len(counts):
            number, within = divmod(low + row, self._rows)
            rows = min(self._rows - within, len(counts) - row)
            chunk = np.zeros(self._chunk_shape(number), counts.dtype)
            chunk[within : within + rows] = counts[row : row + rows]
            self._set(number, chunk)
            row += rows

    def _chunk_shape(self, number: int) -> tuple[int, int]:
        return min(self._rows, self._positions - number * self._rows), self._cells

    def _chunk(self, number: int) -> Counts:
        chunk = self._chunks[number]
        if chunk is None:
            chunk = np.zeros(self._chunk_shape(number), np.uint8)
            self._set(number, chunk)
        return chunk

    def _widen(self, number: int) -> None:
        chunk = self._chunk(number)
        self._set(number, chunk.astype(WIDER[chunk.dtype.itemsize]))

    def _set(self, number: int, chunk: Counts) -> None:
        before = self._chunks[number]
        bytes_now = self._bytes + chunk.nbytes - (0 if before is None else before.nbytes)
        if bytes_now > self._most:
            raise StemdError(
                f"the bright-field patterns of this scan take more than {self._most / 1e6:.0f} MB",
                "raise memory_mb of the engine (ssb, direct), or lower its pixels_per_angle",
            )
        self._chunks[number] = chunk
        self._bytes = bytes_now


def moments(block: Block, acceptance_ns: float, masked: Mask | None = None) -> NDArray[np.float64]:
    """Counts of a block, and their first moments y and x in detector pixels, (3,)."""
    used = block.probe[: block.count] >= 0
    if isinstance(block, EventBlock):
        if acceptance_ns > 0.0:
            used = used & (block.dwell_ns[: block.count] < acceptance_ns)
        y, x = block.y[used].sum(dtype=np.int64), block.x[used].sum(dtype=np.int64)
        return np.array([np.count_nonzero(used), y, x], np.float64)
    image = block.patterns()[used].sum(axis=0, dtype=np.float64)
    if masked is not None:
        image[masked] = 0.0
    rows, columns = np.arange(image.shape[0]), np.arange(image.shape[1])
    return np.array([image.sum(), image.sum(axis=1) @ rows, image.sum(axis=0) @ columns])


def _smallest(counts: NDArray[np.int64], at_least: np.dtype[np.unsignedinteger]) -> Counts:
    """Counts in the smallest type that holds them, `at_least` this one."""
    kind = np.min_scalar_type(int(counts.max(initial=0)))
    return counts.astype(np.promote_types(kind, at_least))
