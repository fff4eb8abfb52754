"""Where the pixels of a detector's chips lie in its pattern."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Coordinates = NDArray[np.int64]

MASKED = 0xFFFFFFFF
"""The place of a pixel that is not to be counted."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How chips form the detector: "single", "quad" (2 x 2, as SERVAL numbers them) or "row".

    `gap` pixels lie between the chips of a quad: 0, 2 (ASI) or 4. A row has `count` chips.
    """

    name: str
    gap: int = 0
    count: int = 1

    @property
    def chips(self) -> int:
        """Number of chips."""
        return {"quad": 4, "row": self.count}.get(self.name, 1)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        if self.name == "quad":
            return 512 + self.gap, 512 + self.gap
        return 256, 256 * self.chips

    def place(self, chip: ArrayLike, y: ArrayLike, x: ArrayLike) -> tuple[Coordinates, Coordinates]:
        """Detector (y, x) of chip coordinates; in a quad chips 1 and 2 stand upside down, below."""
        number, row, column = np.broadcast_arrays(
            np.asarray(chip, np.int64), np.asarray(y, np.int64), np.asarray(x, np.int64)
        )
        if self.name != "quad":
            return row.copy(), column + 256 * number
        right = 256 + self.gap
        low = (number == 1) | (number == 2)
        return (
            np.where(low, 511 + self.gap - row, row),
            np.choose(number, [column + right, 255 - column + right, 255 - column, column]),
        )

    def chip_coordinates(
        self, y: ArrayLike, x: ArrayLike
    ) -> tuple[Coordinates, Coordinates, Coordinates]:
        """(chip, y, x on the chip) of detector pixels; chip -1 for pixels in the gap."""
        row, column = np.asarray(y, np.int64), np.asarray(x, np.int64)
        if self.name != "quad":
            return column // 256, row, column % 256
        right, low = column >= 256 + self.gap, row >= 256 + self.gap
        in_gap = (~right & (column > 255)) | (~low & (row > 255))
        chip = np.where(low, np.where(right, 1, 2), np.where(right, 0, 3))
        column = np.where(right, column - 256 - self.gap, column)
        column = np.where(low, 255 - column, column)
        row = np.where(low, 511 + self.gap - row, row)
        return np.where(in_gap, -1, chip), row, column

    def orientation(self) -> NDArray[np.int64]:
        """(chips, 4): flip of y, first y, flip of x, first x; y = (chip y ^ flip) + first."""
        chip = np.arange(self.chips)
        y0, x0 = self.place(chip, 0, 0)
        y1, x1 = self.place(chip, 255, 255)
        flips = np.where(y1 < y0, 255, 0), np.where(x1 < x0, 255, 0)
        made = np.stack([flips[0], np.minimum(y0, y1), flips[1], np.minimum(x0, x1)], axis=1)
        return np.ascontiguousarray(made)

    def table(
        self, y: Coordinates, x: Coordinates, masked: Iterable[tuple[int, int]] = ()
    ) -> NDArray[np.uint32]:
        """y << 16 | x on the detector of chip coordinates (65536 each), chip after chip."""
        chip = np.arange(self.chips)[:, np.newaxis]
        row, column = self.place(chip, y, x)
        table = (row << 16 | column).astype(np.uint32).ravel()
        hidden = [y << 16 | x for y, x in masked]
        table[np.isin(table, np.array(hidden, np.uint32))] = MASKED
        return table
