"""Which patterns make up the groups of a scan line: nine boxes of m x m positions each.

With m = 1 a group is a position and its eight neighbours. "Data repetition" (thesis section
4.3.1) takes the sum of an m x m box in the place of each pattern and neighbours m steps apart:
fewer positions in effect, each of m^2 times the dose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.engines.airpi.scan_lines import Reach, ScanLines
from stemd.engines.kernels.boxes import box_patterns

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Boxes of `repetition` x `repetition` positions about every `every`-th position and line.

    Of `nx` columns those with column % every == every // 2 are made, so that boxes as large as
    `every` tile the scan; lines likewise.
    """

    nx: int
    repetition: int
    every: int

    @property
    def reach(self) -> Reach:
        """Lines into which a line's boxes reach."""
        m = self.repetition
        return Reach(m + m // 2, 2 * m - m // 2 - 1)

    def makes(self, line: int) -> bool:
        """Whether groups of this line are made."""
        return line % self.every == self.every // 2

    @property
    def columns(self) -> I64:
        """Columns that are made."""
        return np.arange(self.every // 2, self.nx, self.every)

    @property
    def shift(self) -> float:
        """What must be added to line and column of a group for the middle of its boxes."""
        return (self.repetition - 1) / 2 - self.repetition // 2

    def boxes(self) -> tuple[I64, I64]:
        """First columns of all boxes in a line, and for each group its three: (c,), (n, 3)."""
        m = self.repetition
        wanted = self.columns[:, None] + np.array([-m, 0, m])
        middle, index = np.unique(wanted, return_inverse=True)
        return middle - m // 2, index.reshape(wanted.shape).astype(np.int64)

    def patterns(self, lines: ScanLines, line: int, scale: float, out: F32) -> tuple[I64, I64]:
        """The patterns of a line's groups. Writes them to `out`, (3 c, K); see `box_patterns`.

        Returns the groups, (n, 9) indices of patterns, row by row, and which of `columns` they
        belong to, (n,). Where a box has no pattern the middle one's stands for it; there is no
        group where the middle one has none.
        """
        m = self.repetition
        first_columns, three = self.boxes()
        c = first_columns.size
        present = np.empty((3, c), np.int64)
        for row in range(3):
            slots = lines.slots(line + (row - 1) * m - m // 2, m)
            box_patterns(
                lines.counts, lines.done, slots, first_columns, scale,
                out[row * c : (row + 1) * c], present[row],
            )  # fmt: skip
        groups = (np.arange(3)[:, None] * c + three[:, None, :]).reshape(-1, 9)
        there = present.reshape(-1)[groups] > 0
        groups = np.where(there, groups, groups[:, 4:5])
        kept = np.flatnonzero(there[:, 4])
        return groups[kept], kept

    @property
    def most_patterns(self) -> int:
        """Rows that `patterns` may write."""
        return 3 * int(self.boxes()[0].size)
