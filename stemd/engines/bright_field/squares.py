"""The quick way to bin patterns: squares of whole pixels, all on the detector, none masked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.blocks import FrameBlock
from stemd.engines.bright_field.lattice import Lattice
from stemd.engines.kernels.squares import bin_squares
from stemd.engines.whole_counts import whole_counts
from stemd.pixels import Mask

I64 = NDArray[np.int64]
KINDS = {"u1": 1, "u2": 2}
"""Pixels that are binned so, and their bytes: sums of them fit into 32 bits."""
WIDEST = 128


@dataclass(frozen=True, slots=True)
class Squares:
    """Cells of a lattice row by row: `left` column and `number` of each row's squares, and which
    cell is the `first`; `top` row; all in detector pixels but the last two."""

    bin: int
    top: int
    width: int
    left: I64
    first: I64
    number: I64

    @classmethod
    def of(
        cls, lattice: Lattice, origin: tuple[int, int], shape: tuple[int, int], masked: Mask | None
    ) -> Squares | None:
        """For the cells about this middle one; None where some are cut or have masked pixels."""
        grid, wide = lattice.grid, lattice.bin
        top, left = ((middle - lattice.half) * wide for middle in origin)
        span = grid.side * wide
        if min(top, left) < 0 or top + span > shape[0] or left + span > shape[1] or wide > WIDEST:
            return None
        if masked is not None and masked[top : top + span, left : left + span].any():
            return None
        rows, columns = np.divmod(grid.members, grid.side)
        number = np.bincount(rows, minlength=grid.side)
        first = np.cumsum(number) - number
        return cls(wide, top, shape[1], left + columns[first] * wide, first, number)

    def add_frames(self, block: FrameBlock, out: NDArray[np.int32]) -> bool:
        """Write counts of the block's patterns to out (n, cells); False: not of such pixels."""
        block = whole_counts(block)
        size = KINDS.get(block.dtype)
        if size is None or block.pixel_offset % size or block.stride % size:
            return False
        pixels = block.pixels[: block.pixels.size // size * size].view(block.dtype)
        bin_squares(
            pixels, block.big_endian and size > 1, block.pixel_offset // size
            + self.top * self.width, block.stride // size, self.width, block.count, self.bin,
            self.left, self.first, self.number, out,
        )  # fmt: skip
        return True
